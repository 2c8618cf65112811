"""A worker for the relay's tests: real stream sources over an intake that is one fsynced file.

Run as a program by the relay's parent. Each append is one line of ``<folder>/trail`` (JSON, bodies as text), so a kill at any moment
leaves whole appends and perhaps a torn last line, which the next start cuts off. `read_trail` gives them back to the test.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agent.events.classify import FieldRule
from agent.events.validate import Validator
from agent.intake import Append, Cursor, SealListeners
from agent.passthrough import PassThrough
from agent.separator import Separator
from agent.sources.stream import StreamSettings, StreamSource, inherited_streams

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence


class FileIntake:
    """An `Intake` whose appends are durable when `submit` returns."""

    def __init__(self, folder: Path) -> None:
        """Read what is durable in the folder."""
        self.listeners: SealListeners = set()
        self._path = folder / "trail"
        self._full = folder / "full"
        self._path.touch()
        raw = self._path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        if whole != raw:
            os.truncate(self._path, len(whole))
        newest: dict[str, Cursor] = {}
        for append in map(_decode, whole.splitlines()):
            newest |= {cursor.file_id: cursor for cursor in append.cursors}
        self._cursors = list(newest.values())
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND)

    def cursors(self, source: str) -> Sequence[Cursor]:
        return [cursor for cursor in self._cursors if cursor.source == source and not cursor.finished]

    def finished(self, source: str) -> Sequence[Cursor]:
        return [cursor for cursor in self._cursors if cursor.source == source and cursor.finished]

    async def submit(self, append: Append) -> Awaitable[None]:
        while append.records and append.gaps != append.records and not self.has_room():
            await asyncio.sleep(0.01)
        os.write(self._fd, msgspec.json.encode(append) + b"\n")
        await asyncio.to_thread(os.fdatasync, self._fd)
        durable = asyncio.get_running_loop().create_future()
        durable.set_result(None)
        return durable

    def has_room(self, size_bytes: int = 0) -> bool:
        return not self._full.exists()

    async def flush(self) -> None:
        """Everything is durable already."""


class _Clock:
    def now(self) -> datetime:
        return datetime.now(UTC)


def _decode(line: bytes) -> Append:
    plain = json.loads(line)
    plain["bodies"] = msgspec.convert(plain["bodies"], bytes)
    return msgspec.convert(plain, Append)


def read_appends(folder: Path) -> list[Append]:
    """Return what is durable."""
    path = folder / "trail"
    return [_decode(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def read_records(folder: Path) -> list[dict[str, Any]]:
    """Return the records in their order, as plain data."""
    return [json.loads(b"{" + body[1:]) for append in read_appends(folder) for body in append.bodies.splitlines()]


async def _main(folder: Path) -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, lambda: None)
    streams = inherited_streams(os.environ)
    (folder / f"worker.{os.getpid()}").touch()
    while (folder / "stuck").exists():
        await asyncio.sleep(0.02)
    sink = PassThrough.to_streams()
    rule = FieldRule()
    settings = StreamSettings(when_full=os.environ.get("WHEN_FULL", "block"), patience_seconds=0.1)  # type: ignore[arg-type]
    intake = FileIntake(folder)
    ended = await asyncio.gather(
        *(
            StreamSource(
                stream,
                Separator(stream.source, rule, Validator(rule), keep_observability=True, has_offsets=False),
                rule.is_audit,
                intake,
                sink,
                _Clock(),
                settings,
            ).run(asyncio.Event())
            for stream in streams
        )
    )
    await sink.close(2.0)
    (folder / "ended").write_text(json.dumps(ended), encoding="utf-8")
    return 0


if __name__ == "__main__":
    if "EXIT_CODE" in os.environ:
        sys.exit(int(os.environ["EXIT_CODE"]))
    sys.exit(asyncio.run(_main(Path(sys.argv[1]))))
