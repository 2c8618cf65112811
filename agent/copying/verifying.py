"""The verification that ends a copying: what lies in the target is read again, and judged by `agent.reader`.

Invariants: every epoch of an instance that was copied is judged, also those that the target alone has, because how a trail ends depends
on the one that continues it; the trails of other instances are left alone. This module must not judge anything by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..reader.links import instance_of
from ..reader.retention import Unattested
from ..reader.trustfile import TrustFile, matches_origin
from ..reader.verify import Options, verify_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from ..reader.fetch import ObjectInfo, StoreReader
    from ..reader.verify import Report
    from ..trail.layout import Origin

NOT_LOOKED_AT: Final = "copying does not look at them: `trailseal verify` does"
_ALL: Final = "*/*/*/*"


class _Instances:
    """A `StoreReader` that shows only the trails of some instances, and those that were left out on purpose."""

    def __init__(self, store: StoreReader, copied: Iterable[Origin], origin_glob: str | None) -> None:
        self.name = store.name
        self._store, self._glob = store, origin_glob
        self._instances = {instance_of(origin) for origin in copied}

    def origins(self) -> Iterator[Origin]:
        for origin in self._store.origins():
            # One that the pattern leaves out is not verified, but a link to it is then no link into nothing.
            left_out = self._glob is not None and not matches_origin(self._glob, str(origin))
            if left_out or instance_of(origin) in self._instances:
                yield origin

    def seals(self, origin: Origin) -> Iterator[int]:
        return self._store.seals(origin)

    def objects(self, prefix: str) -> Iterator[ObjectInfo]:
        return self._store.objects(prefix)

    def read(self, key: str, limit_bytes: int) -> bytes | None:
        return self._store.read(key, limit_bytes)


def verify_copy(
    target: StoreReader,
    copied: Iterable[Origin],
    *,
    trust: TrustFile | None,
    origin_glob: str | None,
    now: datetime,
    advance: Callable[[int], None] = lambda _: None,
    elapsed_seconds: Callable[[], float] = lambda: 0.0,
) -> Report:
    """Verify in the target what was copied.

    Args:
        target: The store.
        copied: The trails.
        trust: Whom to believe; None to believe nobody, so that the verdict is "not verified" at best.
        origin_glob: The pattern with which was copied, if any.
        now: The clock when this begins, aware, in UTC.
        advance: Called with the number of bytes read.
        elapsed_seconds: Returns how long ago ``now`` was.
    """
    # A pattern also says that what belongs to other trails is to be left alone.
    options = Options(trust=trust or TrustFile(), origin_glob=origin_glob or _ALL)
    shown = _Instances(target, copied, origin_glob)
    attester = Unattested(NOT_LOOKED_AT)
    return verify_store(shown, options, now=now, advance=advance, elapsed_seconds=elapsed_seconds, attester=attester)
