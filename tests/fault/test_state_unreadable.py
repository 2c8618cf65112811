"""A spool that cannot be read for a moment: no damage, nothing is set aside, and the next start goes on with all of it."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.spools import change, event_numbers, fill, opened, waiting_lines

if TYPE_CHECKING:
    from pathlib import Path

START: Final = """
import asyncio, sys
from pathlib import Path
from agent.errors import TrailsealError
from agent.spool import Spool, StateLock

async def start(state):
    with StateLock(state):
        spool = Spool(state, 1 << 26)
        try:
            await spool.open()
            print("lost" if spool.lost else "opened")
        finally:
            await spool.close()

try:
    asyncio.run(start(Path(sys.argv[1])))
except TrailsealError as error:
    print(type(error).__name__, error.message)
    sys.exit(error.exit_code)
"""
"""What an agent's start does to its state, and nothing else."""
ERRORS: Final = ("EIO", "ENOMEM", "EINTR", "EACCES")
EVENTS: Final = list(range(12))


async def begin(state: Path) -> None:
    await fill(state, batches=3, blocks=3, padding=30_000)


def started(state: Path, trace: Path, *fault: str) -> tuple[str, int]:
    """Start over a state of which one call fails; return the answer's first word and the exit code."""
    paths = [word for name in ("spool.db", "spool.db-wal", "trail", "suspect", "lock", "") for word in ("-P", str(state / name))]
    call, error, when = fault
    tracer = ["strace", "-f", "-qq", "-o", str(trace), *paths, "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}"]
    done = subprocess.run([*tracer, sys.executable, "-c", START, str(state)], capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.split(maxsplit=1)[0] if done.stdout else done.stderr, done.returncode


async def check_whole(state: Path) -> None:
    assert not (state / "damaged").exists(), "what cannot be read is no damage"
    async with opened(state) as (spool, _):
        assert spool.lost is None
        assert event_numbers(await waiting_lines(spool)) == EVENTS


@pytest.mark.slow
@pytest.mark.parametrize("call", ["pread64", "openat", "read"])
@pytest.mark.parametrize("error", ERRORS)
async def test_no_single_call_that_fails_at_the_start_makes_a_good_state_a_damaged_one(tmp_path: Path, call: str, error: str) -> None:
    state, trace = tmp_path / "state", tmp_path / "trace"
    await begin(state)
    answers: set[tuple[str, int]] = set()
    number = 1
    while True:
        answer = await asyncio.to_thread(started, state, trace, call, error, str(number))
        if "INJECTED" not in trace.read_text():
            break
        answers.add(answer)
        number += 1 if number < 12 else 7  # The calls at the beginning differ from one another; later ones read page after page.
    assert number > 1, "no call was met"
    # SQLite calls some reads that fail in the middle of a statement damage; that is found to be untrue at the next start.
    assert answers <= {("opened", 0), ("DurabilityError", 1), ("DamagedStateError", 1), ("StateError", 2)}, answers
    assert error == "EACCES" or ("StateError", 2) not in answers, "what may pass is tried again by a supervisor"
    await check_whole(state)


@pytest.mark.parametrize("error", ["EIO", "ENOMEM"])
async def test_a_disk_that_never_answers_is_asked_again_at_each_start(tmp_path: Path, error: str) -> None:
    state = tmp_path / "state"
    await begin(state)
    before = hashlib.sha256((state / "spool.db").read_bytes()).digest()
    for _ in range(3):
        assert await asyncio.to_thread(started, state, tmp_path / "trace", "pread64", error, "4+") == ("DurabilityError", 1)
    assert hashlib.sha256((state / "spool.db").read_bytes()).digest() == before
    await check_whole(state)


@pytest.mark.slow
async def test_a_read_that_fails_during_a_salvage_loses_no_sound_row(tmp_path: Path) -> None:
    for number in range(46, 74, 4):
        state = tmp_path / str(number)
        await begin(state)
        await asyncio.to_thread(change, state, "UPDATE blocks SET bodies = x'00' WHERE id = (SELECT max(id) FROM blocks)")
        await asyncio.to_thread(started, state, tmp_path / "trace", "pread64", "EIO", str(number))
        async with opened(state) as (spool, _):
            lines = await waiting_lines(spool)
        assert any(b"lost are 1 blocks or batches" in line for line in lines)
        assert event_numbers(lines) == EVENTS[:-2]


async def test_a_suspicion_of_which_nothing_is_found_is_dropped_and_believed_the_second_time(tmp_path: Path) -> None:
    state = tmp_path / "state"
    await begin(state)
    (state / "suspect").write_text("a block is not what was spooled", encoding="utf-8")
    await check_whole(state)
    assert not (state / "suspect").exists()
    (state / "suspect").write_text("a block is not what was spooled", encoding="utf-8")
    async with opened(state) as (spool, _):
        assert event_numbers(await waiting_lines(spool)) == EVENTS
    assert (state / "damaged").exists()
    async with opened(state):
        assert not (state / "suspect.unfounded").exists()


async def test_a_suspicion_long_ago_does_not_count(tmp_path: Path) -> None:
    state = tmp_path / "state"
    await begin(state)
    for _ in range(2):
        (state / "suspect").write_text("a block is not what was spooled", encoding="utf-8")
        await check_whole(state)
        await check_whole(state)
