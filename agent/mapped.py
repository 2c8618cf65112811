"""Separate the blocks of a source whose lines are not taken as they stand: a mapping makes events of them, or redaction changes them.

Like `agent.separator`, which is for lines that become records as they are, and is several times faster. Here each candidate is
interpreted by itself: mapped if the source has mappings; judged by schema and catalog like any event; then redacted.

Invariants: every line, or unit of several lines, is accounted for once and in order, as a record or as observability; no bytes raise an
exception; what is removed is in no part of any record; a line of which a mapping made an event is kept beside it byte for byte, unless
something was removed from it. Pure: no clock, files or network.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple, Protocol

import orjson

from .events.mappings import PASSED, Mapped, Moment
from .events.mappings.event import shortened
from .events.mappings.place import Place
from .events.mappings.values import getter, split_path
from .events.verdict import Rejection, rejection
from .separator import Separated
from .trail.records import QuarantineReason, Reworked, oversize_body, quarantine_body, reworked_block, withheld_body

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .events.classify import Rule, Span
    from .events.mappings.header import Header
    from .events.mappings.joining import Joining
    from .events.mappings.mapping import Outcome
    from .events.redaction import Redactor
    from .events.validate import Judgement, Validator
    from .separator import Places


_ID_BEGINS: Final = b'{"event_id":"'
_ID_CHARS: Final = 32
_GROUP_UNITS: Final = 256
"""So many units are taken apart at a time: each costs many times its bytes, until it is a body."""


class Interpreter(Protocol):
    """Make events of lines.

    Guarantees: every line of which `interpret` makes an event, or a refusal, is among `candidates`; spans come in the order of the
    block, none twice. Implementations are immutable.
    """

    joining: Joining | None
    """How lines join to units; None if each is one."""

    def candidates(self, block: bytes, units: list[Span] | None = None) -> list[Span]:
        """Find the lines, or units, of a block that may be audit; `units` are the block's where lines join."""

    def interpret(self, unit: bytes, moment: Moment) -> Outcome:
        """Return the event, that there is none, or why none could be made."""

    def marker(self, unit: bytes) -> bytes:
        """Return what stands before the service's own words in a line that is audit."""


class AsItIs:
    """Take events as the service wrote them; an `Interpreter` for sources without mappings, whose events are redacted."""

    joining: Joining | None = None

    def __init__(self, rule: Rule, validator: Validator) -> None:
        """Bind the source's rule, and the validator made for it."""
        self._rule = rule
        self._validator = validator

    def candidates(self, block: bytes, units: list[Span] | None = None) -> list[Span]:
        """Find the lines that may be audit."""
        del units
        return self._rule.candidates(block)

    def marker(self, unit: bytes) -> bytes:
        """Return the rule's prefix, if the line has it."""
        return unit.removesuffix(self._rule.event(unit))

    def interpret(self, unit: bytes, moment: Moment) -> Outcome:
        """Cut the event out of the line; a candidate that is no event passes unless it is audit."""
        del moment
        event = self._rule.event(unit)
        verdict = self._validator.judge_line(event)
        if isinstance(verdict, Rejection):
            return verdict if self._rule.is_audit(unit) else PASSED
        return Mapped(event, "", ())


class _Unit(NamedTuple):
    """Be one candidate and what surrounds it; `offset` and `salt` tell it from others of the same bytes."""

    raw: bytes
    at: Span | None
    member: bytes
    outcome: Outcome
    offset: int = 0
    salt: str = ""


