"""Find the newest seal of every instance, quickly, in a store of any size.

Seals are numbered without holes, so the newest is found by asking for numbers: in steps that double, then by halves. Where a seal in
the middle is missing, an older one may be taken for the newest, which is reported as silence: an alarm, and a true one.

An instance's newest epoch is the one whose name says so, as far as the store agrees: an epoch cannot have begun after its first seal
was stored, whatever date an agent gave it.

Invariants: what has been seen is asked for no more (an epoch's instance, its key, what came before its newest seal so far, a closed
trail as long as its folder is there); a signature that cannot be checked is no sign of life, nor is a seal under another number than its
own; what cannot be read, for whatever reason, is said and never left out. This module must not judge times.
"""

from __future__ import annotations

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ...errors import FormatError, NotVerifiedError, ProofError
from ...trail.layout import Origin, seal_key
from ...trail.manifest import ManifestReason
from ...trail.note import VerifierKey
from ...trail.seal import open_seal, parse_seal
from ...trail.ulid import ulid_milliseconds
from ..fetch import TRAILS
from ..trustfile import MAX_SEAL_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ...trail.manifest import Manifest
    from ...trail.seal import Seal
    from ..fetch import StoreProber
    from ..trustfile import TrustFile

AT_ONCE: Final = 16
"""How many requests hide each other's way to the store and back."""
Instance = tuple[str, str, str]
"""Namespace, service, instance."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen of an instance's newest epoch.

    Attributes:
        origin: The trail.
        batch: The number of its newest seal; -1 where there is none.
        head: That seal's manifest; None where it cannot be believed.
        stored_at: When it was stored, in seconds since 1970 by the store's clock; None where there is none.
        forged: Why the seal is not one of this trail's; empty if it is.
        unknown: Why nobody vouches for it, or why it could not be read; empty if it is in order.
        looked_at: When it was looked at, in seconds since 1970; None if no clock was given.
    """

    origin: Origin
    batch: int = -1
    head: Manifest | None = None
    stored_at: float | None = None
    forged: str = ""
    unknown: str = ""
    looked_at: float | None = None

    @property
    def instance(self) -> Instance:
        """Whose trail it is, whatever the epoch."""
        return (self.origin.namespace, self.origin.service, self.origin.instance)

    @property
    def closed(self) -> bool:
        """Whether nothing more will come."""
        return self.head is not None and self.head.reason is ManifestReason.CLOSE and not self.forged and not self.unknown


class _GoneError(NotVerifiedError):
    """A seal was there and is not any more."""

    def __init__(self, batch: int) -> None:
        """Name the batch."""
        super().__init__(f"the seal of batch {batch} was there and is not any more")


