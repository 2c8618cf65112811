"""Reconstruct what one actor did, and what was done to them, from verified batches only.

Every trail of the copy is checked batch by batch; events of a batch in which something is wrong, or of a trail that nobody vouches for, are
left out, and the timeline says so at that place. Between the events stand the gaps and silences of the trails concerned: what may have
happened there is not known.

Invariants: nothing enters that did not verify; the number of entries is bounded, and what was left out for that is counted. This module
must not write anything.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from ...errors import FormatError, NotVerifiedError
from ...trail.batch import read_data
from ...trail.layout import seal_key
from ...trail.seal import parse_seal
from ..account import UNKNOWN
from ..chain import MAX_DATA_BYTES, TrailChecker
from ..findings import Code, Finding, FindingLog, Severity
from ..leftovers import Marker
from ..trustfile import MAX_SEAL_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ...trail.layout import Origin
    from ..fetch import StoreReader
    from ..trustfile import TrustFile

MOST_ENTRIES: Final = 10_000
_MOST_REMARKS: Final = 10_000
_HOLES: Final = frozenset({Code.GAP, Code.SILENCE, Code.AWAY, Code.BYTES_UNACCOUNTED})
_NO_TIME: Final = datetime.min.replace(tzinfo=UTC)


class _Party(msgspec.Struct, frozen=True, gc=False):
    type: str = ""
    id: str = ""
    session: str | None = None


class _Event(msgspec.Struct, frozen=True, gc=False):
    occurred_at: str
    event_id: str = ""
    actor: _Party = _Party()
    action: str = ""
    target: _Party = _Party()
    outcome: str = ""
    context: msgspec.Raw = msgspec.Raw(b"")


class _Line(msgspec.Struct, frozen=True, gc=False):
    seq: int
    kind: str
    observed_at: str = ""
    event: _Event | None = None


_decoder: Final = msgspec.json.Decoder(_Line)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a timeline.

    Attributes:
        kind: ``did``, ``target`` (it was done to them), ``session`` (another actor in one of their sessions), or a hole: ``gap``,
            ``silence``, ``away``, ``bytes_unaccounted``, ``unverified``.
        at: When, as the service wrote it; of a hole, when the batch that tells of it was sealed.
        origin: The trail.
        batch: The batch.
        seq: The event's number in the trail; None for a hole.
        actor: Who did it.
        session: In which session.
        action: What.
        target: To what, as type/id.
        outcome: How it ended.
        context: What the service said besides, JSON text.
        remark: What a hole is about.
    """

    kind: str
    at: str
    origin: str
    batch: int
    seq: int | None = None
    actor: str = ""
    session: str = ""
    action: str = ""
    target: str = ""
    outcome: str = ""
    context: str = ""
    remark: str = ""

    @property
    def moment(self) -> datetime:
        """When, to sort by."""
        return _moment(self.at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The reconstruction.

    Attributes:
        actor: Whose.
        chosen: Whether they were chosen because they are the busiest.
        entries: In the order of time; in one trail and at one time, in the order of seq.
        omitted: How many later events there are than are listed.
        outcomes: How often each outcome, of what they did.
        sessions: How many events in each of their sessions.
        events: Verified events that were looked at, in all trails.
        unreadable: Events of another form than the schema's, which nobody was found in.
        verified: Verified batches that were looked at.
        unverified: Batches that were left out because something is wrong in them.
        unvouched: Trails that were left out because nobody vouches for them.
    """

    actor: str
    chosen: bool
    entries: tuple[Entry, ...]
    omitted: int
    outcomes: dict[str, int]
    sessions: dict[str, int]
    events: int
    unreadable: int
    verified: int
    unverified: int
    unvouched: tuple[str, ...]


class _Remarks(FindingLog):
    """Notes in which batches something is wrong, and where something is missing."""

    def __init__(self) -> None:
        super().__init__()
        self.bad: dict[int, str] = {}
        self.holes: defaultdict[int, list[Finding]] = defaultdict(list)
        self._noted = 0

    def add(self, finding: Finding) -> None:
        if finding.batch is None:
            return
        if finding.severity >= Severity.UNVERIFIED:
            self.bad.setdefault(finding.batch, finding.code.value)
        elif finding.code in _HOLES and self._noted < _MOST_REMARKS:
            self._noted += 1
            self.holes[finding.batch].append(finding)


class _Walk:
    """One trail: which of its batches may be believed."""

    def __init__(self, store: StoreReader, origin: Origin, trust: TrustFile, advance: Callable[[int], None]) -> None:
        self.store, self.origin = store, origin
        self.remarks = _Remarks()
        self.batches = list(store.seals(origin))
        checker = TrailChecker(
            origin, store, self.remarks, trusted=trust.keys_for(str(origin)), carried=UNKNOWN, mark=Marker(bytes(16)), advance=advance
        )
        for batch in self.batches:
            try:
                checker.check(batch)
            except NotVerifiedError:
                self.remarks.bad.setdefault(batch, Code.OBJECT_UNREADABLE.value)
                checker.lose(batch + 1)
        # The signature that vouches for a key is one over the tree, not over the key: only a first seal that fits its tree names one.
        self.vouched = checker.tally.trusted_by is not None and 0 not in self.remarks.bad

    def events(self) -> Iterator[tuple[int, str, Iterator[bytes]]]:
        """Yield each batch that may be believed: its number, when it was sealed, and its lines."""
        for batch in self.batches:
            if batch in self.remarks.bad:
                continue
            raw = self.store.read(seal_key(self.origin, batch), MAX_SEAL_BYTES)
            manifest = parse_seal(raw or b"").manifest
            lines: Iterator[bytes] = iter(())
            if manifest.data is not None:
                lines = read_data(self.store.read(manifest.data.key, MAX_DATA_BYTES) or b"", manifest.data.raw_bytes)
            yield batch, manifest.sealed_at, lines


def reconstruct(
    store: StoreReader, trust: TrustFile, actor: str | None, *, advance: Callable[[int], None] = lambda _: None
) -> Timeline | None:
    """Reconstruct an actor's timeline.

    Args:
        store: A copy that nobody else writes to.
        trust: Whom to believe.
        actor: The actor's id; None for the one with the most events.
        advance: Called with the number of bytes read, now and then.

    Returns:
        The timeline; None if no actor was asked for and there is none.

    Raises:
        NotVerifiedError: The copy cannot be listed or read.
    """
    walks: list[_Walk] = []
    unvouched: list[str] = []
    for origin in store.origins():
        walk = _Walk(store, origin, trust, advance)
        if walk.vouched:
            walks.append(walk)
        else:
            unvouched.append(str(origin))
    counts: Counter[str] = Counter()
    sessions: defaultdict[str, Counter[str]] = defaultdict(Counter)
    unreadable = 0
    for _, _, event in _events(walks):
        if event is None:
            unreadable += 1
            continue
        counts[event.actor.id] += 1
        if event.actor.session and actor in (None, event.actor.id):
            sessions[event.actor.id][event.actor.session] += 1
    whose = actor if actor is not None else min(counts, key=lambda name: (-counts[name], name), default=None)
    if whose is None:
        return None
    entries, omitted, outcomes = _entries(walks, whose, frozenset(sessions[whose]))
    return Timeline(
        actor=whose,
        chosen=actor is None,
        entries=_with_holes(entries, walks),
        omitted=omitted,
        outcomes=dict(outcomes),
        sessions=dict(sessions[whose]),
        events=counts.total(),
        unreadable=unreadable,
        verified=sum(len(walk.batches) - sum(batch in walk.remarks.bad for batch in walk.batches) for walk in walks),
        unverified=sum(len(walk.remarks.bad) for walk in walks),
        unvouched=tuple(unvouched),
    )


def _events(walks: list[_Walk]) -> Iterator[tuple[_Walk, tuple[int, _Line], _Event | None]]:
    """Yield every verified event with its trail, batch and line; None for one that is not of the schema's form."""
    for walk in walks:
        for batch, _, lines in walk.events():
            for line in lines:
                if b'"kind":"event"' not in line[:64]:
                    continue
                try:
                    read = _decoder.decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                    yield walk, (batch, _Line(0, "event")), None
                else:
                    yield walk, (batch, read), read.event


def _entries(walks: list[_Walk], actor: str, sessions: frozenset[str]) -> tuple[list[Entry], int, Counter[str]]:
    found: list[Entry] = []
    omitted = 0
    outcomes: Counter[str] = Counter()
    for walk, (batch, line), event in _events(walks):
        if event is None:
            continue
        kind = _kind(event, actor, sessions)
        if kind is None:
            continue
        if kind == "did":
            outcomes[event.outcome] += 1
        found.append(
            Entry(
                kind=kind,
                at=event.occurred_at,
                origin=str(walk.origin),
                batch=batch,
                seq=line.seq,
                actor=f"{event.actor.type}/{event.actor.id}",
                session=event.actor.session or "",
                action=event.action,
                target=f"{event.target.type}/{event.target.id}",
                outcome=event.outcome,
                context=bytes(event.context).decode("utf-8", "backslashreplace"),
            )
        )
        if len(found) >= 2 * MOST_ENTRIES:
            omitted += _trim(found)
    return found, omitted + _trim(found), outcomes


def _kind(event: _Event, actor: str, sessions: frozenset[str]) -> str | None:
    if event.actor.id == actor:
        return "did"
    if event.target.id == actor:
        return "target"
    return "session" if event.actor.session in sessions else None


def _trim(entries: list[Entry]) -> int:
    """Keep the earliest entries, in order; return how many went."""
    entries.sort(key=_order)
    gone = len(entries) - MOST_ENTRIES
    del entries[MOST_ENTRIES:]
    return max(gone, 0)


def _order(entry: Entry) -> tuple[datetime, str, int]:
    return entry.moment, entry.origin, -1 if entry.seq is None else entry.seq


def _with_holes(entries: list[Entry], walks: list[_Walk]) -> tuple[Entry, ...]:
    """Put in what is missing in the trails concerned, from the first of their entries to the last."""
    if not entries:
        return ()
    concerned = {entry.origin for entry in entries}
    first, last = entries[0].moment, entries[-1].moment
    holes = [hole for walk in walks if str(walk.origin) in concerned for hole in _holes(walk)]
    between = [hole for hole in holes if first <= hole.moment <= last or hole.kind == "unverified"]
    return tuple(sorted((*entries, *between), key=_order))


def _holes(walk: _Walk) -> Iterator[Entry]:
    origin, sealed_at = str(walk.origin), ""
    for batch in sorted({*walk.batches, *walk.remarks.bad}):
        code = walk.remarks.bad.get(batch)
        if code is not None:
            yield Entry(
                kind="unverified",
                at=sealed_at,
                origin=origin,
                batch=batch,
                remark=f"batch {batch} does not verify ({code}); its events are left out. It comes after this time",
            )
            continue
        try:
            sealed_at = parse_seal(walk.store.read(seal_key(walk.origin, batch), MAX_SEAL_BYTES) or b"").manifest.sealed_at
        except FormatError:
            continue
        for finding in walk.remarks.holes.get(batch, ()):
            yield Entry(kind=finding.code.value, at=sealed_at, origin=origin, batch=batch, remark=finding.message)


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return _NO_TIME
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found
