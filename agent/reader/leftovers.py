"""Objects that no seal names: in flight, left behind, or foreign.

Invariants: whether the sealed data keys are all the stored ones is decided by comparing keyed sums, in memory that does not grow
with the trail; only when they differ are the seals of that epoch read once more, 8 bytes a key. This module must not read data.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from ..errors import FormatError
from ..trail.layout import Origin, is_probe_key, parse_data_key, parse_seal_key, seal_key
from ..trail.manifest import ContinuesWhy
from ..trail.seal import parse_seal
from .fetch import RECORDS
from .findings import Code, Finding
from .trustfile import MAX_SEAL_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from .fetch import ObjectInfo, StoreReader
    from .findings import FindingLog
    from .links import Claim
    from .tally import Tally

IN_FLIGHT_SECONDS: Final = 600.0
COSIGNATURE: Final = re.compile(r"(trails/.+/[0-9]{12})\.cosig\.[0-9a-f]{8}")

Epoch = tuple[str, str, str]


class Marker:
    """Turns object keys into 64-bit numbers that nobody without the secret can predict, and so cannot make collide in a sum."""

    def __init__(self, secret: bytes) -> None:
        """Use this secret, at least 16 random bytes of this run."""
        self._secret = secret

    def __call__(self, key: str) -> int:
        """Return the number of one key."""
        return int.from_bytes(blake2b(key.encode(), key=self._secret, digest_size=8).digest(), "big")


@dataclass(slots=True)
class _Stored:
    count: int = 0
    total: int = 0


class Leftovers:
    """Finds what lies in a store beside its trails."""

    def __init__(
        self,
        store: StoreReader,
        log: FindingLog,
        *,
        mark: Marker,
        now_seconds: Callable[[], float],
        selected: Sequence[Origin],
        narrowed: bool,
    ) -> None:
        """Prepare.

        Args:
            store: The store.
            log: Where findings go.
            mark: The same marker that the walks used.
            now_seconds: The verifier's clock, seconds since 1970.
            selected: The trails that were walked.
            narrowed: Whether others were left out on purpose; objects of those are then left alone.
        """
        self._store, self._log, self._mark = store, log, mark
        self._now, self._narrowed = now_seconds, narrowed
        self._trails: dict[Epoch, list[Origin]] = defaultdict(list)
        for origin in selected:
            self._trails[origin.namespace, origin.service, origin.epoch].append(origin)

    def check(self, tallies: Mapping[str, Tally], successors: Mapping[str, Claim]) -> None:
        """Go through the whole listing once, and report what no seal names.

        Args:
            tallies: What each walk counted, by origin.
            successors: By origin, the claim that continues it.
        """
        stored: dict[Epoch, _Stored] = defaultdict(_Stored)
        for info, epoch in self._data_objects(report_foreign=True):
            stored[epoch].count += 1
            stored[epoch].total += self._mark(info.key)
        odd = {epoch for epoch, found in stored.items() if not self._agrees(epoch, found, tallies)}
        if not odd:
            return
        sealed = {epoch: self._sealed_marks(epoch) for epoch in odd}
        for info, epoch in self._data_objects(report_foreign=False):
            if epoch in odd and not _has(sealed[epoch], self._mark(info.key)):
                heads = [tallies[str(origin)].head for origin in self._trails.get(epoch, ())]
                size = max((head.seq + 1 for head in heads if head is not None), default=0)
                self._report_unsealed(info, epoch, size, successors)

    def _agrees(self, epoch: Epoch, found: _Stored, tallies: Mapping[str, Tally]) -> bool:
        mine = [tallies[str(origin)] for origin in self._trails.get(epoch, ())]
        return found.count == sum(tally.sealed_keys for tally in mine) and found.total == sum(tally.sealed_sum for tally in mine)

    def _data_objects(self, *, report_foreign: bool) -> Iterator[tuple[ObjectInfo, Epoch]]:
        for info in self._store.objects("" if report_foreign and not self._narrowed else RECORDS):
            try:
                key = parse_data_key(info.key)
            except FormatError:
                if report_foreign and not self._narrowed and not _belongs(info.key):
                    self._log.add(Finding(code=Code.FOREIGN_OBJECT, message=f"{info.key} belongs to no trail", key=info.key))
                continue
            epoch = (key.namespace, key.service, key.epoch)
            if epoch in self._trails or not self._narrowed:
                yield info, epoch

    def _sealed_marks(self, epoch: Epoch) -> array[int]:
        marks = array("Q")
        for origin in self._trails.get(epoch, ()):
            for batch in self._store.seals(origin):
                raw = self._store.read(seal_key(origin, batch), MAX_SEAL_BYTES)
                try:
                    data = parse_seal(raw or b"").manifest.data
                except FormatError:
                    continue
                if data is not None:
                    marks.append(self._mark(data.key))
        return array("Q", sorted(marks))

    def _report_unsealed(self, info: ObjectInfo, epoch: Epoch, size: int, successors: Mapping[str, Claim]) -> None:
        origins = [str(origin) for origin in self._trails.get(epoch, ())]
        forked = any(name in successors and successors[name].link.why is ContinuesWhy.FORK for name in origins)
        age = self._now() - info.modified
        whose = f"of epoch {epoch[2]}" if origins else f"of epoch {epoch[2]}, which has no trail here,"
        first_seq = parse_data_key(info.key).first_seq
        # Seals are written in order, so only an object behind the head can still be waiting for its own.
        # One dated far ahead would be in flight for ever: whoever writes to a store sets its times.
        if abs(age) < IN_FLIGHT_SECONDS and first_seq >= size:
            code, message = Code.DATA_IN_FLIGHT, f"a data object {whose} waits for its seal"
        elif forked:
            code, message = Code.FORK_REMAINS, f"a data object {whose} was left behind by a fork"
        else:
            when = f"{abs(age) / 60:.0f} minutes {'ago' if age >= 0 else 'ahead of this clock'}"
            code, message = Code.DATA_UNSEALED, f"a data object {whose} from seq {first_seq} on, stored {when}, has no seal"
        self._log.add(Finding(code=code, message=message, origin=origins[0] if origins else None, key=info.key))


def _has(marks: array[int], mark: int) -> bool:
    at = bisect_left(marks, mark)
    return at < len(marks) and marks[at] == mark


def _belongs(key: str) -> bool:
    """Tell whether a key is that of a seal, of a cosignature beside one, or of the probe with which an agent examines a store."""
    if is_probe_key(key):
        return True
    found = COSIGNATURE.fullmatch(key)
    try:
        parse_seal_key(f"{found[1]}.seal" if found else key)
    except FormatError:
        return False
    return True
