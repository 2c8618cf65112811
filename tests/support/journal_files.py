"""Write real journal files, with systemd's own program, from given entries."""

from __future__ import annotations

import struct
import subprocess
from typing import TYPE_CHECKING, Final

from tests.support import loggen

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

WRITER: Final = "/lib/systemd/systemd-journal-remote"
BOOT: Final = "3b0c2d1e5f604a7b8c9d0e1f2a3b4c5d"
UNIT: Final = "payments.service"
_FIRST_MICROSECONDS: Final = 1_767_880_000_000_000


def entry(number: int, message: bytes | None, *, unit: str = UNIT, identifier: str = "payments", boot: str = BOOT) -> bytes:
    """Return one entry in the export format; entries are in the order of their numbers.

    Args:
        number: Its place in time, in milliseconds.
        message: Its `MESSAGE`; None for an entry without.
        unit: The systemd unit that wrote it.
        identifier: Its syslog identifier.
        boot: The boot in which it was written, 32 hex digits.
    """
    fields = [
        b"__REALTIME_TIMESTAMP=%d" % (_FIRST_MICROSECONDS + number * 1000),
        b"__MONOTONIC_TIMESTAMP=%d" % (1_000_000 + number * 1000),
        f"_BOOT_ID={boot}".encode(),
        f"_SYSTEMD_UNIT={unit}".encode(),
        f"SYSLOG_IDENTIFIER={identifier}".encode(),
    ]
    if message is not None:
        fields.append(b"MESSAGE\n" + struct.pack("<Q", len(message)) + message if message else b"MESSAGE=")
    return b"\n".join([*fields, b"", b""])


def audit_entries(first: int, last: int, run: str = "run") -> bytes:
    """Return the entries of the audit lines `first` to `last` - 1."""
    return b"".join(entry(number, loggen.audit_line(number, run).rstrip(b"\n")) for number in range(first, last))


def write(folder: Path, entries: bytes | Iterable[bytes], name: str = "a") -> Path:
    """Append entries to a journal file of a folder; return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.journal"
    data = entries if isinstance(entries, bytes) else b"".join(entries)
    subprocess.run([WRITER, "-o", str(path), "-"], input=data, check=True, capture_output=True, timeout=60)
    return path