class _Made:
    """Gather what groups of units became."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.events = 0
        self.reasons: Counter[str] = Counter()
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.times: list[datetime] = []

    def separated(self, lines: int, rest: bytes) -> Separated:
        quarantined = self.reasons.total()
        records = self.events + quarantined
        return Separated(
            bodies=b"".join(self.parts),
            records=records,
            events=self.events,
            quarantined=quarantined,
            lines=lines,
            observability_lines=lines - records,
            observability=rest,
            reasons=dict(self.reasons),
            occurred_min=min(self.times, default=None),
            occurred_max=max(self.times, default=None),
            outcomes=dict(self.outcomes),
        )


class RedactingSeparator:
    """Separate the blocks of one source whose events are redacted. One instance serves one thread.

    Attributes:
        joining: How lines join to units; None if each is one.
    """

    _maps: ClassVar[bool] = False

    def __init__(
        self,
        source: str,
        interpreter: Interpreter,
        validator: Validator,
        *,
        keep_observability: bool,
        has_offsets: bool,
        redactor: Redactor | None = None,
    ) -> None:
        """Bind a source to how its lines are read.

        Args:
            source: The source's id, written into every record.
            interpreter: Makes events of its lines.
            validator: Judges them.
            keep_observability: Whether the other lines' bytes are wanted.
            has_offsets: Whether positions in the source mean something to an auditor (files) and go into the records.
            redactor: Removes what must not be kept; None if nothing must be.
        """
        self.joining = interpreter.joining
        self._source = source
        self._interpreter = interpreter
        self._validator = validator
        self._keep = keep_observability
        self._has_offsets = has_offsets
        self._redactor = redactor

    def separate(self, block: bytes, offset: int, observed_at: str, places: Places | None = None) -> Separated:
        """Separate a block of whole lines; the arguments are those of :meth:`agent.separator.Separator.separate`.

        A unit of several lines counts as one line.
        """
        units_of_block = None if self.joining is None else self.joining.units(block)
        spans = self._interpreter.candidates(block, units_of_block)
        located, members = self._located(spans, offset, places)
        read_at, salt, interpret = datetime.fromisoformat(observed_at), self._salt(observed_at), self._interpreter.interpret
        made, kept, redacts = _Made(), [], self._redactor is not None
        for first in range(0, len(spans), _GROUP_UNITS):
            group = spans[first : first + _GROUP_UNITS]
            units = []
            for (start, end), at, member in zip(group, located[first:], members[first:], strict=False):
                raw = block[start:end]
                units.append(
                    _Unit(
                        raw,
                        at if self._has_offsets else None,
                        member,
                        interpret(raw, Moment(read_at, at[0], salt, None, redacts)),
                        at[0],
                        salt,
                    )
                )
            units = self._add(made, units, observed_at)
            if self._keep:
                kept += [span for span, unit in zip(group, units, strict=True) if unit.outcome is not PASSED]
        rest = _without(block, kept) if self._keep else b""
        return made.separated(_lines(block) if units_of_block is None else len(units_of_block), rest)

    def overlong(self, observed_at: str, head: bytes, length: int, sha256_hex: str, at: Span | None, member: bytes) -> bytes:
        """Return the body that stands for a line over the size limit; the arguments are those of `oversize_body`."""
        if self._redactor is not None:
            # The beginning may end within a secret, which then looks like none, and the hash of a line of which all but a few digits is
            # known would tell those.
            return oversize_body(self._source, observed_at, b"", length, None, at, member=member, redacted=("raw",))
        return oversize_body(self._source, observed_at, head, length, sha256_hex, at, member=member)

    def quarantined(self, observed_at: str, reason: QuarantineReason, detail: str, raw: bytes) -> bytes:
        """Return the body that keeps a message which cannot be an event; the arguments are those of `quarantine_body`."""
        return self._quarantine(_Unit(raw, None, b"", PASSED), reason, detail, observed_at)

    def _salt(self, observed_at: str) -> str:
        """Return what tells equal lines apart where offsets do not."""
        return "" if self._has_offsets else observed_at

    def _add(self, made: _Made, units: list[_Unit], observed_at: str) -> list[_Unit]:
        """Judge some units, write the bodies of those that are audit, and return them with the verdicts."""
        judgement = self._validator.judge_lines([unit.outcome.event for unit in units if isinstance(unit.outcome, Mapped)])
        units = self._with_refused(units, judgement)
        events: list[Reworked] = []
        for unit in units:
            if isinstance(unit.outcome, Mapped):
                events.append(self._event(unit, unit.outcome))
            elif isinstance(unit.outcome, Rejection):
                made.parts += (reworked_block(self._source, observed_at, events), self._refusal(unit, unit.outcome, observed_at), b"\n")
                made.reasons[unit.outcome.reason.value] += 1
                events = []
        made.parts.append(reworked_block(self._source, observed_at, events))
        made.events += judgement.accepted
        made.outcomes.update(judgement.outcomes)
        made.times += [moment for moment in (judgement.occurred_min, judgement.occurred_max) if moment is not None]
        return units

    def _with_refused(self, units: list[_Unit], judgement: Judgement) -> list[_Unit]:
        """Return the units with those whose event is none after all refused, by the name of the rule that made it."""
        if not judgement.rejected:
            return units
        mapped = [index for index, unit in enumerate(units) if isinstance(unit.outcome, Mapped)]
        for number, refused in judgement.rejected.items():
            unit = units[mapped[number]]
            rule = unit.outcome.rule if isinstance(unit.outcome, Mapped) else ""
            detail = f"{rule}: {refused.detail}".removesuffix(": ") if rule else refused.detail
            units[mapped[number]] = unit._replace(outcome=rejection(refused.reason, detail))
        return units

    def _located(self, spans: Sequence[Span], offset: int, places: Places | None) -> tuple[Sequence[Span], Sequence[bytes]]:
        if places is not None:
            return places.of(spans)
        return [(offset + start, end - start) for start, end in spans], [b""] * len(spans)

    def _event(self, unit: _Unit, made: Mapped) -> Reworked:
        event, rule, client, own_id, full = made
        raw = unit.raw if rule else None
        if self._redactor is None:
            return Reworked(event, rule, client, raw, (), unit.at, unit.member)
        if raw is None:
            redacted = self._redactor.redact_event(event)
            return Reworked(redacted.event, rule, client, None, redacted.names, unit.at, unit.member)
        whole = self._redactor.redact_mapping(event if full is None else full, raw, own_id=own_id)
        kept = whole.event if full is None else _shortened(whole.event)
        kept = _with_another_id(kept, unit) if own_id else kept
        return Reworked(kept, rule, _still_there(client, kept) if whole.names else client, whole.raw, whole.names, unit.at, unit.member)

    def _refusal(self, unit: _Unit, refused: Rejection, observed_at: str) -> bytes:
        return self._quarantine(unit, QuarantineReason(refused.reason), refused.detail, observed_at)

    def _quarantine(self, unit: _Unit, reason: QuarantineReason, detail: str, observed_at: str) -> bytes:
        raw = unit.raw
        names: tuple[str, ...] = ()
        if self._redactor is not None:
            detail = self._redactor.redact_detail(detail)
            marker = self._interpreter.marker(raw)
            text = self._redactor.redact_text(raw[len(marker) :])
            # Paths are an event's, and of a line that became none nobody can say where their values stand.
            if text.raw is None or (self._redactor.has_paths and self._maps):
                digest = self._redactor.digest(raw)
                return withheld_body(self._source, observed_at, reason, detail, len(raw), digest, unit.at, member=unit.member)
            raw, names = marker + text.raw, text.names
        return quarantine_body(self._source, observed_at, reason, detail, raw, unit.at, member=unit.member, redacted=names)


class MappedSeparator(RedactingSeparator):
    """Separate the blocks and messages of one source that has mappings; a `UnitSeparator`. One instance serves one thread."""

    _maps: ClassVar[bool] = True

    def separate_units(self, units: Sequence[bytes], headers: Sequence[Header | None] | None, offset: int, observed_at: str) -> Separated:
        """Separate messages that are units by themselves, whatever newlines are in them.

        Args:
            units: Their bytes, without the last newline.
            headers: What the source said beside each; None if it never says anything.
            offset: Where the first begins in the source, in bytes; each has one byte for its end.
            observed_at: When they were read, RFC 3339 in UTC with microseconds.
        """
        read_at, salt, made, passed = datetime.fromisoformat(observed_at), self._salt(observed_at), _Made(), []
        redacts = self._redactor is not None
        beside = [None] * len(units) if headers is None else headers
        for first in range(0, len(units), _GROUP_UNITS):
            group: list[_Unit] = []
            for raw, header in zip(units[first : first + _GROUP_UNITS], beside[first:], strict=False):
                group.append(
                    _Unit(raw, None, b"", self._interpret_message(raw, Moment(read_at, offset, salt, header, redacts)), offset, salt)
                )
                offset += len(raw) + 1
            passed += [unit.raw + b"\n" for unit in self._add(made, group, observed_at) if unit.outcome is PASSED]
        return made.separated(len(units), b"".join(passed) if self._keep else b"")

    def _interpret_message(self, raw: bytes, moment: Moment) -> Outcome:
        whole = raw.replace(b"\n", b" ")
        return self._interpreter.interpret(raw, moment) if self._interpreter.candidates(whole) else PASSED


def _shortened(event: bytes) -> bytes:
    """Return an event with the names shortened that were redacted in full."""
    return orjson.dumps(shortened(orjson.loads(event)))


def _still_there(client: tuple[str, ...], event: bytes) -> tuple[str, ...]:
    """Return which of some fields redaction left in an event."""
    if not client:
        return client
    fields = orjson.loads(event)
    return tuple([path for path in client if getter(split_path(path, Place("client")))(fields) is not None])


def _with_another_id(event: bytes, unit: _Unit) -> bytes:
    """Return a redacted event with an id made of what is left of it: a hash of the line would let guesses at what is gone be checked."""
    # A pattern may have found something in the digits of the old one, so its length is not known.
    rest = event[event.index(b'"', len(_ID_BEGINS)) :]
    digest = sha256(b"%d\n%b\n%b" % (unit.offset, unit.salt.encode(), rest)).hexdigest()[:_ID_CHARS]
    return b"%b%b%b" % (_ID_BEGINS, digest.encode(), rest)


def _lines(block: bytes) -> int:
    """Count lines; the last may lack its newline."""
    return block.count(b"\n") + (not block.endswith(b"\n") and bool(block))


def _without(block: bytes, spans: Sequence[Span]) -> bytes:
    """Return a block without some of its lines and their newlines."""
    parts: list[bytes] = []
    position = 0
    for start, end in spans:
        if start > position:
            parts.append(block[position:start])
        position = end + 1
    parts.append(block[position:])
    return b"".join(parts)
