"""Say what each line of a request is: an event, a quarantined line, or one that is not audit.

Invariants: every line of a request has exactly one verdict, in the lines' order, and the verdicts agree with the tally that
becomes the append. The common case, a request of nothing but audit lines, costs one pass over its block. Pure: no files,
clock or event loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from ..base import UnitSeparator
from ..joined import make_cutter
from ..lines import Overlong, Passed, Whole
from ..tally import Tally
from ..units import add_messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ...events.mappings.joining import Joining
    from ..base import BlockSeparator

_WHITE_SPACE: Final = b" \t\r\n"


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """Say what became of one line.

    Attributes:
        line: Its number in the request, from 1.
        status: What it is.
        event_id: The event's own id; of events only.
        reason: Why it was quarantined (agent.trail.records.QuarantineReason).
        detail: What exactly is wrong with it, for example the dotted name of a field.
        seq: The record's index in the trail, once it is sealed.
        record: The record's line, the leaf that the proof proves; once it is sealed.
        proof: The proof of its inclusion (C2SP tlog-proof); once it is sealed.
    """

    line: int
    status: Literal["event", "quarantined", "passed"]
    event_id: str | None = None
    reason: str | None = None
    detail: str | None = None
    seq: int | None = None
    record: str | None = None
    proof: str | None = None


class _Event(msgspec.Struct):
    event_id: str


class _Body(msgspec.Struct):
    kind: Literal["event", "quarantine"]
    event: _Event | None = None
    reason: str | None = None
    detail: str | None = None
    length: int = 0


_decode_body: Final = msgspec.json.Decoder(_Body).decode


@dataclass(frozen=True, slots=True)
class Judged:
    """A request's lines.

    Attributes:
        tally: What they gave.
        bodies: The record bodies, one each and without newlines, in their order.
        verdicts: One for each line, in their order.
    """

    tally: Tally
    bodies: list[bytes]
    verdicts: list[Verdict]


def judge_lines(
    source: str,
    body: bytes,
    observed_at: str,
    separator: BlockSeparator,
    is_audit: Callable[[bytes], bool],
    line_limit: int,
    joining: Joining | None = None,
) -> Judged:
    """Judge a body of lines (NDJSON), or of units of several lines.

    Args:
        source: The source's id.
        body: The request's body; its last line may lack the newline.
        observed_at: When it was received, RFC 3339 in UTC.
        separator: Separates blocks of lines; used by this call alone.
        is_audit: The rule's decision about one line.
        line_limit: The longest line, in bytes, that can become an event.
        joining: Which lines are one unit, and have one verdict; None if each is one.
    """
    tally = Tally(source, observed_at)
    audit: list[bool] = []
    pieces, _ = make_cutter(joining, is_audit, line_limit=line_limit).feed(body, final=True)
    for piece in pieces:
        if isinstance(piece, Whole) and isinstance(separator, UnitSeparator):
            audit += _add_units(tally, piece, separator, joining)
            continue
        before = tally.passed_lines
        tally.add([piece], separator)
        match piece:
            case Whole(_, data):
                lines = data.removesuffix(b"\n").split(b"\n")
                audit += [True] * len(lines) if tally.passed_lines == before else map(is_audit, lines)
            case Passed(_, _, last):
                audit += [False] * last
            case Overlong(_, _, _, _, late):
                # Such a line was passed on as well; it counts once, as audit.
                del audit[len(audit) - late :]
                audit.append(True)
    return _judged(tally, audit)


def _add_units(tally: Tally, piece: Whole, separator: UnitSeparator, joining: Joining | None) -> Iterator[bool]:
    """Separate units one by one, as only the mapping can tell which of them are audit; yield whether each is."""
    block = piece.data
    lines = block.removesuffix(b"\n").split(b"\n")
    units = lines if joining is None else [block[start:end] for start, end in joining.units(block)]
    offset = piece.offset
    for unit in units:
        done = separator.separate_units([unit], None, offset, tally.observed_at)
        tally.add_separated(done)
        yield bool(done.records)
        offset += len(unit) + 1


def judge_message(
    source: str, body: bytes, observed_at: str, separator: BlockSeparator, is_audit: Callable[[bytes], bool], line_limit: int
) -> Judged:
    """Judge a body that is one event; the arguments are those of :func:`judge_lines`."""
    tally = Tally(source, observed_at)
    message = body.strip(_WHITE_SPACE)
    if message:
        add_messages(tally, [(message, None)], separator, is_audit, line_limit)
    return _judged(tally, [bool(tally.records)] * tally.lines)


def _judged(tally: Tally, audit: list[bool]) -> Judged:
    bodies = b"".join(tally.bodies).split(b"\n")
    bodies.pop()
    return Judged(tally, bodies, list(_verdicts(bodies, audit)))


def _verdicts(bodies: list[bytes], audit: list[bool]) -> Iterator[Verdict]:
    records = iter(bodies)
    for number, is_record in enumerate(audit, 1):
        if not is_record:
            yield Verdict(number, "passed")
            continue
        body = _decode_body(b'{"seq":0' + next(records))
        if body.event is not None:
            yield Verdict(number, "event", event_id=body.event.event_id)
        else:
            detail = f"{body.length} bytes" if body.detail is None else body.detail
            yield Verdict(number, "quarantined", reason=body.reason, detail=detail)
