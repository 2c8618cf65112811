"""Say how journalctl is called, and run it.

Invariants: a run is over when `run` is left, whatever ends it: the process is killed and reaped; what journalctl writes to stderr
is kept, the last of it and bounded. journalctl is called in three ways only: to look whether one entry is there, to bring all there
is and end, and to follow. This module must not know what an entry is for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from asyncio.subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from ...config import Journal

_COMMON: Final = ("--no-pager", "--output=export")
_STDERR_BYTES: Final = 400
_DRAIN_BYTES: Final = 1 << 16


def matches(journal: Journal) -> list[str]:
    """Return the match arguments: any of the units, or any of the identifiers (journalctl(1), "+" is a logical OR)."""
    units = [f"_SYSTEMD_UNIT={unit if '.' in unit else unit + '.service'}" for unit in journal.units]
    identifiers = [f"SYSLOG_IDENTIFIER={identifier}" for identifier in journal.identifiers]
    return [*units, *(["+"] if units and identifiers else []), *identifiers]


def arguments(journal: Journal, cursor: str, *, follow: bool, fields: Iterable[str] = ()) -> list[str]:
    """Return the arguments that bring every entry from a cursor on, that entry included; all entries without one.

    Args:
        journal: Which entries of which journal.
        cursor: The journal's name for an entry. If it is gone, entries from its place on are brought.
        follow: Go on with what is written from now on.
        fields: Which ones are wanted besides the message; one that is always there may be among them.
    """
    words = [*_COMMON, f"--output-fields={','.join(['MESSAGE', *fields])}"]
    if journal.directory is not None:
        words.append(f"--directory={journal.directory}")
        if follow:
            # Following shows the newest boot alone, which in a folder of collected journals is anybody's; merging shows all.
            words.append("--merge")
    if follow:
        words += ["--follow", "--no-tail"]
    if cursor:
        words.append(f"--cursor={cursor}")
    return [*words, *matches(journal)]


def probe(journal: Journal, cursor: str) -> list[str]:
    """Return the arguments that bring one entry, unfiltered and without its fields: that of the cursor, if it is there."""
    place = [] if journal.directory is None else [f"--directory={journal.directory}"]
    return [*_COMMON, "--output-fields=_BOOT_ID", "--lines=1", *place, f"--cursor={cursor}"]


class Run:
    """One process of journalctl.

    Attributes:
        complaint: The last line it wrote to stderr; empty if none.
    """

    def __init__(self, process: Process, on_complaint: Callable[[str], None]) -> None:
        """Watch a process that was just started."""
        self.complaint = ""
        self._process = process
        self._on_complaint = on_complaint
        self._listening = asyncio.ensure_future(self._listen())

    async def read(self, size: int) -> bytes:
        """Return the next bytes of its output, at most so many; none at its end."""
        stdout = self._process.stdout
        return b"" if stdout is None else await stdout.read(size)

    async def _listen(self) -> None:
        stderr = self._process.stderr
        while stderr is not None and (text := await stderr.read(_STDERR_BYTES)):
            lines = [line.strip() for line in text.decode("utf-8", "replace").splitlines()]
            self.complaint = next((line for line in reversed(lines) if line), self.complaint)
            self._on_complaint(self.complaint)

    async def ended(self) -> int:
        """Wait for its end and return its exit code."""
        await self._listening
        return await self._process.wait()

    async def close(self) -> None:
        """Kill it if it lives, and reap it."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        # A pipe that nobody reads to its end would stay open.
        while await self.read(_DRAIN_BYTES):
            pass
        await self._listening
        await self._process.wait()


@contextlib.asynccontextmanager
async def run(
    program: Sequence[str], words: Sequence[str], chunk_bytes: int, on_complaint: Callable[[str], None] = lambda _text: None
) -> AsyncIterator[Run]:
    """Start journalctl for the time of the block.

    Args:
        program: The words that start it.
        words: Its arguments.
        chunk_bytes: How much of its output is read ahead, about.
        on_complaint: Called with what it writes to stderr.

    Raises:
        OSError: It cannot be started.
    """
    environ = os.environ | {"LC_ALL": "C", "SYSTEMD_COLORS": "0"}
    # A session of its own: a Ctrl-C on the terminal is for the agent, which then still reads what is there.
    process = await asyncio.create_subprocess_exec(
        *program, *words, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, limit=chunk_bytes, env=environ, start_new_session=True
    )
    found = Run(process, on_complaint)
    try:
        yield found
    finally:
        await asyncio.shield(found.close())
