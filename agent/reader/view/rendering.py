"""Templates to pages: everything that is put in is escaped.

Invariants: escaping is on for every template, and no template turns it off; a name that a template needs and was not given is an
error; characters that show nothing or turn the reading direction are shown as escapes, so that a text looks like what it is. This module
must not know what a page is about.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ... import __version__
from ..report import printable
from .parameters import exactly, pairs

TEMPLATES: Final = Path(__file__).with_name("templates")
STATIC: Final = Path(__file__).with_name("static")
_MANY_CHARACTERS: Final = 200
_NOTHING: Final = "\N{EN DASH}"


@cache
def environment() -> Environment:
    """Return the templates, read once."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "shown": shown,
        "short": short,
        "time": shown_time,
        "number": number,
        "age": shown_age,
        "query": query,
        "exactly": exactly,
        "pairs": pairs,
    }
    made.globals["version"] = __version__
    return made


def render(template: str, **values: Any) -> str:
    """Return a page as HTML."""
    return environment().get_template(template).render(**values)


def shown(value: object) -> str:
    """Return a text from a store as it can be shown: what cannot be seen is written as an escape, but for line breaks."""
    return "" if value is None else "\n".join(printable(line) for line in str(value).split("\n"))


def short(value: object) -> str:
    """Return a text as it fits into a cell."""
    text = printable("" if value is None else str(value))
    return text if len(text) <= _MANY_CHARACTERS else f"{text[: _MANY_CHARACTERS - 1]}…"


def shown_time(moment: datetime | None, *, exact: bool = False) -> str:
    """Return a time in UTC; one without a zone is in UTC already, as in the index."""
    if moment is None:
        return _NOTHING
    plain = moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    return f"{plain.isoformat(sep=' ', timespec='microseconds' if exact else 'seconds')} UTC"


def number(value: float | None) -> str:
    """Return a count with separators."""
    return _NOTHING if value is None else f"{value:,}"


def shown_age(seconds: float | None) -> str:
    """Return a duration in the two largest units that fit."""
    if seconds is None:
        return _NOTHING
    left = abs(seconds)
    if left < 60:
        return f"{seconds:.3g} s"
    days, left = divmod(int(left), 86_400)
    hours, left = divmod(left, 3600)
    minutes = left // 60
    parts = [f"{count} {unit}" for count, unit in ((days, "d"), (hours, "h"), (minutes, "min")) if count]
    return ("-" if seconds < 0 else "") + " ".join(parts[:2])


def query(pairs: list[tuple[str, str]]) -> str:
    """Return a query of pairs, encoded, for an address within this site."""
    return urlencode(pairs)
