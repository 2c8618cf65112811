"""Measure shipped mappings against samples whose expected values were written by somebody who had not read the mappings.

A sample file says of each line what an auditor who knows the software would expect: a field of the event and a value, a list of
acceptable values, or a regular expression (a text with a character that only expressions have: ``^ $ | * ( [``). ``none`` is: no event
at all. A name ``a|b`` is one field that may stand in either place. `measured.yaml` beside the samples keeps what the first measurement
gave, and says of each miss why.

Invariants: a field is right or wrong, nothing between; a line that should be an event and is not counts each of its fields as wrong; a
line that should be no event is one field. This module must not know why something is missed.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import orjson
import re2
import yaml

from agent.config import read_catalogs
from agent.config.mappings import load_mapping
from agent.events.mappings import Mapped, Moment, Passed
from agent.events.mappings.selection import Selection
from agent.events.validate import Validator
from agent.events.verdict import Accepted

SAMPLES: Final = Path(__file__).parents[3] / "samples" / "mappings"
MEASURED: Final = "measured"
OBSERVED_AT: Final = datetime(2026, 6, 30, 12, tzinfo=UTC)
NOTHING: Final = "none"
NO_EVENT: Final = "no event"
_CATALOGS: Final = (
    "kubernetes",
    "aws-cloudtrail",
    "vault",
    "keycloak",
    "github",
    "okta",
    "ocsf",
    "ecs",
    "web-access",
    "mysql",
    "postgresql",
)
_EXPRESSION: Final = re.compile(r"[\^$|*(\[]|\.[?]")
_FRACTION: Final = re.compile(r"(?<=\.\d{6})\d+")


@dataclass(frozen=True, slots=True)
class Miss:
    """Be one field that is not what was expected.

    Attributes:
        sample: The sample's name.
        field: The field, or ``event`` where there should be none.
        expected: What was expected, as text.
        got: What the mapping gave, as text.
    """

    sample: str
    field: str
    expected: str
    got: str


@dataclass(frozen=True, slots=True)
class Measured:
    """Be the figures of one format.

    Attributes:
        format: Its name.
        samples: How many.
        expected: How many fields were expected.
        misses: What is not right.
        digest: The SHA-256 of the sample file, in hexadecimal.
    """

    format: str
    samples: int
    expected: int
    misses: tuple[Miss, ...]
    digest: str

    @property
    def right(self) -> int:
        """How many fields are right."""
        return self.expected - len(self.misses)


@dataclass(frozen=True, slots=True)
class Explained:
    """Be what is said of the misses of one sample.

    Attributes:
        format: The sample file's name.
        sample: The sample's name.
        fields: The fields that were missed at first.
        verdict: Whose fault it is: ``mapping``, ``expectation``, or ``taste`` if both can be defended.
        now: ``missed``, or ``mended``.
        why: A sentence.
    """

    format: str
    sample: str
    fields: tuple[str, ...]
    verdict: str
    now: str
    why: str


@dataclass(frozen=True, slots=True)
class First:
    """Be what the first measurement of a format gave, before anybody mended anything.

    Attributes:
        digest: The SHA-256 of the sample file when it was frozen.
        right: How many fields were right.
    """

    digest: str
    right: int


def formats() -> list[str]:
    """Return the sample files' names: the formats, and the second sets of some; in the order of the alphabet."""
    return sorted(path.stem for path in SAMPLES.glob("*.yaml") if path.stem != MEASURED)


def first_measurement() -> tuple[dict[str, First], tuple[Explained, ...]]:
    """Return what was measured first, by format, and what is said of each miss."""
    data = yaml.safe_load((SAMPLES / f"{MEASURED}.yaml").read_bytes())
    firsts = {name: First(first["sha256"], first["right"]) for name, first in data["first"].items()}
    return firsts, tuple(Explained(**miss | {"fields": tuple(miss["fields"])}) for miss in data["misses"])


def table() -> list[str]:
    """Return the table of docs/mapping-accuracy.md: its rows, and a last one with the sums."""
    firsts, _ = first_measurement()
    measured = [measure(name) for name in formats()]
    lines = [f"| {m.format} | {m.samples} | {m.expected} | {firsts[m.format].right} | {m.right} |" for m in measured]
    expected = sum(m.expected for m in measured)
    counts = (sum(firsts[m.format].right for m in measured), sum(m.right for m in measured))
    first, now = (f"{count} ({100 * count / expected:.1f} %)" for count in counts)
    return [*lines, f"| **all** | {sum(m.samples for m in measured)} | {expected} | {first} | {now} |"]


