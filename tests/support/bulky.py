"""A service whose audit lines hardly compress, so that a few thousand of them fill the smallest spool.

Run as a program it writes numbered lines to standard output with plain writes, every second one audit, and notes in a file how many
bytes the pipe has taken. SIGTERM makes it finish the line it is in, write one audit line more, and exit with the code it was told.
"""

from __future__ import annotations

import argparse
import base64
import os
import random
import signal
import sys
from pathlib import Path
from typing import Final

BLOB_BYTES: Final = 6000


def event_id(number: int) -> str:
    """Return the event_id of the audit line with this number."""
    return f"e{number:08d}"


def audit_line(number: int) -> bytes:
    """Return a valid audit line of about 8 KB, ended by a newline; all have the same length."""
    blob = base64.b64encode(random.Random(number).randbytes(BLOB_BYTES)).decode()
    return (
        f'{{"stream":"audit","event_id":"{event_id(number)}","occurred_at":"2026-01-08T14:32:07Z","actor":{{"type":"user","id":"ada"}},'
        f'"action":"data.export","target":{{"type":"file","id":"f"}},"outcome":"success","context":{{"blob":"{blob}"}}}}\n'
    ).encode()


def other_line(number: int) -> bytes:
    """Return a short line that is not audit, ended by a newline."""
    return b"GET /items/%08d 200\n" % number


def line(number: int) -> bytes:
    """Return the line with this number: the even ones are audit."""
    return other_line(number) if number % 2 else audit_line(number)


def main() -> int:
    """Write lines as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, help="how many lines")
    parser.add_argument("written", type=Path, help="the file that gets the number of lines and bytes written, at the end")
    parser.add_argument("--exit-code", type=int, default=0)
    parser.add_argument("--deaf", action="store_true", help="ignore SIGTERM")
    options = parser.parse_args()
    told = False

    def tell(*_: object) -> None:
        nonlocal told
        told = not options.deaf

    signal.signal(signal.SIGTERM, tell)
    lines = size = 0
    last = False
    while not last and lines < options.count:
        # An even number is an audit line, so the last words are one.
        last = told and lines % 2 == 0
        view = memoryview(line(lines))
        while view:
            count = os.write(1, view)
            size += count
            view = view[count:]
        lines += 1
    options.written.write_text(f"{lines} {size}", encoding="ascii")
    return int(options.exit_code)


if __name__ == "__main__":
    sys.exit(main())
