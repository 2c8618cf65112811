"""Judge audit lines: valid event, or quarantine with a reason.

Two tiers with one meaning. `Validator.judge_line` is exact and names the reason. `Validator.judge_lines` takes many lines at
once and accepts without further ado those that are plainly fine; whatever it cannot prove goes to `judge_line`.

What the fast tier proves, for a group of lines: each decodes alone (orjson: strict UTF-8, no lone surrogates, no NaN);
writing the decoded objects again gives the same bytes, but for white space and needless escapes, so no key was swallowed
as a duplicate and no number lost its value; no NUL was escaped; and one conversion to a bounded event type limits fields,
integers and nesting. Then one look per *shape* (action and key names) settles required context and keys that differ by case.

Invariants: the fast tier never accepts what the exact tier rejects; no bytes raise an exception; the work per line is
bounded however hostile the block. This module must not decide what is an audit line.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003 - dataclass annotations are resolved by documentation and type tools
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import msgspec
import orjson

from .catalog import UNCATALOGUED, Catalog, Entry
from .classify import FieldRule
from .reading import read_strictly, same_but_for_spelling
from .schema import Event, bounded_types, exact_type, explain, is_utc_time
from .verdict import Accepted, Reason, Rejection, Verdict, rejection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .classify import Rule

GROUP_LINES: Final = 256
"""Lines proven together: enough to spread the cost of the calls, few enough that one bad line spoils little."""

_SUBGROUP_LINES: Final = 16
_SHAPES_KEPT: Final = 1024
_SHAPE_CHARS_KEPT: Final = 2048
_LONGEST_Z_TIME_CHARS: Final = len("2026-01-08T14:32:07.123456789Z")

_Key: TypeAlias = tuple[object, ...]
"""A shape: action, outcome, then the context's key names (with their own, where a value is an object)."""


class _Shape(NamedTuple):
    category: str
    entry: Entry | None
    doubtful: bool


class _Group(NamedTuple):
    events: list[Event]
    nested: bool
    nulls: bool


@dataclass(frozen=True, slots=True)
class Judgement:
    """Sum up the verdicts on a sequence of lines.

    Attributes:
        rejected: Rejections by the line's index in the sequence; every other line is accepted.
        accepted: Number of accepted lines.
        occurred_min: Earliest `occurred_at` of an accepted line, UTC; None where there is none.
        occurred_max: Latest likewise.
        outcomes: Accepted events by (category, outcome); actions the catalog does not know count as ``uncatalogued``.
    """

    rejected: dict[int, Rejection] = field(default_factory=dict)
    accepted: int = 0
    occurred_min: datetime | None = None
    occurred_max: datetime | None = None
    outcomes: dict[tuple[str, str], int] = field(default_factory=dict)


class _Tally:
    """Gather a judgement while groups of lines are worked through."""

    def __init__(self) -> None:
        self.rejected: dict[int, Rejection] = {}
        self.times: list[datetime] = []
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.accepted = 0