def explanation(miss: Explained) -> str:
    """Return the line that docs/mapping-accuracy.md has of a miss.

    Args:
        miss: What is said of it.
    """
    return f"- **{miss.format}**, {miss.sample} (`{'`, `'.join(miss.fields)}`): {miss.verdict}, {miss.now}. {miss.why}"


def not_accepted(name: str) -> list[str]:
    """Return the samples whose event the shipped catalog of the format does not accept.

    Args:
        name: The format, as its sample file is called.
    """
    data = yaml.safe_load((SAMPLES / f"{name}.yaml").read_bytes())
    selection = Selection((load_mapping(data["mapping"]),))
    catalog = next((short for short in _CATALOGS if name.startswith(short)), "linux")
    validator = Validator(selection, read_catalogs((f"shipped:{catalog}",)).catalog())
    events = {sample["name"]: mapped(selection, sample["line"].encode()) for sample in data["samples"]}
    verdicts = {sample: validator.judge_line(orjson.dumps(event)) for sample, event in events.items() if not isinstance(event, str)}
    return [sample for sample, verdict in verdicts.items() if not isinstance(verdict, Accepted)]


@functools.cache
def measure(name: str) -> Measured:
    """Map the samples of a format and compare.

    Args:
        name: The format, as its sample file is called.
    """
    content = (SAMPLES / f"{name}.yaml").read_bytes()
    data = yaml.safe_load(content)
    selection = Selection((load_mapping(data["mapping"]),))
    misses: list[Miss] = []
    expected = 0
    for sample in data["samples"]:
        wanted = sample["expect"]
        event = mapped(selection, sample["line"].encode())
        if wanted == NOTHING:
            expected += 1
            if not isinstance(event, str):
                misses.append(Miss(sample["name"], "event", NO_EVENT, str(value_of(event, "action"))))
            continue
        expected += len(wanted)
        for field, value in wanted.items():
            got = event if isinstance(event, str) else value_of(event, field)
            if isinstance(event, str) or not is_right(field, value, got):
                misses.append(Miss(sample["name"], field, str(value), str(got)))
    return Measured(name, len(data["samples"]), expected, tuple(misses), sha256(content).hexdigest())


def mapped(selection: Selection, line: bytes) -> dict[str, Any] | str:
    """Return the event that a source with one mapping makes of a line or unit; a text saying why there is none.

    Args:
        selection: The mapping.
        line: The line, or the lines of one unit.
    """
    block = line + b"\n"
    why = "no event: no line was selected"
    for start, end in selection.candidates(block):
        outcome = selection.interpret(block[start:end].removesuffix(b"\n"), Moment(OBSERVED_AT))
        if isinstance(outcome, Mapped):
            event: dict[str, Any] = orjson.loads(outcome.event)
            return event
        why = "no event: passed" if isinstance(outcome, Passed) else f"no event: refused, {outcome.reason.value}: {outcome.detail}"
    return why


def value_of(event: dict[str, Any], field: str) -> Any:
    """Return a field's value, by its path; None if it is missing. Of ``a|b``, the first that is there.

    Args:
        event: The event.
        field: One path, or several with bars between.
    """
    for path in field.split("|"):
        value: Any = event
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            return value
    return None


def is_right(field: str, expected: Any, got: Any) -> bool:
    """Tell whether a value is one of those that were expected.

    Args:
        field: The field's name: times are compared as times.
        expected: A value, a list of acceptable ones, or a regular expression.
        got: What the mapping gave; None if nothing.
    """
    if got is None:
        return False
    if isinstance(expected, list):
        return any(is_right(field, value, got) for value in expected)
    if field == "occurred_at":
        return _time(str(expected)) == _time(str(got))
    text = ", ".join(map(str, got)) if isinstance(got, list) else str(got)
    wanted = str(expected)
    if text == wanted:
        return True
    return re2.search(wanted, text) is not None if _is_expression(field, wanted) else False


def _is_expression(field: str, text: str) -> bool:
    # Errors are long sentences of the software: a part that is recognised is enough.
    return field in ("context.error", "context.permission", "context.on", "target.id") or _EXPRESSION.search(text) is not None


def _time(text: str) -> datetime:
    return datetime.fromisoformat(_FRACTION.sub("", text))
