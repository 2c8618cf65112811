"""An answer in a file, and the statement beside it."""

from __future__ import annotations

import errno
import json
import os
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from agent.reader.ask.cli import query_command
from tests.support.trail_factory import sample_trail, write_store

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that the answers go to; a store and its trust file lie beside it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    trail = sample_trail()
    write_store(trail.objects, tmp_path / "store")
    (tmp_path / "trust").write_text(trail.trust_line)
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def ask(site: Path, form: str, *words: str) -> Result:
    said = ["--trust", str(site.parent / "trust"), "--format", form, "--output", str(site / "x")]
    return CliRunner().invoke(query_command, [str(site.parent / "store"), *said, *words])


@pytest.mark.parametrize("form", ["csv", "ndjson", "parquet"])
def test_the_statement_names_the_answer_that_it_is_about(site: Path, form: str) -> None:
    done = ask(site, form)
    assert done.exit_code == 0, done.stderr
    assert sorted(path.name for path in site.iterdir()) == ["x", "x.statement.json"]
    told = json.loads((site / "x.statement.json").read_bytes())
    assert told["answer_sha256"] == sha256((site / "x").read_bytes()).hexdigest()
    assert (told["format"], told["verdict"], told["matched"]) == (1, "complete", 12)


def test_another_answer_replaces_both(site: Path) -> None:
    ask(site, "csv")
    assert ask(site, "csv", "--outcome", "denied").exit_code == 2
    done = ask(site, "csv", "--outcome", "denied", "--force")
    assert done.exit_code == 0, done.stderr
    told = json.loads((site / "x.statement.json").read_bytes())
    assert told["answer_sha256"] == sha256((site / "x").read_bytes()).hexdigest()
    assert told["matched"] == 3


def test_an_answer_that_cannot_get_its_name_leaves_no_statement_that_says_there_is_one(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link, names = os.link, []

    def failing(source: Any, target: Any) -> None:
        names.append(os.path.basename(target))  # noqa: PTH119 -- it stands in for a function of os
        if len(names) == 2:
            raise OSError(errno.EIO, "Input/output error")
        link(source, target)

    def no_rename(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "link", failing)
    monkeypatch.setattr(os, "rename", no_rename)
    done = ask(site, "csv")
    assert names == ["x.statement.json", "x"]
    assert (done.exit_code, done.exception.__class__) == (2, SystemExit)
    assert f"{site / 'x'}: cannot write: Input/output error" in done.stderr
    assert list(site.iterdir()) == []