class Validator:
    """Judge the audit lines of one source against schema and catalog.

    Holds a bounded cache of shapes already seen and nothing else; one instance serves one thread.
    """

    def __init__(self, rule: Rule | None = None, catalog: Catalog | None = None) -> None:
        """Prepare the types for a rule.

        Args:
            rule: The source's classification rule, whose tag becomes part of the schema; `FieldRule()` by default.
            catalog: What actions must state; by default nothing is required.

        Raises:
            ConfigError: The rule's tag has the name of a field of the schema.
        """
        tag = (FieldRule() if rule is None else rule).tag
        self._exact: type[Event] = exact_type(tag)
        flat, nested = bounded_types(tag)
        self._flat_list = list[flat]  # type: ignore[valid-type]
        self._nested_list = list[nested]  # type: ignore[valid-type]
        self._catalog = Catalog() if catalog is None else catalog
        self._shapes: dict[_Key, _Shape] = {}

    def judge_line(self, line: bytes) -> Verdict:
        """Judge one line exactly.

        Args:
            line: The event's bytes without a newline (and without the rule's prefix).

        Returns:
            `Accepted`, or a `Rejection` with the first reason found: in reading the text from left to right, then in the schema's
            order of fields, then in the catalog's order of required context.
        """
        value = read_strictly(line)
        if isinstance(value, Rejection):
            return value
        try:
            event = msgspec.convert(value, self._exact)
        except msgspec.ValidationError:
            return explain(value, self._exact)
        if not is_utc_time(value["occurred_at"]):  # type: ignore[index, arg-type, call-overload]
            return explain(value, self._exact)
        entry = self._catalog.entry(event.action)
        missing = entry.missing_context(event.context) if entry else None
        if missing is not None:
            return rejection(Reason.MISSING_CONTEXT, f"context.{missing}")
        return Accepted(event.occurred_at, event.action, event.outcome)

    def judge_lines(self, lines: Sequence[bytes]) -> Judgement:
        """Judge many lines, each as `judge_line` would.

        Args:
            lines: The events' bytes, none with a newline in it; any number.
        """
        tally = _Tally()
        for first in range(0, len(lines), GROUP_LINES):
            self._judge_group(lines[first : first + GROUP_LINES], first, tally)
        times = tally.times
        return Judgement(
            rejected=tally.rejected,
            accepted=tally.accepted,
            occurred_min=min(times) if times else None,
            occurred_max=max(times) if times else None,
            outcomes=dict(tally.outcomes),
        )

    def _judge_group(self, lines: Sequence[bytes], first: int, tally: _Tally) -> None:
        """Prove a group at once; where that fails, its parts; at last single lines exactly."""
        group = self._prove(lines)
        if group is not None:
            self._judge_proven(lines, group, first, tally)
        elif len(lines) > _SUBGROUP_LINES:
            for start in range(0, len(lines), _SUBGROUP_LINES):
                self._judge_group(lines[start : start + _SUBGROUP_LINES], first + start, tally)
        elif len(lines) > 1:
            for index, line in enumerate(lines, first):
                self._judge_group((line,), index, tally)
        else:
            self._judge_exactly(lines[0], first, tally)

    def _judge_exactly(self, line: bytes, index: int, tally: _Tally) -> None:
        verdict = self.judge_line(line)
        if isinstance(verdict, Rejection):
            tally.rejected[index] = verdict
            return
        entry = self._catalog.entry(verdict.action)
        tally.outcomes[entry.category.value if entry else UNCATALOGUED, verdict.outcome] += 1
        tally.times.append(verdict.occurred_at)
        tally.accepted += 1

    def _prove(self, lines: Sequence[bytes]) -> _Group | None:
        """Decode lines into events if nothing about their bytes is doubtful; None if anything is."""
        joined = b"[" + b",".join(lines) + b"]"
        # The lone backslash is found by memchr, far faster than the escape; most groups have none.
        if b"\\" in joined and b"\\u0000" in joined:
            return None
        try:
            # One call a line, not one for the array: it proves that each line is one whole value.
            objects = list(map(orjson.loads, lines))
            written = orjson.dumps(objects)
            if written != joined and not same_but_for_spelling(joined, written):
                return None
            events, nested = self._convert(objects)
        except (ValueError, TypeError, RecursionError, OverflowError, msgspec.MsgspecError):
            return None
        times: list[str] = [value["occurred_at"] for value in objects]
        usual = {time[10] + time[-1] for time in times} == {"TZ"} and max(map(len, times)) <= _LONGEST_Z_TIME_CHARS
        if not usual and not all(map(is_utc_time, times)):
            return None
        return _Group(events, nested=nested, nulls=b":null" in written)

    def _convert(self, objects: list[object]) -> tuple[list[Event], bool]:
        """Convert to the flat type, or else to the nested one; the flag says which."""
        try:
            return msgspec.convert(objects, self._flat_list), False
        except msgspec.ValidationError:
            return msgspec.convert(objects, self._nested_list), True

    def _judge_proven(self, lines: Sequence[bytes], group: _Group, first: int, tally: _Tally) -> None:
        """Check required context and key names of proven events, once per shape."""
        events = group.events
        if group.nested:
            shapes: list[_Key] = [(event.action, event.outcome, *map(_key_shape, event.context.items())) for event in events]
        else:
            shapes = [(event.action, event.outcome, *event.context) for event in events]
        counts = Counter(shapes)
        known = self._known_shapes(counts, shapes, group)
        if group.nulls or any(shape.doubtful for shape in known.values()):
            events = []
            for index, (key, event) in enumerate(zip(shapes, group.events, strict=True)):
                shape = known[key]
                if shape.doubtful or (group.nulls and shape.entry and shape.entry.missing_context(event.context)):
                    counts[key] -= 1
                    self._judge_exactly(lines[index], first + index, tally)
                else:
                    events.append(event)
        for key, count in counts.items():
            if count:
                tally.outcomes[known[key].category, str(key[1])] += count
        tally.times += [event.occurred_at for event in events]
        tally.accepted += len(events)

    def _known_shapes(self, counts: Counter[_Key], keys: list[_Key], group: _Group) -> dict[_Key, _Shape]:
        """Look shapes up, and judge those not seen before by one event of the group."""
        found = {key: shape for key in counts if (shape := self._shapes.get(key))}
        if len(found) == len(counts):
            return found
        for key, event in zip(keys, group.events, strict=True):
            if key in found:
                continue
            entry = self._catalog.entry(event.action)
            missing = entry is not None and entry.missing_context(event.context) is not None
            shape = found[key] = _Shape(
                entry.category.value if entry else UNCATALOGUED, entry, doubtful=missing or _folds_together(event.context)
            )
            # A null may be all that is missing; other events of the same shape must not suffer for it.
            if not (missing and group.nulls) and len(repr(key)) <= _SHAPE_CHARS_KEPT:
                if len(self._shapes) >= _SHAPES_KEPT:
                    self._shapes.clear()
                self._shapes[key] = shape
        return found


def _key_shape(item: tuple[str, object]) -> object:
    """Reduce a member of a context to its key names."""
    key, value = item
    return (key, *value) if isinstance(value, dict) else key


def _folds_together(context: dict[str, object]) -> bool:
    """Tell whether keys of one object in a context of two levels differ by letter case alone."""
    objects = [context, *(value for value in context.values() if isinstance(value, dict))]
    return any(len({key.casefold() for key in names}) != len(names) for names in objects)
