"""Rotated files that are compressed at any time, also before they were read, are neither lost nor read twice."""

from __future__ import annotations

import gzip
import os
from typing import TYPE_CHECKING, BinaryIO

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.tail_bench import turn
from tests.support.tail_model import STEPS, Model, run

if TYPE_CHECKING:
    from pathlib import Path

PACKING = st.lists(
    st.one_of(STEPS, st.tuples(st.sampled_from(["rotate", "pack", "drain", "crash"]), st.integers(0, 1))),
    min_size=3,
    max_size=30,
)


class PackingModel(Model):
    """A rotator that compresses the newest plain rotated file, with the time of that or the file's own."""

    def __init__(self, folder: Path, patterns: tuple[str, ...]) -> None:
        """Begin with an empty folder."""
        super().__init__(folder, patterns)
        self.held: list[BinaryIO] = []

    def log(self, step: str, number: int) -> None:
        if step != "pack":
            super().log(step, number)
            return
        plain = [path for path in self.bench.folder.iterdir() if path.suffix[1:].isdigit()]
        if plain:
            newest = min(plain, key=lambda path: int(path.suffix[1:]))
            self.hold(newest)
            pack(newest, keep_time=bool(number))

    def hold(self, path: Path) -> None:
        """Keep a file open, so that the file system cannot give its inode to another one."""
        self.held.append(path.open("rb"))

    async def end(self) -> None:
        await super().end()
        for file in self.held:
            file.close()

    async def take(self, step: str, number: int) -> None:
        if step == "pack":
            self.log(step, number)
        else:
            await super().take(step, number)

    def rotate(self) -> None:
        turn(self.bench.path)


def pack(path: Path, *, keep_time: bool) -> None:
    """Compress a file under a temporary name, as the kubelet does, and put the result in its place."""
    status = path.stat()
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_bytes(gzip.compress(path.read_bytes()))
    if keep_time:
        os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))
    temporary.rename(path.with_name(f"{path.name}.gz"))
    path.unlink()


class ReusingModel(PackingModel):
    """The same where inodes are used again."""

    def hold(self, path: Path) -> None:
        pass


@given(steps=PACKING)
@settings(max_examples=200, deadline=None)
def test_compression_loses_nothing_repeats_nothing_and_keeps_the_order(steps: list[tuple[str, int]]):
    model = run(PackingModel, steps, ("*.log",))
    assert model.bench.ids() == model.bench.written
    assert model.bench.gaps() == []
    assert model.bench.intake.of_kind("quarantine") == []


@given(steps=PACKING)
@settings(max_examples=200, deadline=None)
def test_an_inode_used_again_after_compression_is_at_most_a_possible_truncation(steps: list[tuple[str, int]]):
    """A log in the inode of the one before it, whose content lies in a copy, is what copytruncate leaves as well."""
    model = run(ReusingModel, steps, ("*.log",))
    assert model.bench.ids() == model.bench.written
    assert {gap["certainty"] for gap in model.bench.gaps()} <= {"possible"}
