"""Take the header off a line of syslog: RFC 5424, RFC 3164, and the forms that rsyslog and journalctl write into files.

Invariants: a line without a header is all message. Pure.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from .times import TimeReader

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

    from .place import Place

_PRIORITY: Final = r"(?:<(?P<priority>\d{1,3})>)?"
_ISO: Final = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?"
_TRADITIONAL: Final = r"[A-Z][a-z]{2} [ \d]?\d \d\d:\d\d:\d\d(?:\.\d{1,9})?"
_5424: Final = re.compile(
    rf"<(?P<priority>\d{{1,3}})>1 (?P<time>{_ISO}|-) (?P<host>\S{{1,255}}) (?P<program>\S{{1,48}}) (?P<pid>\S{{1,128}}) (?P<id>\S{{1,32}}) "
    r'(?P<data>-|(?:\[(?:[^"\]]|"(?:[^"\\]|\\.)*+")*+\])++)(?: \xef\xbb\xbf| \ufeff| |\Z)',
    re.DOTALL,
)
_OLD: Final = re.compile(
    rf"{_PRIORITY}(?P<time>{_TRADITIONAL}|{_ISO}) (?P<host>\S{{1,255}}) "
    r"(?P<program>[^\s\[\]:]{1,128})(?:\[(?P<pid>[^\]\s]{1,32})\])?:(?: |\Z)"
)


class SyslogHeader:
    """Take headers off."""

    def __init__(self, zone: tzinfo, place: Place) -> None:
        """Keep the zone of the times that state none."""
        # Lines that follow each other have the same second more often than not, and a block was read at one time.
        self._read = lru_cache(maxsize=512)(TimeReader(("rfc3339", "syslog"), zone, {}, place).read)

    def take(self, line: str, observed_at: datetime) -> tuple[dict[str, Any], str]:
        """Return what the header says and the message behind it.

        Returns:
            Any of ``time`` (RFC 3339 in UTC), ``host``, ``program``, ``pid``, ``priority`` (a number); and the message, which is the whole
            line if there is no header.
        """
        found = _5424.match(line) or _OLD.match(line)
        if found is None:
            return {}, line
        said: dict[str, Any] = {}
        host, program, pid, priority, written = found.group("host", "program", "pid", "priority", "time")
        if host != "-":
            said["host"] = host
        if program != "-":
            said["program"] = program
        if pid is not None and pid != "-":
            said["pid"] = pid
        if priority:
            said["priority"] = int(priority)
        time = self._read(written, observed_at)
        if time is not None:
            said["time"] = time
        return said, line[found.end() :]
