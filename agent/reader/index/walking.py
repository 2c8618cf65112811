"""Walk one trail from where the index stands, and put what verifies into the tables.

Invariants: one transaction puts in some batches and the place to go on from; that place stands before the first batch that did not
verify. Memory holds one stretch of batches. This module must not look at other trails, except for what was read where this one
continues another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import duckdb
import msgspec

from ...errors import NotVerifiedError, TrailsealError
from ...trail.layout import Origin, seal_key
from ...trail.manifest import Continues
from ...trail.merkle import leaf_hash
from ..account import NOTHING, UNKNOWN, Books, Carried
from ..chain import TrailChecker
from ..findings import Code, Finding, Severity
from ..tally import Checked, Standing
from ..trustfile import MAX_SEAL_BYTES
from .loading import Verified, load
from .noting import Collected, write
from .tables import transaction
from .tiles import Pending, Tiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    from ...trail.note import VerifierKey
    from ...trail.seal import Seal
    from ..fetch import StoreReader
    from ..links import Claim
    from .still_there import Unindexed
    from .tiles import Node

_STRETCH_BYTES: Final = 32 << 20
_STRETCH_BATCHES: Final = 4096
_FORGET: Final = (
    "DELETE FROM event_rows WHERE trail = ? AND batch >= ?",
    "DELETE FROM quarantine WHERE trail = ? AND batch >= ?",
    "DELETE FROM gaps WHERE trail = ? AND batch >= ?",
    "DELETE FROM sources WHERE trail = ? AND batch >= ?",
    "DELETE FROM batches WHERE trail = ? AND batch >= ?",
)


class _State(msgspec.Struct, frozen=True):
    """Where to go on in a trail: before the first batch that is not verified yet."""

    standing: Standing
    tiles: Pending
    bytes_lost: int


class Into(NamedTuple):
    """The index that is brought up to date.

    Attributes:
        connection: To it.
        folder: For files that live as long as the refresh.
        now: The clock, aware, UTC.
        advance: Called with the number of bytes read.
        still_there: Knows which seals of indexed batches the store does not list any more.
        redone: From which batch on a trail was looked at anew, by origin: what was found there before is superseded.
    """

    connection: duckdb.DuckDBPyConnection
    folder: Path
    now: datetime
    advance: Callable[[int], None]
    still_there: Unindexed
    redone: dict[str, int]


class _Waiting(NamedTuple):
    """A batch on its way into the tables, and where to go on after it; None from the first on that did not verify."""

    verified: Verified
    state: _State | None


class TrailWalk:
    """One trail's part of a refresh.

    Attributes:
        batches: How many batches became rows.
        records: Their records.
    """

    def __init__(
        self, into: Into, store: StoreReader, origin: Origin, trail: int, trusted: tuple[VerifierKey, ...], claim: Claim | None
    ) -> None:
        """Stand where the index stands.

        Args:
            into: The index.
            store: The store.
            origin: The trail.
            trail: Its number in the tables.
            trusted: The keys that the trust file binds to it.
            claim: What it says it continues, if anything.
        """
        self.into, self.store, self.origin, self.trail = into, store, origin, trail
        self.connection = into.connection
        self.batches = self.records = 0
        self.log = Collected()
        self.state = self._kept_state()
        self.checker = TrailChecker(
            origin,
            store,
            self.log,
            trusted=trusted,
            carried=NOTHING if claim is None else self._carried(claim),
            mark=lambda _: 0,
            advance=into.advance,
            sink=self._take,
        )
        self.tiles = Tiles(None if self.state is None else self.state.tiles)
        self.bytes_lost = 0 if self.state is None else self.state.bytes_lost
        self.next = into.still_there.first[str(origin)] = into.redone[str(origin)] = 0 if self.state is None else self.state.standing.batch
        if self.state is not None:
            self.checker.resume(self.state.standing)
        self.sound = True
        """Whether every batch so far was verified; from the first that was not, the state stays where it is."""
        self.taken: Verified | None = None
        self.refused = ""
        """Why the database could not read a batch, once there was one."""
        self.waiting: list[_Waiting] = []
        self.waiting_bytes = 0

    def _kept_state(self) -> _State | None:
        state = self.connection.execute("SELECT state FROM trails WHERE trail = ?", [self.trail]).fetchall()[0][0]
        return None if state is None else msgspec.json.decode(state, type=_State)

    def _carried(self, claim: Claim) -> Carried:
        """Return what was read at the point that this trail continues: known only where the other's index stands there."""
        rows = self.connection.execute("SELECT state, size FROM trails WHERE origin = ?", [claim.link.origin]).fetchall()
        if not rows or rows[0][0] is None or rows[0][1] != claim.link.size:
            return UNKNOWN
        books: Books = msgspec.json.decode(rows[0][0], type=_State).standing.books
        return Carried(dict(books.offsets), books.starts_known)

    def walk(self) -> None:
        """Index what is new."""
        self._forget_unsound()
        try:
            self._check_head()
            for batch in self._numbers():
                self._check(batch)
        except NotVerifiedError as error:
            self._find(Code.OBJECT_UNREADABLE, error.message)
        self._commit()

    def _forget_unsound(self) -> None:
        """Take out what came after what did not verify: it is looked at anew. The findings stay until there are new ones."""
        newest = self.connection.execute("SELECT max(batch) FROM batches WHERE trail = ?", [self.trail]).fetchall()[0][0]
        if newest is not None and newest >= self.next:
            with transaction(self.connection):
                for statement in _FORGET:
                    self.connection.execute(statement, [self.trail, self.next])

    def _find(self, code: Code, message: str, batch: int | None = None) -> None:
        key = None if batch is None else seal_key(self.origin, batch)
        self.log.add(Finding(code=code, message=message, origin=str(self.origin), batch=batch, key=key))

    def _check_head(self) -> None:
        """See whether the store still has the newest seal that was indexed."""
        rows = self.connection.execute("SELECT head_batch, head_seal FROM trails WHERE trail = ?", [self.trail]).fetchall()
        batch, seal = rows[0]
        if batch is None:
            return
        raw = self.store.read(seal_key(self.origin, batch), MAX_SEAL_BYTES)
        # About no batch, so that it is judged anew at every look.
        if raw is not None and raw != seal:
            self._find(Code.VERSION_ALTERED, f"the seal of batch {batch} is not the one that was indexed")

    def _numbers(self) -> Iterator[int]:
        expected = self.next
        for listed in self.store.seals(self.origin):
            if listed < expected:
                continue
            # While an agent writes, a listing may hold a seal and not yet the one before it, so a hole is looked at again.
            while expected < listed and self.store.read(seal_key(self.origin, expected), MAX_SEAL_BYTES) is not None:
                yield expected
                expected += 1
            yield listed
            expected = listed + 1
        count, first = self.into.still_there.missing.get(str(self.origin), (0, 0))
        if count:
            number = "one seal" if count == 1 else f"{count} seals"
            self._find(Code.VERSION_GONE, f"{number} that the index was made of, batch {first} the first, the store does not list any more")

    def _check(self, batch: int) -> None:
        self.taken = None
        try:
            self.checker.check(batch)
        except TrailsealError as error:
            self._find(Code.OBJECT_UNREADABLE if error.exit_code == NotVerifiedError.exit_code else Code.CHECK_FAILED, error.message, batch)
            self.checker.lose(batch + 1)
        taken, standing = self.taken, self.checker.standing
        if taken is None or not taken.chained or standing is None:
            self.sound = False
        if taken is not None:
            state = _State(standing, self.tiles.pending, self.bytes_lost) if self.sound and standing is not None else None
            self.waiting.append(_Waiting(taken, state))
            data = taken.checked.seal.manifest.data
            self.waiting_bytes += len(taken.checked.seal.raw) + (data.raw_bytes if data else 0)
        if self.waiting_bytes >= _STRETCH_BYTES or len(self.waiting) >= _STRETCH_BATCHES:
            self._commit()

    def _take(self, checked: Checked) -> None:
        """Take a batch from the checker, if nothing speaks against what is in it."""
        manifest = checked.seal.manifest
        if checked.severity >= Severity.UNVERIFIED:
            return
        chained = self.sound and checked.chained and manifest.records.first_seq == self.tiles.size
        lost = max(manifest.totals.bytes_lost - self.bytes_lost, 0)
        nodes: tuple[Node, ...] = ()
        if chained:
            nodes = tuple(self.tiles.extend([*checked.contents.hashes, leaf_hash(checked.seal.manifest_line)]))
            self.bytes_lost = manifest.totals.bytes_lost
        self.taken = Verified(checked, chained, lost, nodes)

    def _commit(self) -> None:
        """Put in what waits, with the place to go on from."""
        waiting, self.waiting, self.waiting_bytes = self.waiting, [], 0
        if self._put(waiting):
            return
        intact = True
        for one in waiting:
            if not self._put([one if intact else _Waiting(one.verified._replace(chained=False, nodes=()), None)]):
                intact = self.sound = False
                batch = one.verified.checked.seal.manifest.batch
                self._find(Code.CHECK_FAILED, f"the database cannot read the records of batch {batch}: {self.refused}", batch)
        self._put([])

    def _put(self, waiting: list[_Waiting]) -> bool:
        """Put batches and findings in, in one transaction; False if the database cannot read what is in them."""
        batches = [one.verified for one in waiting]
        new, self.log.new = self.log.new, []
        try:
            with transaction(self.connection):
                if batches:
                    load(self.connection, self.trail, batches, self.into.folder)
                write(self.connection, new, self.into.now, lasting=True)
                self._write_row(waiting)
        except (duckdb.InvalidInputException, duckdb.ConversionException, duckdb.DataError) as error:
            # Sealed all the same; it is not answered from, and that is said.
            self.log.new = new + self.log.new
            self.refused = str(error).partition("\n")[0]
            return False
        self.batches += len(batches)
        self.records += sum(one.checked.seal.manifest.records.count for one in batches)
        return True

    def _write_row(self, waiting: list[_Waiting]) -> None:
        sound = [one for one in waiting if one.state is not None]
        if not sound:
            return
        head, state = sound[-1].verified.checked.seal, sound[-1].state
        manifest, checkpoint = head.manifest, head.checkpoint()
        values: dict[str, Any] = {
            "size": checkpoint.size,
            "root": checkpoint.root,
            "head_batch": manifest.batch,
            "head_sealed_at": manifest.sealed_at,
            "head_reason": manifest.reason.value,
            "head_seal": head.raw,
            "heartbeat_seconds": float(manifest.agent.heartbeat_seconds),
            "state": msgspec.json.encode(state),
        }
        first = sound[0].verified.checked.seal
        if not first.manifest.batch:
            values |= _opened(first)
        places = ", ".join(f"{name} = ${name}" if name != "head_sealed_at" else f"{name} = ${name}::TIMESTAMP" for name in values)
        self.connection.execute(f"UPDATE trails SET {places} WHERE trail = $trail", {**values, "trail": self.trail})  # noqa: S608 -- constants


def _opened(seal: Seal) -> dict[str, Any]:
    """Return what a trail's first seal says of it."""
    link = seal.manifest.continues
    values: dict[str, Any] = {"opening": seal.raw, "key": str(seal.manifest.key)}
    if isinstance(link, Continues):
        values |= {
            "continues_origin": link.origin,
            "continues_size": link.size,
            "continues_root": link.root,
            "continues_why": link.why.value,
        }
    return values
