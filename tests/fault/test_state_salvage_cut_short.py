"""A salvage that does not come to its end: a full disk, a kill between its renames; what `check` says, and the next start."""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from agent.errors import SpoolFullError
from agent.spool import Spool, aside
from agent.spool.salvage import MOST_ATTEMPTS
from tests.support import loggen
from tests.support.agent_process import Site, trailseal
from tests.support.spools import change, event_numbers, fill, opened, waiting_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SPOIL = "UPDATE blocks SET bodies = x'00' WHERE id = (SELECT max(id) FROM blocks)"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system in memory; tests of disks run as root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", str(folder)], check=True)
    with ExitStack() as stack:
        stack.callback(subprocess.run, ["umount", str(folder)], check=True)
        yield folder


def fill_up(folder: Path, leave_bytes: int) -> None:
    """Take all the room of a disk but for so much."""
    with (folder / "filler").open("wb", buffering=0) as filler:
        try:
            while filler.write(bytes(1 << 20)):
                pass
        except OSError:
            filler.truncate(filler.tell() - leave_bytes)


@pytest.mark.parametrize("leave_bytes", [0, 64 << 10, 1 << 20])
async def test_a_salvage_without_room_changes_nothing_however_often_it_is_tried_and_then_succeeds(
    small_disk: Path, leave_bytes: int
) -> None:
    state = small_disk / "state"
    await fill(state, batches=1, blocks=6, padding=600_000)
    await asyncio.to_thread(change, state, SPOIL)
    (state / "suspect").write_text("a block is not what was spooled", encoding="utf-8")
    (state / "ballast").unlink()
    (state / aside.ATTEMPTS_FILE).write_bytes(b"." * (MOST_ATTEMPTS - 1))
    fill_up(small_disk, leave_bytes)
    for _ in range(3):
        with pytest.raises(SpoolFullError) as refused:
            async with opened(state):
                pass
        assert (refused.value.exit_code, "room" in refused.value.hint) == (1, True)
        assert not (state / aside.DAMAGED_FOLDER).exists()
        assert (state / "spool.db").exists()
    (small_disk / "filler").unlink()
    async with opened(state) as (spool, _):
        lines = await waiting_lines(spool)
    assert event_numbers(lines) == list(range(12))
    assert any(b'"cause":"state_lost"' in line and b"lost are 1 blocks or batches" in line for line in lines)


async def test_a_sound_state_on_a_disk_without_any_room_starts_and_holds_what_it_held(small_disk: Path) -> None:
    state = small_disk / "state"
    await fill(state, batches=1, blocks=2)
    fill_up(small_disk, 0)
    spool = Spool(state, 1 << 26)
    await spool.open()
    assert (spool.lost, event_numbers(await waiting_lines(spool))) == (None, list(range(6)))
    await spool.close()
    (small_disk / "filler").unlink()
    async with opened(state) as (spool, _):
        assert (spool.lost, event_numbers(await waiting_lines(spool))) == (None, list(range(6)))


def interrupted(site: Site, monkeypatch: pytest.MonkeyPatch, renames: int) -> None:
    """Salvage the site's state, and die after so many of the renames that put the damaged file aside and the new one in its place."""
    left = [renames]
    real = type(site.state).rename

    def dying(path: Path, target: Path) -> Path:
        if path.name == aside.SALVAGED_FILE or aside.DAMAGED_FOLDER in target.parts:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
        return real(path, target)

    async def start() -> None:
        async with opened(site.state):
            pass

    with monkeypatch.context() as patched:
        patched.setattr(type(site.state), "rename", dying)
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(start())


@pytest.mark.slow
@pytest.mark.parametrize("renames", [0, 1])
def test_check_tells_a_salvage_that_was_cut_short_from_an_empty_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    site = Site(tmp_path)
    site.log.write_bytes(loggen.block(0, 500))
    with site.run() as agent:
        agent.ready()
        site.wait_drained(site.log.stat().st_size)
        assert agent.stop() == 0, agent.log
    change(site.state, "UPDATE meta SET value = x'00' WHERE key = 'head'")
    interrupted(site, monkeypatch, renames)
    assert (site.state / aside.SALVAGED_FILE).exists()
    assert (site.state / "spool.db").exists() == (renames == 0)
    answer = trailseal("check", "--config", site.config)
    assert answer.returncode == 0, answer.stdout
    assert "a damaged spool was being replaced; the next start goes on with that" in answer.stdout
    assert "a new trail will be opened" not in answer.stdout
    with site.run() as agent:
        agent.ready()
        assert agent.stop() == 0, agent.log
    assert sorted(set(site.trails.event_ids())) == sorted(loggen.event_ids(500))
    assert "state_lost" in [gap["cause"] for gap in site.trails.kind("gap")]


@pytest.mark.slow
def test_check_calls_a_spool_that_is_gone_a_loss_and_not_a_new_trail(tmp_path: Path) -> None:
    site = Site(tmp_path)
    with site.run() as agent:
        agent.ready()
        assert agent.stop() == 0, agent.log
    (site.state / "spool.db").unlink()
    answer = trailseal("check", "--config", site.config)
    assert answer.returncode == 1
    assert "is gone, and what lies beside it says that there was one" in answer.stdout
