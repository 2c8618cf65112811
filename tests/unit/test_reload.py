"""Which changes of the configuration's files are noticed, and which of its content a running agent can take over."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

import pytest

from agent.config import load, with_stream_source
from agent.errors import ConfigError
from agent.reload import ChangeWatch, RestartNeededError, files_of, read_again, source_key

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config import Settings

PLAIN = """\
namespace: demo
service: payments
state: state
sources:
  - {id: app, file: app.log}
  - {id: web, file: web.log}
stores:
  - {id: main, directory: store}
"""


def settings(folder: Path, text: str = PLAIN, kind: str = "") -> Settings:
    file = folder / "trailseal.yaml"
    file.write_text(text, encoding="utf-8")
    found = load(str(file), {"HOSTNAME": "node-1"})
    return with_stream_source(found, "pipe") if kind == "pipe" else found


def old(path: Path, text: str) -> Path:
    """Write a file; ChangeWatch is made to take it as known."""
    path.write_text(text, encoding="utf-8")
    return path


class TestTheWatch:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return old(tmp_path / "file", "1")

    @pytest.fixture
    def watch(self, file: Path) -> ChangeWatch:
        watch = ChangeWatch([str(file)])
        watch.accept([str(file)])
        return watch

    def test_a_file_that_rests_is_no_change(self, watch):
        assert [watch.look() for _ in range(3)] == [False, False, False]

    def test_a_change_counts_once_it_has_stayed_for_a_look(self, watch, file):
        file.write_text("22", encoding="utf-8")
        assert [watch.look() for _ in range(3)] == [False, True, False]

    def test_a_file_that_is_still_being_written_is_waited_for(self, watch, file):
        found = []
        for turn in range(4):
            file.write_text("x" * (turn + 2), encoding="utf-8")
            found.append(watch.look())
        assert found == [False] * 4
        assert watch.look()

    def test_a_file_that_is_missing_for_a_moment_is_no_change(self, watch, file):
        aside = file.rename(file.with_name("aside"))
        assert not watch.look()
        aside.rename(file)
        # Its change time has moved, so it is read again; its content decides.
        assert [watch.look(), watch.look()] == [False, True]

    def test_a_link_that_leads_elsewhere_is_a_change(self, tmp_path, watch):
        for name in ("one", "two"):
            (tmp_path / name).write_text("1", encoding="utf-8")
        link = tmp_path / "link"
        link.symlink_to("one")
        watch.accept([str(link)])
        (tmp_path / "new").symlink_to("two")
        (tmp_path / "new").rename(link)
        assert [watch.look(), watch.look()] == [False, True]

    def test_files_that_changed_just_before_the_start_are_read_once_more(self, file):
        watch = ChangeWatch([str(file)])
        assert [watch.look(), watch.look()] == [True, False]


@pytest.mark.parametrize(
    ("before", "after", "key"),
    [
        ("namespace: demo", "namespace: other", "namespace"),
        ("service: payments", "service: other", "service"),
        ("state: state", "state: elsewhere", "state"),
        ("state: state", "state: state\ninstance: other", "instance"),
        ("state: state", "state: state\nephemeral: true", "ephemeral"),
        ("state: state", "state: state\nvitals: {listen: none}", "vitals"),
        ("- {id: web, file: web.log}", "- {id: web, pipe: stdin}", "sources"),
    ],
)
def test_what_only_a_start_can_change_is_refused_with_its_place(tmp_path, before, after, key):
    running = settings(tmp_path)
    with pytest.raises(RestartNeededError, match="a restart is needed") as caught:
        read_again(lambda: settings(tmp_path, PLAIN.replace(before, after)), running)
    assert caught.value.key == key
    assert caught.value.file == str(tmp_path / "trailseal.yaml")


@pytest.mark.parametrize(
    "more", ["shutdown_grace: 3s", "spool: {when_full: gap}", "sources: []"], ids=["shutdown_grace", "when_full", "the last other source"]
)
def test_beside_a_stream_what_its_parent_was_told_is_refused(tmp_path, more):
    text = PLAIN.replace(PLAIN[PLAIN.index("sources:") : PLAIN.index("stores:")], "") if "sources" in more else PLAIN
    running = settings(tmp_path, kind="pipe")
    with pytest.raises(RestartNeededError):
        read_again(lambda: settings(tmp_path, f"{text}{more}\n", "pipe"), running)


def test_what_is_wrong_in_any_way_is_a_configuration_error(tmp_path):
    running = settings(tmp_path)

    def fail() -> Settings:
        raise RecursionError("too deep")

    with pytest.raises(ConfigError, match="cannot be read: too deep"):
        read_again(fail, running)
    (tmp_path / "catalog.yaml").write_text("format: 2\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"catalog\.yaml:1"):
        read_again(lambda: settings(tmp_path, f"{PLAIN}catalog: catalog.yaml\n"), running)


def test_a_source_runs_on_unless_what_decides_about_its_lines_changed(tmp_path):
    running = settings(tmp_path)
    app = running.sources[0]
    for more in ("seal: {max_age: 1s}", "log: {level: debug}", "shutdown_grace: 9s", "observability: {file: out.log}"):
        wanted = read_again(partial(settings, tmp_path, f"{PLAIN}{more}\n"), running)
        assert source_key(wanted, wanted.sources[0]) == source_key(running, app), more
    for more in ("limits: {line_bytes: 64KiB}", "audit: {all: true}", "observability: none"):
        wanted = read_again(partial(settings, tmp_path, f"{PLAIN}{more}\n"), running)
        assert source_key(wanted, wanted.sources[0]) != source_key(running, app), more


def test_the_catalog_is_one_of_the_files(tmp_path):
    (tmp_path / "catalog.yaml").write_text("format: 1\nactions: {}\n", encoding="utf-8")
    found = settings(tmp_path, f"{PLAIN}catalog: catalog.yaml\n")
    assert files_of(found) == (os.fspath(tmp_path / "trailseal.yaml"), os.fspath(tmp_path / "catalog.yaml"))
