"""Say why a line is no event without the keys of it that may be secrets.

A detail names a place: ``context.users.alice.n``, after the name of a mapping, or of its rule, where one read the line. Keys are the
line's own, and may hold dots, so that nobody can say with certainty where one ends.

Invariants: a key that was cut off in the middle is not shown, as no pattern would know it; with path rules, nothing is shown of or behind a
key that a ``*`` stands for, or that lies below a rule's place. Pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .rules import PathRule

CUT: Final = "…"
_HIDDEN: Final = "*"
_READER: Final = re.compile(r"[a-z0-9_-]{1,64}(?:/[a-z0-9_-]{1,64})?: ")
"""Matches the name of a mapping, or of its rule, before what it says."""
_NAME: Final = re.compile(r"@?[\w /-]{0,64}", re.ASCII)
"""Matches what a format's own names look like, and what is said without naming a place."""


def without_partial(detail: str) -> str:
    """Return a detail without the place it names, where that was too long to be kept whole.

    A secret may hold any character, so there is none up to which a shortened place could be kept.
    """
    if not detail.endswith(CUT):
        return detail
    reader = _READER.match(detail)
    return f"{reader[0] if reader else ''}{CUT}"


def without_keys(detail: str, paths: Sequence[PathRule]) -> str:
    """Return a detail without the keys that path rules are about.

    Outside of an event's context only the first name is shown: in a line as another program wrote it, what stands below may be anything.

    Args:
        detail: What `without_partial` returned.
        paths: The source's path rules.
    """
    reader = _READER.match(detail)
    start = reader.end() if reader else 0
    segments = detail[start:].split(".")
    if not _NAME.fullmatch(segments[0]) and segments[0] != CUT:
        return detail[:start] + _HIDDEN
    if segments[0] in {"actor", "target"}:
        # Of these the schema knows every name but one that it refuses.
        return detail if segments[1:] in (["type"], ["id"], ["session"], []) else f"{detail[:start]}{segments[0]}.{_HIDDEN}"
    shown = segments[:1]
    rules = [rule.path for rule in paths if rule.path[0] == segments[0] == "context"]
    for depth, segment in enumerate(segments[1:], 1):
        if segments[0] != "context" or any(len(path) <= depth or path[depth] == _HIDDEN for path in rules):
            shown.append(_HIDDEN)
            break
        shown.append(segment)
        rules = [path for path in rules if path[depth] == segment.casefold()]
    return detail[:start] + ".".join(shown)
