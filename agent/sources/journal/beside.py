"""Read the fields of a journal entry that say who wrote it and when (systemd.journal-fields(7)).

A field whose name begins with an underscore is journald's own word; a writer cannot give it. `SYSLOG_IDENTIFIER` and `SYSLOG_PID` are
what the writer calls itself.

Invariants: no value raises an exception; one that is not of the kind it should be is not known. Pure. Only sources with a mapping load
this module, and the mappings with it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from ...events.mappings.header import Header

if TYPE_CHECKING:
    from collections.abc import Mapping

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SENT: Final = b"_SOURCE_REALTIME_TIMESTAMP"
_RECEIVED: Final = b"__REALTIME_TIMESTAMP"
_HOST: Final = b"_HOSTNAME"
_PROGRAM: Final = b"SYSLOG_IDENTIFIER"
_PID: Final = b"_PID"
_SAID_PID: Final = b"SYSLOG_PID"
_UNIT: Final = b"_SYSTEMD_UNIT"
_UID: Final = b"_UID"
_EXECUTABLE: Final = b"_EXE"

FIELDS: Final = frozenset({_SENT, _RECEIVED, _HOST, _PROGRAM, _PID, _SAID_PID, _UNIT, _UID, _EXECUTABLE})
"""The names of the fields that are looked at."""


def header_of(fields: Mapping[bytes, bytes]) -> Header:
    """Return what fields of one entry say.

    Args:
        fields: Values by name.
    """
    return Header(
        time=_time(fields.get(_SENT)) or _time(fields.get(_RECEIVED)),
        host=_text(fields.get(_HOST)),
        program=_text(fields.get(_PROGRAM)),
        pid=_text(fields.get(_PID)) or _text(fields.get(_SAID_PID)),
        unit=_text(fields.get(_UNIT)),
        uid=_text(fields.get(_UID)),
        executable=_text(fields.get(_EXECUTABLE)),
    )


def _text(value: bytes | None) -> str | None:
    return value.decode("utf-8", "replace") if value else None


def _time(value: bytes | None) -> datetime | None:
    """Return the time of a number of microseconds."""
    if value is None or not value.isdigit():
        return None
    try:
        return _EPOCH + timedelta(microseconds=int(value))
    except OverflowError:
        return None
