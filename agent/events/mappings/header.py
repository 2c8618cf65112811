"""Hold what came beside a line: the fields that a journal keeps of an entry, or a line's own syslog header.

Invariants: what is not known is None, never an empty text. Pure; it must not know where a line came from.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 -- dataclass annotations are resolved by documentation and type tools


@dataclass(frozen=True, slots=True)
class Header:
    """Say who wrote a line, where and when, as far as something beside the line tells.

    From the journal, `host`, `pid`, `unit`, `uid` and `executable` are journald's own words; `program` is what the writer called itself.

    Attributes:
        time: When it was written, aware, in UTC.
        host: The host's name.
        program: What the writer calls itself (syslog's tag without the process number).
        pid: The process number, as text.
        unit: The systemd unit.
        uid: The user number, as text.
        executable: The path of the program that wrote it.
    """

    time: datetime | None = None
    host: str | None = None
    program: str | None = None
    pid: str | None = None
    unit: str | None = None
    uid: str | None = None
    executable: str | None = None
