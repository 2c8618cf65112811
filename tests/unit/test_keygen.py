"""The command `keygen`, as far as it needs no trail."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from agent.commands.keygen import keygen
from agent.errors import ConfigError
from agent.events.redaction import PseudonymKey
from agent.trail.note import SigningKey

if TYPE_CHECKING:
    from pathlib import Path


def test_a_pseudonym_key_is_its_owners_alone_and_is_read_as_it_was_made(tmp_path: Path):
    path = tmp_path / "pseudonym.key"
    old = os.umask(0)
    try:
        made = CliRunner().invoke(keygen, ["--pseudonym", str(path)])
    finally:
        os.umask(old)
    assert made.exit_code == 0, made.output
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert made.stdout == f"{PseudonymKey.parse(text).id}\n"
    assert text.strip() not in made.output
    assert len(PseudonymKey.parse(text).secret) == 32


def test_two_keys_are_two(tmp_path: Path):
    ids = {CliRunner().invoke(keygen, ["--pseudonym", str(tmp_path / name)]).stdout for name in "ab"}
    assert len(ids) == 2


def test_a_key_is_never_overwritten(tmp_path: Path):
    path = tmp_path / "pseudonym.key"
    path.write_text("mine")
    made = CliRunner().invoke(keygen, ["--pseudonym", str(path)])
    assert isinstance(made.exception, ConfigError)
    assert path.read_text() == "mine"


def test_an_enrolment_key_is_made_as_before(tmp_path: Path):
    path = tmp_path / "enrolment.key"
    made = CliRunner().invoke(keygen, ["demo/payments", "--out", str(path)])
    assert made.exit_code == 0, made.output
    assert made.stdout == f"demo/payments/*/* {SigningKey.parse(path.read_text().strip()).verifier}\n"


@pytest.mark.parametrize(
    "words", [[], ["demo/payments"], ["--out", "x"], ["demo/payments", "--pseudonym", "x"], ["--pseudonym", "x", "-o", "y"]]
)
def test_half_a_question_and_two_at_once_are_refused(words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(keygen, words).exit_code == 2
    assert list(tmp_path.iterdir()) == []
