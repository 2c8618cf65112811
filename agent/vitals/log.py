"""Write the agent's own log: one JSON object a line on stderr, with time, level, event and fields.

Invariants: no event's content is ever written: bytes become their length, objects become their type, long texts are cut, and
of a foreign exception only the type and the place are shown. A message that repeats is written once in a while with the
number of times it was held back. Logging never raises and never waits: lines are written by a thread (line_writer.py), and a
stderr that is gone, or that nobody reads, stops nothing; what it costs is counted. This module must not log by itself.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from datetime import datetime
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog

from ..errors import TrailsealError
from .line_writer import FLUSH_SECONDS, LineWriter

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

REPEAT_SECONDS: Final = 10.0
"""How long an equal message is held back after it was written."""

MAX_TEXT_CHARACTERS: Final = 500
"""Longer texts are cut."""

_MAX_REMEMBERED: Final = 1000
_KEY_FIELDS: Final = ("source", "store", "name", "reason", "cause", "path", "key", "logger")
_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_FRAMES: Final = 12
_INTEGER_BITS: Final = 63


class Repeats:
    """Hold back equal messages: same event, level and telling fields within `REPEAT_SECONDS`."""

    def __init__(self, every_seconds: float = REPEAT_SECONDS, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing remembered."""
        self._every = every_seconds
        self._monotonic = monotonic
        self._seen: dict[tuple[object, ...], tuple[float, int, dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def __call__(self, _logger: Any, method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Pass the message on, with `repeated` where equal ones were held back, or drop it."""
        key = (method, fields.get("event"), *(str(fields.get(name)) for name in _KEY_FIELDS))
        now = self._monotonic()
        with self._lock:
            written, held, _ = self._seen.get(key, (-self._every, 0, {}))
            if key in self._seen and now - written < self._every:
                self._seen[key] = (written, held + 1, {**fields, "level": method})
                raise structlog.DropEvent
            self._seen.pop(key, None)
            self._seen[key] = (now, 0, {})
            if len(self._seen) > _MAX_REMEMBERED:
                del self._seen[next(iter(self._seen))]
        if held:
            fields["repeated"] = held
        return fields

    def drain(self) -> list[dict[str, Any]]:
        """Forget everything and return the last of each kind of message held back, with its `repeated` count."""
        with self._lock:
            held = [fields | {"repeated": count} for _, count, fields in self._seen.values() if count]
            self._seen.clear()
        return held


class _Line:
    """Take finished lines from structlog."""

    def __init__(self, descriptor: int) -> None:
        self.writer = LineWriter(descriptor, _note_dropped)

    def msg(self, line: bytes) -> None:
        """Hand one line on to the thread that writes."""
        self.writer.put(line)

    debug = info = warning = error = critical = log = msg


class _FromLibraries(logging.Handler):
    """Pass on what libraries log, as the event `library`."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record's message; arguments of errors are left out, since they may quote data."""
        level = "error" if record.levelno >= logging.ERROR else "warning"
        error = record.exc_info[1] if record.exc_info else None
        fields: dict[str, Any] = {"logger": record.name}
        if error is None:
            fields["detail"] = _message_of(record)
        else:
            # Beyond the first line, asyncio prints the exception with its words.
            fields |= {"detail": str(record.msg).partition("\n")[0], "error": error}
        getattr(get_logger(), level)("library", **fields)


def _message_of(record: logging.LogRecord) -> str:
    """Return the message with its arguments, or without them where they do not fit."""
    try:
        return record.getMessage()
    except (TypeError, ValueError):
        return str(record.msg)


_repeats = Repeats()
_line: _Line | None = None


def configure(level: str = "info", *, descriptor: int = 2, repeats: Repeats | None = None) -> None:
    """Set up the log of this process.

    Args:
        level: debug, info, warning or error.
        descriptor: Where the lines go; stderr by default.
        repeats: What holds back equal messages; a new one with its defaults if None.
    """
    global _repeats, _line  # noqa: PLW0603 - the log belongs to the process, as structlog's own configuration does
    _repeats = Repeats() if repeats is None else repeats
    if _line is not None and _line.writer.descriptor != descriptor:
        _line.writer.close()
        _line = None
    # Lines of the old settings may still wait: one writer for a descriptor keeps the order.
    line = _line = _line or _Line(descriptor)
    structlog.configure(
        processors=[_repeats, _finish, _render],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: line,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, _FromLibraries)]:
        root.removeHandler(handler)
    root.addHandler(_FromLibraries(logging.WARNING))


def flush(wait_seconds: float = FLUSH_SECONDS) -> None:
    """Log what was held back, and wait for the lines to be written, for at most so long.

    Args:
        wait_seconds: How long a reader of the log is waited for; the default is for the end of the process.
    """
    for fields in _repeats.drain():
        level = fields.pop("level", "info")
        getattr(get_logger(), str(level))(fields.pop("event"), **fields)
    if _line is not None and wait_seconds > 0:
        _line.writer.wait(wait_seconds)


def dropped_lines() -> int:
    """Return how many lines of this log were not written, since nobody read them or the descriptor refused."""
    return 0 if _line is None else _line.writer.dropped_lines


def get_logger(**fields: Any) -> structlog.typing.FilteringBoundLogger:
    """Return a logger whose messages carry these fields; `configure` decides, at each message, where they go."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(**fields)
    return logger


def describe(error: BaseException) -> dict[str, Any]:
    """Return an exception as fields: our own and the system's with their message, others by type and place only."""
    fields: dict[str, Any] = {"type": type(error).__qualname__}
    if isinstance(error, TrailsealError):
        fields |= {"message": error.message, "hint": error.hint}
    elif isinstance(error, OSError):
        fields |= {"message": error.strerror, "errno": error.errno, "path": error.filename}
    if not isinstance(error, TrailsealError):
        frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
        fields["at"] = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames]
    return fields


def _finish(_logger: Any, method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put time, level and event first, and make every field safe to show."""
    now = time.time_ns()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 1_000_000_000))
    finished: dict[str, Any] = {
        "time": f"{stamp}.{now // 1000 % 1_000_000:06d}Z",
        "level": {"warn": "warning", "exception": "error", "critical": "error"}.get(method, method),
        "event": fields.pop("event", ""),
    }
    if fields.pop("exc_info", None) and "error" not in fields:
        fields["error"] = sys.exception()
    finished["event"] = _safe(finished["event"])
    return finished | {str(_safe(name)): _safe(value) for name, value in fields.items()}


def _safe(value: Any) -> Any:
    """Return a value that may be shown."""
    shown: Any
    match value:
        case None | bool() | float():
            shown = value
        case int():
            shown = value if value.bit_length() <= _INTEGER_BITS else hex(value)
        case str() | Enum() | PurePath() | datetime():
            text = str(value).encode("utf-8", "backslashreplace").decode()
            shown = text if len(text) <= MAX_TEXT_CHARACTERS else f"{text[:MAX_TEXT_CHARACTERS]}… ({len(text)} characters)"
        case BaseException():
            shown = _safe(describe(value))
        case dict():
            shown = {str(_safe(name)): _safe(each) for name, each in value.items()}
        case list() | tuple():
            shown = [_safe(each) for each in value]
        case bytes() | bytearray() | memoryview():
            shown = f"<{len(value)} bytes>"
        case _:
            shown = f"<{type(value).__qualname__}>"
    return shown


def _render(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> bytes:
    """Write the line."""
    return orjson.dumps(fields)


def _note_dropped(lines: int) -> bytes:
    """Return the line that stands for lines which found no room."""
    return _render(None, "warning", _finish(None, "warning", {"event": "log lines were dropped, as nobody read them", "lines": lines}))
