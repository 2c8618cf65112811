"""Find a request's records in the batch that sealed them, and prove them.

Invariants: whoever waits is registered before its records can reach a batch, so none is missed; while nobody waits, sealing
costs nothing more; a batch is read on a worker thread, once for all who wait. Nothing of this is durable: a wait that is cut
short loses an answer and no record.
"""

from __future__ import annotations

import asyncio
import contextlib
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from ...trail.batch import read_blocks
from ...trail.merkle import Frontier
from ...trail.seal import parse_seal, prove_records

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ...intake import Sealed, SealListeners


class Proven(NamedTuple):
    """One record of a sealed batch.

    Attributes:
        seq: Its index in the trail.
        line: The record's exact bytes, the leaf.
        proof: Its tlog-proof.
    """

    seq: int
    line: bytes
    proof: bytes


class Waiting(NamedTuple):
    """Somebody who waits for records to be sealed.

    Attributes:
        bodies: The records' bodies in their order; no other request has the first one.
        done: Resolves to the records, proven.
    """

    bodies: Sequence[bytes]
    done: asyncio.Future[list[Proven]]


class SealWatch:
    """Tell requests of one source when their records are sealed."""

    def __init__(self, source: str, listeners: SealListeners) -> None:
        """Bind a source to the place where cuts are made known."""
        self._source = source
        self._listeners = listeners
        self._waiting: set[Waiting] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def expect(self, bodies: Sequence[bytes]) -> Iterator[asyncio.Future[list[Proven]]]:
        """Wait, inside the block, for records that are about to be submitted.

        Args:
            bodies: At least one record body, each without its newline.

        Yields:
            A future that resolves to the records in their order.
        """
        waiting = Waiting(tuple(bodies), asyncio.get_running_loop().create_future())
        self._waiting.add(waiting)
        self._listeners.add(self._on_sealed)
        try:
            yield waiting.done
        finally:
            waiting.done.cancel()
            self._waiting.discard(waiting)
            if not self._waiting:
                self._listeners.discard(self._on_sealed)

    async def close(self) -> None:
        """Give up looking; call it when nobody waits any more."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _on_sealed(self, sealed: Sealed) -> None:
        if sealed.data is not None:
            task = asyncio.get_running_loop().create_task(self._look(sealed, tuple(self._waiting)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _look(self, sealed: Sealed, waiting: Sequence[Waiting]) -> None:
        found = await asyncio.to_thread(prove, self._source, sealed, [one.bodies for one in waiting])
        for one, proven in zip(waiting, found, strict=True):
            if proven is not None and not one.done.done():
                one.done.set_result(proven)


def prove(source: str, sealed: Sealed, wanted: Sequence[Sequence[bytes]]) -> list[list[Proven] | None]:
    """Look for runs of records in a sealed batch.

    Args:
        source: The source they came from.
        sealed: The batch.
        wanted: The bodies of each run.

    Returns:
        The proven records of each run; None for one that is not in this batch.
    """
    missing: list[list[Proven] | None] = [None] * len(wanted)
    seal = parse_seal(sealed.seal)
    data = seal.manifest.data
    if sealed.data is None or data is None or all(step.id != source for step in seal.manifest.sources):
        return missing
    lines = list(chain.from_iterable(read_blocks(sealed.data, data.raw_bytes)))
    firsts = {run[0] for run in wanted}
    places: dict[bytes, int] = {}
    for index, line in enumerate(lines):
        body = _body_of(line)
        if body in firsts:
            places.setdefault(body, index)
    runs = [(number, places[run[0]]) for number, run in enumerate(wanted) if run[0] in places]
    runs = [
        (number, start) for number, start in runs if [*map(_body_of, lines[start : start + len(wanted[number])])] == list(wanted[number])
    ]
    positions = [index for number, start in runs for index in range(start, start + len(wanted[number]))]
    proofs = iter(prove_records(Frontier.decode(sealed.frontier_before), lines, seal, positions))
    for number, start in runs:
        run = lines[start : start + len(wanted[number])]
        missing[number] = [Proven(proof.index, line, proof.encode()) for line, proof in zip(run, proofs, strict=False)]
    return missing


def _body_of(line: bytes) -> bytes:
    """Return a record line without its number; the seal's own batch needs no check of its form."""
    return line[line.find(b",") :]
