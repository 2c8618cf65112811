"""Which versions of which objects a verifier reads in a bucket that keeps versions, and which reads showed something unlisted.

A key should have one version. Where it has several, or where a delete marker hides it, the oldest version is what was stored first,
so that one is read and listed. What a plain read shows has to be what the listing of versions saw: anything stored since shortly
before that listing is compared, and noted if it is another version.

Invariants: memory grows with what is wrong and with what is written meanwhile, never with the store, and both are bounded. It is used
by several threads: each entry is written once. This module must not ask a store.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from ..errors import FormatError
from ..trail.layout import parse_seal_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from ..trail.layout import Origin

MAX_PINS: Final = 100_000
MAX_UNLISTED: Final = 100_000
RECENT: Final = timedelta(seconds=60)
"""By how much the clocks of one store's servers may differ."""


class Pin(NamedTuple):
    """The version of a key that is read.

    Attributes:
        version: Its id.
        size: Its size in bytes.
        modified: When it was stored, in seconds since 1970 by the store's clock.
        hidden: Whether a plain listing leaves the key out.
    """

    version: str
    size: int
    modified: float
    hidden: bool


class Pins:
    """What is known of a bucket's versions.

    Attributes:
        unlisted: The keys of which a read showed a version that the listing did not have.
        overflowed: Whether there were more of those than are kept.
    """

    def __init__(self) -> None:
        """Know nothing: every read is a plain one."""
        self.unlisted: dict[str, str | None] = {}
        self.overflowed = False
        self._pins: dict[str, Pin] = {}
        self._hidden_seals: dict[Origin, list[int]] = defaultdict(list)
        self._recent: dict[str, str] = {}
        self._since: datetime | None = None

    def listed_at(self, moment: datetime) -> None:
        """Watch reads from now on: versions are listed from this moment on, by the store's clock."""
        self._since = moment - RECENT

    def pin(self, key: str, pin: Pin) -> None:
        """Read a key in this version, and list it; beyond a bound nothing is pinned, and the key is as the store shows it."""
        if len(self._pins) >= MAX_PINS:
            return
        self._pins[key] = pin
        if pin.hidden:
            try:
                origin, batch = parse_seal_key(key)
            except FormatError:
                return
            self._hidden_seals[origin].append(batch)

    def get(self, key: str) -> Pin | None:
        """Return what is pinned of a key, if anything."""
        return self._pins.get(key)

    def found(self, key: str, version: str, modified: datetime) -> None:
        """Note that a key's only version was listed; beyond a bound it is looked at again when it was read."""
        if self._since is not None and modified >= self._since and len(self._recent) < MAX_UNLISTED:
            self._recent[key] = version

    def listed_version(self, key: str) -> str | None:
        """Return the version in which a young key was listed; None for all others."""
        return self._recent.get(key)

    def saw(self, key: str, version: str | None, modified: datetime) -> None:
        """Note in which version a plain read showed a key.

        A version that is older than the listing was there when versions were listed, and would have been seen beside another.
        """
        if self._since is None or modified < self._since or self._recent.get(key) == version:
            return
        if len(self.unlisted) < MAX_UNLISTED:
            self.unlisted[key] = version
        else:
            self.overflowed = True

    def hidden_origins(self) -> list[Origin]:
        """Return the trails of which at least one seal is hidden, sorted."""
        return sorted(self._hidden_seals, key=str)

    def hidden_seals(self, origin: Origin) -> list[int]:
        """Return the numbers of a trail's hidden seals, sorted."""
        return sorted(self._hidden_seals.get(origin, ()))

    def hidden(self, prefix: str) -> Iterator[tuple[str, Pin]]:
        """Yield the hidden objects below a folder; all of them when it is empty."""
        for key, pin in self._pins.items():
            if pin.hidden and (not prefix or key.startswith(f"{prefix}/")):
                yield key, pin