class Newest:
    """Look at a store again and again.

    Attributes:
        store: What is looked at; its methods are called by several threads. May be replaced between looks by the same store,
            opened anew.
        unreadable: Whether something in it could not be read in the newest look.
    """

    def __init__(self, store: StoreProber, trust: TrustFile | None, clock: Callable[[], float] | None = None) -> None:
        """Know nothing yet.

        Args:
            store: See above.
            trust: Whom to believe; None to believe the key that each trail names itself.
            clock: Returns the seconds since 1970; a look at many trails takes long, and each counts from when it was looked at.
        """
        self.store = store
        self.unreadable = False
        self._trust = trust
        self._clock = clock
        self._origins: dict[str, tuple[Origin, ...]] = {}
        self._sights: dict[Origin, Sight] = {}
        self._keys: dict[Origin, VerifierKey] = {}
        self._begun: dict[Origin, float] = {}

    def look(self, advance: Callable[[int, int], object] = lambda _done, _all: None) -> list[Sight]:
        """Return what there is of every instance, sorted.

        Args:
            advance: Told how many trails were looked at, and of how many.

        Raises:
            NotVerifiedError: The store cannot be listed.
        """
        self.unreadable = False
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="watch") as pool:
            epochs: dict[Instance, list[Origin]] = defaultdict(list)
            there: set[Origin] = set()
            for origins in pool.map(self._origins_in, list(self._epochs())):
                there.update(origins)
                for origin in origins:
                    epochs[origin.namespace, origin.service, origin.instance].append(origin)
            several = [origin for origins in epochs.values() if len(origins) > 1 for origin in origins]
            begun = dict(zip(several, pool.map(self._began, several), strict=True))
            newest = {instance: max(origins, key=lambda one: (begun.get(one, 0.0), one.epoch)) for instance, origins in epochs.items()}
            for sight in self._sights.values():
                # What was there and is not any more is no less expected than before.
                newest.setdefault(sight.instance, sight.origin)
            wanted = [newest[instance] for instance in sorted(newest)]
            sights = []
            for sight in pool.map(lambda origin: self._sight(origin, listed=origin in there), wanted):
                sights.append(sight)
                advance(len(sights), len(wanted))
        self._sights = {sight.origin: sight for sight in sights}
        return sights

    def _epochs(self) -> Iterator[str]:
        for namespace in self.store.folders(TRAILS):
            for service in self.store.folders(f"{TRAILS}/{namespace}"):
                for epoch in self.store.folders(f"{TRAILS}/{namespace}/{service}"):
                    yield f"{namespace}/{service}/{epoch}"

    def _origins_in(self, epoch: str) -> tuple[Origin, ...]:
        """Return the trails of an epoch: one, and the same one for ever."""
        if epoch not in self._origins:
            found = []
            for instance in self.store.folders(f"{TRAILS}/{epoch}"):
                try:
                    found.append(Origin.parse(f"{epoch}/{instance}"))
                except FormatError:
                    continue  # A folder of somebody else's; `verify` reports it.
            if not found:
                return ()
            self._origins[epoch] = tuple(found)
        return self._origins[epoch]

    def _began(self, origin: Origin) -> float:
        """Return when an epoch began, in seconds since 1970: when it says, but not after its first seal was stored."""
        if origin not in self._begun:
            said = ulid_milliseconds(origin.epoch) / 1000
            try:
                stored = self.store.stored_at(seal_key(origin, 0))
            except NotVerifiedError:
                self.unreadable = True
                return said
            self._begun[origin] = said if stored is None else min(said, stored)
        return self._begun[origin]

    def _sight(self, origin: Origin, *, listed: bool) -> Sight:
        before = self._sights.get(origin)
        try:
            # Nothing comes after a close, so its folder is enough: those who ended pile up, and asking for each would never end.
            sight = before if before is not None and before.closed and listed else self._look_at(origin, before)
        except NotVerifiedError as error:
            self.unreadable = self.unreadable or not isinstance(error, _GoneError)
            sight = replace(before or Sight(origin), unknown=f"it cannot be read: {error.message}")
        except Exception as error:  # noqa: BLE001 -- one trail must not hide all others, and what was not checked must not pass
            sight = replace(before or Sight(origin), unknown=f"a check failed: {type(error).__name__}: {error}")
        return sight if self._clock is None else replace(sight, looked_at=self._clock())

    def _look_at(self, origin: Origin, before: Sight | None) -> Sight:
        known = -1 if before is None else before.batch
        if known >= 0 and not self._is_there(origin, known):
            raise _GoneError(known)
        if before is not None and before.closed:
            return before
        batch = self._last_number(origin, known)
        if batch < 0:
            return Sight(origin)
        if before is not None and batch == known and not before.forged and not before.unknown:
            return before
        raw = self.store.read(seal_key(origin, batch), MAX_SEAL_BYTES)
        stored_at = self.store.stored_at(seal_key(origin, batch))
        if raw is None:
            raise _GoneError(batch)
        try:
            seal = parse_seal(raw)
            if seal.manifest.batch != batch:
                raise ProofError(f"it is the seal of batch {seal.manifest.batch}, stored once more under the number {batch}")
            head, forged, unknown = seal.manifest, "", self._doubt(origin, seal)
        except (FormatError, ProofError) as error:
            head, forged, unknown = None, f"the newest seal is not one of this trail's: {error.message}", ""
        return Sight(origin, batch, head, stored_at, forged, unknown)

    def _doubt(self, origin: Origin, seal: Seal) -> str:
        """Return why nobody vouches for a seal; nothing if somebody does.

        Raises:
            FormatError: The trail's first seal is none.
            ProofError: The seal was not made by the hand that made the first one.
        """
        key = self._keys.get(origin)
        if key is None:
            raw = self.store.read(seal_key(origin, 0), MAX_SEAL_BYTES)
            if raw is None:
                return "the trail's first seal is missing, so nothing binds a key to it"
            first = parse_seal(raw)
            if not isinstance(first.manifest.key, str):
                raise FormatError("the trail's first seal is another one's: it names no key")
            key = VerifierKey.parse(first.manifest.key)
            trusted = () if self._trust is None else self._trust.keys_for(str(origin))
            _, signed = open_seal(first, str(origin), (key, *(one for one in trusted if one != key)))
            if key not in signed:
                raise ProofError("the trail's first seal is not signed with the key that it names")
            if self._trust is not None and not signed.intersection(trusted):
                return f"nothing in the trust file vouches for the key {key}"
            self._keys[origin] = key
        _, signed = open_seal(seal, str(origin), (key,))
        if key not in signed:
            raise ProofError("it is not signed with the trail's key")
        return ""

    def _last_number(self, origin: Origin, known: int) -> int:
        """Return the number of the newest seal; `known` is one that is there, -1 for none."""
        low, step = known, 1
        while self._is_there(origin, low + step):
            low += step
            step *= 2
        high = low + step
        # `low` is there (or -1), `high` is not.
        while high - low > 1:
            middle = (low + high) // 2
            if self._is_there(origin, middle):
                low = middle
            else:
                high = middle
        return low

    def _is_there(self, origin: Origin, batch: int) -> bool:
        return self.store.stored_at(seal_key(origin, batch)) is not None
