"""The expected file: which trails there have to be, because nothing inside a trail proves that another exists.

Invariants: an unknown key, a wrong type or an empty list is an error with file, line and key. This module must not look at a store.

    trails:
      - {namespace: demo, service: payments, instance: "web-*", since: 2026-01-01, max_silence: 5m, live: 2}
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from ..errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from ..trail.layout import Origin

_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_PARTS: Final = ("namespace", "service", "instance")
_KEYS: Final = (*_PARTS, "since", "max_silence", "live")


def parse_duration(text: str) -> timedelta:
    """Read a duration such as ``90s``, ``5m``, ``36h`` or ``2d``.

    Raises:
        ValueError: It has another form.
    """
    found = _DURATION.fullmatch(text.strip())
    if not found:
        raise ValueError(f"{text!r} is not a duration such as 90s, 5m, 36h or 2d")
    try:
        return timedelta(seconds=float(found[1]) * _UNITS[found[2]])
    except OverflowError as error:
        raise ValueError(f"{text!r} is too long a duration") from error


@dataclass(frozen=True, slots=True)
class ExpectedTrail:
    """One entry: at least one instance must match, and all that match must satisfy it.

    Attributes:
        namespace: A name, or a pattern with ``*``, ``?`` and ``[…]``.
        service: As above.
        instance: As above.
        since: The instance's history must reach back to this time, if given.
        max_silence: The greatest age its newest seal may have unless the trail was closed, if given.
        line: Where the entry stands in the file.
        live: How many instances have to be at work when somebody watches, 1 or more, if given.
    """

    namespace: str
    service: str
    instance: str
    since: datetime | None
    max_silence: timedelta | None
    line: int
    live: int | None = None

    def matches(self, origin: Origin) -> bool:
        """Tell whether a trail is one of those the entry means."""
        return (
            fnmatchcase(origin.namespace, self.namespace)
            and fnmatchcase(origin.service, self.service)
            and fnmatchcase(origin.instance, self.instance)
        )

    def __str__(self) -> str:
        """Return the three patterns as an origin without its epoch."""
        return f"{self.namespace}/{self.service}/*/{self.instance}"


def load_expected(path: Path) -> tuple[ExpectedTrail, ...]:
    """Read an expected file.

    Raises:
        ConfigError: It cannot be read, or something in it is not as the module's docstring says.
    """
    try:
        return parse_expected(path.read_text("utf-8-sig"), str(path))
    except OSError as error:
        raise ConfigError(f"cannot read the expected file: {error.strerror}", file=str(path), hint="Check the path.") from error
    except UnicodeDecodeError as error:
        raise ConfigError("the expected file is not UTF-8 text", file=str(path), hint="Save it as UTF-8.") from error


def parse_expected(text: str, file: str) -> tuple[ExpectedTrail, ...]:
    """Read an expected file's text; see `load_expected`.

    Args:
        text: The YAML text.
        file: Its path as the user wrote it, for messages.

    Raises:
        ConfigError: Something in it is not as the module's docstring says.
    """
    try:
        root = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"not YAML: {error.problem}", file=file, line=line, hint="Correct the line.") from error
    except YAMLError as error:
        raise ConfigError("not YAML", file=file, line=1, hint="Write a mapping with the key trails.") from error
    if not isinstance(root, CommentedMap) or not isinstance(root.get("trails"), CommentedSeq) or not root["trails"]:
        raise ConfigError("a list of expected trails is missing", file=file, line=1, key="trails", hint=_hint())
    for key in root:
        if key != "trails":
            raise ConfigError("unknown key", file=file, line=root.lc.key(key)[0] + 1, key=str(key), hint=_hint())
    return tuple(_entry(root["trails"], index, file) for index in range(len(root["trails"])))


def _hint() -> str:
    return f"Write `trails:` and below it entries with the keys {', '.join(_KEYS)}."


def _entry(entries: CommentedSeq, index: int, file: str) -> ExpectedTrail:
    entry, place = entries[index], f"trails[{index}]"
    line = entries.lc.item(index)[0] + 1
    if not isinstance(entry, CommentedMap):
        raise ConfigError("not a mapping", file=file, line=line, key=place, hint=_hint())
    for key in entry:
        if key not in _KEYS:
            raise ConfigError("unknown key", file=file, line=entry.lc.key(key)[0] + 1, key=f"{place}.{key}", hint=_hint())
    names = {part: _name(entry, part, file, line, place) for part in _PARTS}
    return ExpectedTrail(
        **names, since=_since(entry, file, place), max_silence=_silence(entry, file, place), line=line, live=_live(entry, file, place)
    )


def _name(entry: CommentedMap, part: str, file: str, line: int, place: str) -> str:
    if part not in entry:
        raise ConfigError("is missing", file=file, line=line, key=f"{place}.{part}", hint='Give a name, or "*" for any.')
    value: Any = entry[part]
    if not isinstance(value, str) or not value or "/" in value:
        raise ConfigError(
            "not a name or pattern", file=file, line=entry.lc.value(part)[0] + 1, key=f"{place}.{part}", hint="Quote it if it is a number."
        )
    return str(value)


def _since(entry: CommentedMap, file: str, place: str) -> datetime | None:
    value: Any = entry.get("since")
    if value is None:
        return None
    try:
        if isinstance(value, datetime):
            moment = datetime.fromisoformat(value.isoformat())
        else:
            moment = datetime.fromisoformat(value.isoformat() if isinstance(value, date) else value)
    except (TypeError, ValueError) as error:
        line = entry.lc.value("since")[0] + 1
        raise ConfigError(
            "not a date or time", file=file, line=line, key=f"{place}.since", hint="Write 2026-01-31 or an RFC 3339 time."
        ) from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _silence(entry: CommentedMap, file: str, place: str) -> timedelta | None:
    value: Any = entry.get("max_silence")
    if value is None:
        return None
    try:
        return parse_duration(str(value))
    except ValueError as error:
        line = entry.lc.value("max_silence")[0] + 1
        raise ConfigError(str(error), file=file, line=line, key=f"{place}.max_silence", hint="Write for example 5m.") from error


def _live(entry: CommentedMap, file: str, place: str) -> int | None:
    value: Any = entry.get("live")
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    line = entry.lc.value("live")[0] + 1
    raise ConfigError("not a number of instances, 1 or more", file=file, line=line, key=f"{place}.live", hint="Write for example 2.")
