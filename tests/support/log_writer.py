"""Write made-up log lines to a file as a daemon does: append, and open the file anew when told to by SIGUSR1.

Run as a program. The lines are those of `loggen`, so whoever reads the trail knows what must be in it. One write(2) carries
a few whole lines; the process id goes to a file, for the `postrotate` of logrotate.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support import loggen

PREPARED_LINES: Final = 2000


class Writer:
    """Hold the log open, and open it anew before the next write after a SIGUSR1."""

    def __init__(self, path: Path) -> None:
        """Open the log."""
        self.path = path
        self.reopened = 0
        self._told = False
        self._fd = self._open()
        signal.signal(signal.SIGUSR1, self._tell)

    def _tell(self, _number: int, _frame: object) -> None:
        self._told = True

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def write(self, data: bytes) -> None:
        """Append some whole lines."""
        if self._told:
            self._told = False
            self.reopened += 1
            os.close(self._fd)
            self._fd = self._open()
        while data:
            data = data[os.write(self._fd, data) :]


def main() -> int:
    """Write lines as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, help="how many lines")
    parser.add_argument("--file", type=Path, required=True, help="the log")
    parser.add_argument("--pid-file", type=Path, required=True, help="where the process id is written")
    parser.add_argument("--lines-a-write", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.0, help="spread the lines over this time; 0 is full speed")
    parser.add_argument("--first", type=int, default=0, help="the number of the first line")
    options = parser.parse_args()
    writer = Writer(options.file)
    options.pid_file.write_text(str(os.getpid()), encoding="ascii")
    last = options.first + options.count
    started = time.monotonic()
    for first in range(options.first, last, PREPARED_LINES):
        lines = [loggen.line(number) for number in range(first, min(first + PREPARED_LINES, last))]
        for index in range(0, len(lines), options.lines_a_write):
            writer.write(b"".join(lines[index : index + options.lines_a_write]))
        due = started + options.seconds * (first + len(lines) - options.first) / options.count
        while (ahead := due - time.monotonic()) > 0:
            time.sleep(ahead)
    # The interpreter gives a handler up before the process ends; logrotate may still signal then.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    return 0


if __name__ == "__main__":
    sys.exit(main())
