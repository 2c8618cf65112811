"""Files for a person, where the process ends, the disk fails or somebody else writes at the worst moment."""

from __future__ import annotations

import errno
import json
import os
import stat
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from agent.errors import ConfigError
from agent.reader.writing import new_pair, new_path, refuse_existing, write_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Call = Callable[..., Any]

CALLS = ("open", "fsync", "link", "replace", "rename", "unlink", "close", "lstat")
"""Everything of the system that the module may use to change what lies on the disk, and what lies in between."""
ENDED = 77
OLD, NEW = b"old answer", b"new answer " * 1000


def tell(answer: Path) -> bytes:
    return json.dumps({"answer_sha256": sha256(answer.read_bytes()).hexdigest()}).encode()


def write_pair(folder: Path, raw: bytes = NEW, *, force: bool = False) -> None:
    with new_pair(folder / "answer", folder / "answer.statement.json", tell, force=force) as made:
        made.write_bytes(raw)


def refusing_links(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


class Counted:
    """Counts the calls, and does something at one of them."""

    def __init__(self, patch: pytest.MonkeyPatch, step: int, act: Callable[[], object], *, after: bool = False) -> None:
        """Replace the calls; the first of them is step 1."""
        self.step, self.act, self.after, self.count = step, act, after, 0
        for name in CALLS:
            patch.setattr(os, name, self._counting(getattr(os, name)))

    def _counting(self, call: Call) -> Call:
        def counted(*arguments: Any, **named: Any) -> Any:
            self.count += 1
            now = self.count == self.step
            if now and not self.after:
                self.act()
            given = call(*arguments, **named)
            if now and self.after:
                self.act()
            return given

        return counted


def ends_at(step: int, work: Callable[[], None], *, after: bool) -> bool:
    """Do something in a process of its own that ends at a step; tell whether there was such a step."""
    child = os.fork()
    if not child:
        status = 1
        try:
            with pytest.MonkeyPatch.context() as patch:
                Counted(patch, step, lambda: os._exit(ENDED), after=after)
                work()
            status = 0
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in {0, ENDED}
    return status == ENDED


def named(folder: Path) -> dict[str, bytes]:
    """Return what lies in a folder under names that somebody gave."""
    left = [path for path in folder.iterdir() if path.name.startswith(".")]
    assert all(path.suffix == ".part" and stat.S_IMODE(path.stat().st_mode) == 0o600 for path in left)
    return {path.name: path.read_bytes() for path in folder.iterdir() if path not in left}


def check_pair(folder: Path) -> str:
    """See that an answer has its own statement, and that neither is half; return what there is."""
    found = named(folder)
    assert set(found) <= {"answer", "answer.statement.json"}
    answer, told = found.get("answer"), found.get("answer.statement.json")
    assert answer in {None, OLD, NEW}
    said = None if told is None else json.loads(told)["answer_sha256"]
    assert said in {None, sha256(OLD).hexdigest(), sha256(NEW).hexdigest()}
    if answer is None:
        return "no answer"
    assert said == sha256(answer).hexdigest()
    return "old" if answer == OLD else "new"


@pytest.fixture(params=["links", "no links"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Be on a file system that knows links, and on one that does not."""
    if request.param == "no links":
        monkeypatch.setattr(os, "link", refusing_links)
    return iter(())


def folders(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """Yield a step and an empty folder for it, and so on until there are more than any writing has."""
    for step in range(1, 100):
        folder = tmp_path / str(step)
        folder.mkdir()
        yield step, folder
    pytest.fail("a writing has fewer steps")


@pytest.mark.usefixtures("links")
class TestProcessThatEnds:
    @pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
    @pytest.mark.parametrize("force", [False, True], ids=["new", "replacing"])
    def test_an_answer_never_lies_there_without_its_own_statement(self, tmp_path: Path, *, force: bool, after: bool) -> None:
        seen = []
        for step, folder in folders(tmp_path):
            if force:
                write_pair(folder, OLD)
            ended = ends_at(step, partial(write_pair, folder, force=force), after=after)
            seen.append(check_pair(folder))
            if not ended:
                break
        assert seen[-1] == "new"
        assert seen == sorted(seen, key=["old", "no answer", "new"].index)
        assert "no answer" in seen

    @pytest.mark.parametrize("force", [False, True], ids=["new", "replacing"])
    def test_a_single_file_is_the_old_one_or_the_new_one(self, tmp_path: Path, *, force: bool) -> None:
        seen = []
        for step, folder in folders(tmp_path):
            if force:
                (folder / "x").write_bytes(OLD)
            ended = ends_at(step, partial(write_file, folder / "x", NEW, force=force), after=False)
            seen.append(named(folder).get("x"))
            if not ended:
                break
        before = OLD if force else None
        assert (seen[0], seen[-1]) == (before, NEW)
        assert set(seen) == {before, NEW}


def failure_at(step: int, folder: Path, *, force: bool) -> tuple[int, ConfigError | None]:
    """Write a pair while a call fails as on a full disk; return how many calls there were, and what was said."""

    def fail() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        counted = Counted(patch, step, fail)
        try:
            write_pair(folder, force=force)
        except ConfigError as error:
            return counted.count, error
        return counted.count, None


@pytest.mark.usefixtures("links")
@pytest.mark.parametrize("force", [False, True], ids=["new", "replacing"])
def test_wherever_the_disk_fails_it_is_said_and_no_answer_is_left_without_its_statement(tmp_path: Path, *, force: bool) -> None:
    said = 0
    for step, folder in folders(tmp_path):
        if force:
            write_pair(folder, OLD)
        calls, error = failure_at(step, folder, force=force)
        there = check_pair(folder)
        if error is None:
            assert there == "new"
        else:
            said += 1
            assert there in {"no answer", "old" if force else "no answer"}
            assert "cannot write" in error.message
            assert "answer" in str(error)
        if calls < step:
            break
    assert said > 5


def noting(done: list[object], name: str, call: Call) -> Call:
    """Return a call that notes which file it put on the disk, or which name it gave."""

    def noted(*arguments: Any) -> Any:
        done.append(os.fstat(arguments[0]).st_ino if name == "fsync" else os.fspath(arguments[1]))
        return call(*arguments)

    return noted


@pytest.mark.parametrize("force", [False, True], ids=["new", "replacing"])
def test_both_files_are_on_the_disk_before_either_gets_its_name_and_the_names_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, force: bool
) -> None:
    done: list[object] = []
    for name in ("fsync", "link", "replace"):
        monkeypatch.setattr(os, name, noting(done, name, getattr(os, name)))
    write_pair(tmp_path, force=force)
    files = [tmp_path / "answer", tmp_path / "answer.statement.json"]
    names = [done.index(str(file)) for file in files]
    assert all(done.index(file.stat().st_ino) < min(names) for file in files)
    assert done[-1] == tmp_path.stat().st_ino


def while_writing(folder: Path, name: str) -> None:
    """Write a pair, and let somebody else write one of its files meanwhile."""
    with new_pair(folder / "answer", folder / "answer.statement.json", tell) as made:
        made.write_bytes(NEW)
        (folder / name).write_bytes(b"theirs")


class TestSomebodyElse:
    @pytest.mark.parametrize("name", ["answer", "answer.statement.json"])
    def test_who_writes_either_meanwhile_keeps_it_and_nothing_of_ours_is_left(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ConfigError, match="there already"):
            while_writing(tmp_path, name)
        assert named(tmp_path) == {name: b"theirs"}

    @pytest.mark.parametrize("name", ["answer", "answer.statement.json"])
    def test_either_name_that_is_in_use_is_refused_before_any_work(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(b"theirs")
        with pytest.raises(ConfigError, match="there already"):
            write_pair(tmp_path)
        assert named(tmp_path) == {name: b"theirs"}


def test_what_cannot_be_told_of_leaves_nothing(tmp_path: Path) -> None:
    def fail(_: Path) -> bytes:
        raise ConfigError("no", hint="None.")

    with pytest.raises(ConfigError, match="no"), new_pair(tmp_path / "x", tmp_path / "y", fail) as made:
        made.write_bytes(NEW)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["n" * 300, "a\0b", "file/below"])
def test_a_name_that_no_file_can_have_is_refused_before_any_work(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="cannot write there"):
        refuse_existing(tmp_path / name, force=False)
    with pytest.raises(ConfigError, match="cannot write there"), new_path(tmp_path / name):
        pass


def test_a_long_name_in_any_script_is_a_name_like_others(tmp_path: Path) -> None:
    path = tmp_path / ("監" * 85)
    assert len(os.fsencode(path.name)) == 255
    write_file(path, NEW)
    assert path.read_bytes() == NEW
