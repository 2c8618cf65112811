"""A query in words, and as the command that asks it again.

Invariants: the command, typed into a POSIX shell, asks the same; text that cannot be shown is escaped by whoever shows it. This
module is pure.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from .found import zulu
from .pseudonyms import told

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from .filters import Filter, Scope

_PARTS: Final = (
    ("actor", "the actor"),
    ("action", "the action"),
    ("target", "the target"),
    ("outcome", "the outcome"),
    ("service", "the service"),
    ("category", "the category"),
)


def in_words(filter: Filter, scope: Scope) -> str:  # noqa: A002 -- the API's word
    """Return what is asked for as one English sentence without its full stop."""
    parts = [f"{name} is {_any_of(getattr(filter, key))}" for key, name in _PARTS if getattr(filter, key)]
    if filter.text:
        parts.append(f"any text holds {filter.text!r}")
    which = f"events of which {' and '.join(parts)}" if parts else "all events"
    allowed = f"; only what this access allows: {_allowed(scope)}" if scope.services or scope.since or scope.until else ""
    return f"{which}{_range(filter.since, filter.until)}{allowed}"


def as_command(filter: Filter, store: str, more: Sequence[str] = ()) -> str:  # noqa: A002 -- the API's word
    """Return the command line that asks this again, quoted for a POSIX shell.

    Args:
        filter: What is asked for.
        store: The store's name.
        more: Further words, such as ``--correlate context.approval_id``.
    """
    words = ["trailseal", "query", store]
    for key, _ in _PARTS:
        for value in getattr(filter, key):
            words += [f"--{key}", value] if not value.startswith("-") else [f"--{key}={value}"]
    if filter.text:
        words.append(f"--text={filter.text}" if filter.text.startswith("-") else "--text")
        words += [] if filter.text.startswith("-") else [filter.text]
    if filter.since:
        words += ["--since", zulu(filter.since)]
    if filter.until:
        words += ["--until", zulu(filter.until)]
    return shlex.join([*words, *more])


def further_words(
    asked: Filter,
    catalog: Path | None,
    correlate: str | None,
    counterpart: Sequence[str],
) -> tuple[str, ...]:
    """Return the words of a command line that ask for more than a filter says.

    Args:
        asked: The filter.
        catalog: The catalog's file; it is named where the filter asks for a category.
        correlate: The path of the value that counterparts share, if they are wanted.
        counterpart: Globs over the actions that count as counterparts.
    """
    words: list[str] = []
    if asked.category and catalog is not None:
        words += ["--catalog", str(catalog)] if not str(catalog).startswith("-") else [f"--catalog={catalog}"]
    if correlate is not None:
        words += ["--correlate", correlate]
        for glob in counterpart:
            words += ["--counterpart", glob] if not glob.startswith("-") else [f"--counterpart={glob}"]
    return tuple(words)


def _any_of(values: Sequence[str]) -> str:
    return " or ".join(map(told, values))


def _range(since: datetime | None, until: datetime | None) -> str:
    begin = f", at {zulu(since)} or later" if since else ""
    return f"{begin}, before {zulu(until)}" if until else begin


def _allowed(scope: Scope) -> str:
    return f"{_any_of(scope.services) if scope.services else 'all services'}{_range(scope.since, scope.until)}"
