"""Rotation while no agent runs: the next one finds every file by its content, goes on in it, and states what is gone."""

from __future__ import annotations

import gzip
import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support import loggen
from tests.support.agent_process import Site
from tests.support.oracle import assert_once, assert_stated, drain, wait_for, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

READ, UNREAD = 200, 300


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def keep(site: Site) -> Iterator[Callable[[Path], None]]:
    """Hold files open, so that the file system cannot use their inodes again as soon as they are deleted."""
    with ExitStack() as stack:

        def hold(path: Path) -> None:
            stack.enter_context(path.open("rb"))

        yield hold


def read_and_kill(site: Site) -> list[str]:
    """Have an agent read the log's first lines and die; then more lines are written that nobody has read."""
    ids = write(site.log, 0, READ)
    with site.run() as agent:
        wait_for(site, agent, ids)
        agent.kill()
    return ids


def go_on(site: Site, ids: list[str]) -> None:
    """Start the next agent and let it bring in what there is."""
    with site.run() as agent:
        drain(site, agent, ids)


def compress(path: Path) -> None:
    with gzip.open(path.with_name(path.name + ".gz"), "wb") as packed:
        packed.write(path.read_bytes())
    shutil.copystat(path, path.with_name(path.name + ".gz"))
    path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("rotations", [1, 4])
def test_files_rotated_while_no_agent_ran_are_found_among_their_siblings_and_read_on(site: Site, rotations: int) -> None:
    ids = read_and_kill(site)
    for turn in range(rotations):
        ids += write(site.log, READ + turn * UNREAD, READ + (turn + 1) * UNREAD)
        loggen.rotate(site.log)
    ids += write(site.log, READ + rotations * UNREAD, READ + rotations * UNREAD + 10)
    go_on(site, ids)
    assert_once(site, ids)


@pytest.mark.slow
@pytest.mark.parametrize("rotations", [1, 3])
def test_a_file_that_was_compressed_while_no_agent_ran_is_read_on_inside_the_archive(
    site: Site, keep: Callable[[Path], None], rotations: int
) -> None:
    ids = read_and_kill(site)
    for turn in range(rotations):
        ids += write(site.log, READ + turn * UNREAD, READ + (turn + 1) * UNREAD)
        keep(site.log)
        for age in range(turn, 0, -1):
            site.log.with_name(f"app.log.{age}.gz").rename(site.log.with_name(f"app.log.{age + 1}.gz"))
        site.log.rename(site.log.with_name("app.log.1"))
        compress(site.log.with_name("app.log.1"))
    ids += write(site.log, READ + rotations * UNREAD, READ + rotations * UNREAD + 10)
    go_on(site, ids)
    assert_once(site, ids)


@pytest.mark.slow
def test_a_file_that_was_deleted_unread_is_a_gap_that_names_it_and_how_far_it_was_read(site: Site, keep: Callable[[Path], None]) -> None:
    ids = read_and_kill(site)
    keep(site.log)
    size = site.log.stat().st_size
    write(site.log, READ, READ + UNREAD)
    site.log.unlink()
    ids += write(site.log, 1000, 1010)
    go_on(site, ids)
    assert_stated(site, ids, [("rotated_away", "unbounded", size, None)])
    (gap,) = site.trails.kind("gap")
    read = next(step for seal in site.trails.seals() for step in seal.manifest.sources)
    assert (gap["path"], gap["file_id"]) == (str(site.log), read.file_id)


@pytest.mark.slow
def test_an_inode_that_was_used_again_is_another_file_and_is_read_from_its_beginning(site: Site) -> None:
    # Written anew in place: the name, the device and the inode are those of before, longer than what was read.
    ids = read_and_kill(site)
    size, inode = site.log.stat().st_size, site.log.stat().st_ino
    with site.log.open("r+b") as log:
        log.truncate()
    ids += write(site.log, 5000, 5000 + READ + 100)
    assert (site.log.stat().st_ino, site.log.stat().st_size > size) == (inode, True)
    go_on(site, ids)
    assert_stated(site, ids, [("truncated", "unbounded", size, None)])


@pytest.mark.slow
@pytest.mark.parametrize("down", [True, False], ids=["while down", "while running"])
def test_a_copy_made_before_a_truncation_is_read_on_and_what_the_race_may_have_cost_is_stated(site: Site, *, down: bool) -> None:
    ids = write(site.log, 0, READ)
    with site.run() as agent:
        wait_for(site, agent, ids)
        if down:
            agent.kill()
            ids += write(site.log, READ, READ + UNREAD)
        size = site.log.stat().st_size
        shutil.copy2(site.log, site.log.with_name("app.log.1"))
        with site.log.open("r+b") as log:
            log.truncate()
        ids += write(site.log, 5000, 5010)
        if not down:
            drain(site, agent, ids)
    if down:
        go_on(site, ids)
    assert_stated(site, ids, [("truncated", "possible", size, None)])


@pytest.mark.slow
def test_files_that_begin_alike_and_empty_ones_are_told_apart_across_a_restart_and_a_rotation(site: Site) -> None:
    site.configure(sources=[{"id": "app", "file": str(site.logs / "*.log")}])
    names = [site.logs / f"{name}.log" for name in ("one", "two", "three")]
    alike = b"".join(loggen.other_line(1) for _ in range(40))
    for path in names[:2]:
        path.write_bytes(alike)
    names[2].touch()
    ids = write(names[0], 0, 10) + write(names[1], 10, 20)
    with site.run() as agent:
        wait_for(site, agent, ids)
        agent.kill()
    for path in names[:2]:
        loggen.rotate(path)
        path.write_bytes(alike)
    with names[2].open("ab") as log:
        log.write(alike)
    for number, path in enumerate(names):
        ids += write(path, 100 + number * 10, 110 + number * 10)
    go_on(site, ids)
    assert_once(site, ids, ordered=False)
