"""Run the examples that a mapping's file carries.

Each is a line with what is expected of it: the whole event, that it passes, or the reason why it is quarantined. They are the mapping's
own tests, and its documentation.

Invariants: what is wrong is said as one line of text for each example; an example that expects nothing is wrong. Pure.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import orjson

from ...errors import ConfigError
from ..classify import AllRule
from ..validate import Validator
from ..verdict import Rejection
from .header import Header
from .mapping import Mapped, Moment, Passed
from .place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .mapping import Mapping, Outcome

OBSERVED_AT: Final = datetime(2026, 6, 30, 12, tzinfo=UTC)
"""When the lines of examples are read that do not say so."""
_KEYS: Final = ("title", "line", "lines", "observed_at", "header", "rule", "event", "client", "passes", "quarantined")
_EXPECTED: Final = ("event", "passes", "quarantined")


def run_examples(mapping: Mapping) -> list[str]:
    """Return what is wrong with a mapping's examples, a line each; empty if nothing is.

    A rule without any example counts as wrong, too: nobody has ever seen it hold.
    """
    wrong: list[str] = []
    shown: set[str] = set()
    validator = Validator(AllRule())
    for number, example in enumerate(mapping.examples):
        place = Place(mapping.where).at("examples").at(number)
        try:
            found = _run(mapping, example, place, validator, shown)
        except ConfigError as error:
            found = error.message
        if found is not None:
            wrong.append(found)
    wrong += [f"{mapping.where}: rules: no example shows the rule {rule}" for rule in mapping.rules if rule not in shown]
    return wrong


def _run(mapping: Mapping, example: object, place: Place, validator: Validator, shown: set[str]) -> str | None:
    members = place.mapping(example, _KEYS)
    title = place.at("title").text(members.get("title"))
    if ("line" in members) == ("lines" in members) or sum(name in members for name in _EXPECTED) != 1:
        raise place.error("needs line or lines, and one of event, passes and quarantined")
    lines = [members["line"]] if "line" in members else [element for _, element in place.at("lines").elements(members["lines"])]
    line = "\n".join(place.text(element) for element in lines).removesuffix("\n").encode("utf-8", "surrogateescape")
    observed_at = OBSERVED_AT
    if "observed_at" in members:
        observed_at = datetime.fromisoformat(str(members["observed_at"]))
    outcome = mapping.map(line, Moment(observed_at, header=_header(members["header"], place.at("header")) if "header" in members else None))
    wrong = _compare(mapping, members, outcome, validator, shown)
    if (
        wrong is None
        and mapping.select.texts
        and not any(text in line for text in mapping.select.texts)
        and not isinstance(outcome, Passed)
    ):
        wrong = "the line has none of the texts of select, so it would never be looked at"
    return None if wrong is None else f"{place.where}: {place.key} ({title}): {wrong}"


def _header(data: object, place: Place) -> Header:
    """Return what a journal says beside a line."""
    names = ("host", "program", "pid", "unit", "uid", "executable")
    return Header(time=OBSERVED_AT, **{name: place.at(name).text(value) for name, value in place.mapping(data, names).items()})


def _compare(mapping: Mapping, members: dict[str, Any], outcome: Outcome, validator: Validator, shown: set[str]) -> str | None:
    if isinstance(outcome, Mapped):
        shown.add(outcome.rule.partition("/")[2])
        return next(_of_event(mapping, members, outcome, validator), None)
    if isinstance(outcome, Passed):
        return None if members.get("passes") is True else "it passed through as an ordinary line"
    said = f"{outcome.reason} ({outcome.detail})"
    return None if members.get("quarantined") == outcome.reason else f"it was quarantined: {said}"


def _of_event(mapping: Mapping, members: dict[str, Any], outcome: Mapped, validator: Validator) -> Iterator[str]:
    """Yield what is wrong with an event."""
    got: Any = orjson.loads(outcome.event)
    if "event" not in members:
        yield f"became an event by the rule {outcome.rule}: {outcome.event.decode()}"
        return
    wanted = members["event"]
    if isinstance(wanted, dict) and "event_id" not in wanted:
        got.pop("event_id")
    if got != wanted:
        yield _difference(wanted, got)
    verdict = validator.judge_line(outcome.event)
    if isinstance(verdict, Rejection):
        yield f"the event would be quarantined: {verdict.reason} {verdict.detail}"
    if "rule" in members and outcome.rule != f"{mapping.name}/{members['rule']}":
        yield f"the rule was {outcome.rule}"
    if "client" in members and list(outcome.client) != members["client"]:
        yield f"client is {list(outcome.client)}"


def _difference(wanted: Any, got: Any, path: str = "") -> str:
    """Say where two values differ first."""
    if isinstance(wanted, dict) and isinstance(got, dict):
        for key in dict.fromkeys((*wanted, *got)):
            at = f"{path}.{key}" if path else str(key)
            if key not in got:
                return f"{at} is missing, expected {wanted[key]!r}"
            if key not in wanted:
                return f"{at} was not expected: {got[key]!r}"
            if wanted[key] != got[key]:
                return _difference(wanted[key], got[key], at)
    return f"{path or 'the event'} is {got!r}, expected {wanted!r}"
