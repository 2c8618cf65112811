"""Pseudonyms: equal values are found by whoever has the key, and by nobody else."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner

from agent.errors import ConfigError
from agent.events.redaction import PathRule, PatternRule, PseudonymKey, Redactor, Treatment
from agent.reader.ask.filters import ALL, Filter
from agent.reader.ask.options import asking_options, taken_filter
from agent.reader.ask.pseudonyms import read_keys, told, with_pseudonyms
from agent.reader.ask.search import count, each
from agent.reader.ask.words import as_command, in_words
from tests.unit.reader.ask.made import at, event

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.reader.ask.made import Made

OLD, NEW = PseudonymKey(bytes(32)), PseudonymKey(bytes(range(32)))
ALICE = "alice@example.com"


def redacted_id(key: PseudonymKey, name: str) -> str:
    """Return what an agent that redacts makes of an actor."""
    line = {"actor": {"type": "user", "id": name}, "context": {}}
    redactor = Redactor([PathRule.of("actor.id", Treatment("hash", key=key))], (), key)
    found = json.loads(redactor.redact_event(json.dumps(line).encode()).event)["actor"]["id"]
    assert isinstance(found, str)
    return found


def fill(made: Made) -> None:
    """Fill a trail: under an old key, under the new one, without redaction, and somebody else."""
    names = [redacted_id(OLD, ALICE), redacted_id(NEW, ALICE), redacted_id(NEW, ALICE), ALICE, redacted_id(NEW, "bob@example.com")]
    made.trail().batch(at(10), *(event(number, actor=name) for number, name in enumerate(names)))


def key_file(folder: Path, key: PseudonymKey, mode: int = 0o600) -> Path:
    path = folder / f"{key.id}.key"
    path.write_text(base64.b64encode(key.secret).decode() + "\n")
    path.chmod(mode)
    return path


@pytest.mark.parametrize(("keys", "found"), [((), 1), ((OLD,), 2), ((NEW,), 3), ((OLD, NEW), 4), ((NEW, NEW), 3)])
def test_equal_values_are_found_under_the_keys_at_hand_and_not_without(made: Made, keys: tuple[PseudonymKey, ...], found: int) -> None:
    fill(made)
    assert count(made.index, with_pseudonyms(Filter(actor=(ALICE,)), keys), ALL) == found


def test_equal_values_stay_equal_and_others_are_others(made: Made) -> None:
    fill(made)
    ids = [found.actor_id for found in each(made.index, with_pseudonyms(Filter(actor=(ALICE,)), [NEW]), ALL)]
    assert ids == [NEW.pseudonym(ALICE), NEW.pseudonym(ALICE), ALICE]


def test_what_a_pattern_hashed_is_found_where_it_was_the_whole_name() -> None:
    line = json.dumps({"actor": {"type": "user", "id": ALICE}}).encode()
    made = Redactor((), [PatternRule.of("email", Treatment("hash", key=NEW))], NEW).redact_event(line)
    assert json.loads(made.event)["actor"]["id"] in with_pseudonyms(Filter(actor=(ALICE,)), [NEW]).actor


def test_a_target_is_found_by_its_id_and_with_its_type() -> None:
    plain = with_pseudonyms(Filter(target=("u-2",)), [NEW]).target
    assert plain == ("u-2", NEW.pseudonym("u-2"))
    typed = with_pseudonyms(Filter(target=("user/u-2",)), [NEW]).target
    assert typed == ("user/u-2", NEW.pseudonym("user/u-2"), f"user/{NEW.pseudonym('u-2')}")


@pytest.mark.parametrize("asked", [Filter(), Filter(action=("a",)), Filter(actor=("alice*",)), Filter(actor=("[ab]",), target=("u-?",))])
def test_a_question_without_a_whole_value_is_refused(asked: Filter) -> None:
    with pytest.raises(ConfigError, match="a pseudonym is of a whole value"):
        with_pseudonyms(asked, [NEW])
    assert with_pseudonyms(asked, []) is asked


def test_patterns_beside_a_whole_value_stay_patterns() -> None:
    assert with_pseudonyms(Filter(actor=("bob*", ALICE)), [NEW]).actor == ("bob*", ALICE, NEW.pseudonym(ALICE))


def test_the_statement_says_what_was_looked_for_and_by_which_key() -> None:
    asked = with_pseudonyms(Filter(actor=(ALICE,)), [NEW])
    words = in_words(asked, ALL)
    assert words == f"events of which the actor is {ALICE} or {NEW.pseudonym(ALICE)} (a pseudonym, key {NEW.id})"


def test_the_command_of_the_statement_asks_again_without_the_key() -> None:
    command = as_command(with_pseudonyms(Filter(actor=(ALICE,)), [NEW]), "/srv/trail")
    assert command == f"trailseal query /srv/trail --actor {ALICE} --actor {NEW.pseudonym(ALICE)}"


@pytest.mark.parametrize("value", [ALICE, "hmac-sha256:860fae4c:short", "hmac-sha256:x", f"x{NEW.pseudonym('a')}"])
def test_only_a_pseudonym_is_called_one(value: str) -> None:
    assert told(value) == value


class TestKeys:
    def test_keys_are_read_in_their_order(self, tmp_path: Path) -> None:
        assert read_keys([key_file(tmp_path, NEW), key_file(tmp_path, OLD)]) == (NEW, OLD)

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
    def test_a_key_that_others_can_reach_is_refused(self, tmp_path: Path, mode: int) -> None:
        with pytest.raises(ConfigError, match="others may read this key too"):
            read_keys([key_file(tmp_path, NEW, mode)])

    @pytest.mark.parametrize("text", ["", "nonsense", base64.b64encode(bytes(8)).decode()])
    def test_what_is_no_key_is_refused_with_its_file(self, tmp_path: Path, text: str) -> None:
        path = key_file(tmp_path, NEW)
        path.write_text(text)
        with pytest.raises(ConfigError) as caught:
            read_keys([path])
        assert str(caught.value).startswith(str(path))
        assert not text or text not in str(caught.value)

    def test_what_is_no_file_is_refused_without_waiting_for_it(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe", 0o600)
        for name in ("pipe", "absent", "."):
            with pytest.raises(ConfigError):
                read_keys([tmp_path / name])


def asked_by(*words: str) -> Filter:
    """Return the filter that a command line amounts to."""
    seen: list[Filter] = []

    @click.command()
    @asking_options
    def command(**options: Any) -> None:
        seen.append(taken_filter(options))
        assert "pseudonym_keys" not in options

    made = CliRunner().invoke(command, words)
    if made.exception is not None:
        raise made.exception
    return seen[0]


def test_every_command_that_takes_a_filter_takes_keys(tmp_path: Path) -> None:
    words = ["--actor", ALICE, "--pseudonym-key", str(key_file(tmp_path, NEW)), "--pseudonym-key", str(key_file(tmp_path, OLD))]
    assert asked_by(*words).actor == (ALICE, NEW.pseudonym(ALICE), OLD.pseudonym(ALICE))
    assert asked_by("--actor", ALICE).actor == (ALICE,)


def test_a_key_without_anything_to_look_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        asked_by("--pseudonym-key", str(key_file(tmp_path, NEW)))
