"""Settings of redaction: each thing that can be wrong, with its line, and the redactor that they make."""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING

import pytest

from agent.assembly import identity
from agent.config import load, with_stream_source
from agent.config.document import read_document
from agent.config.redaction import Redaction, load_redactor
from agent.config.sections import Section
from agent.errors import ConfigError
from agent.events.redaction import PseudonymKey
from agent.reload import files_of, source_key

if TYPE_CHECKING:
    from pathlib import Path

SECRET = bytes(range(32))
TEXT = base64.b64encode(SECRET).decode() + "\n"
RULES = "rules:\n  - {path: context.email, action: hash}\n"


def read(folder: Path, content: str) -> Redaction:
    path = folder / "t.yaml"
    path.write_text(content)
    return Section(Redaction).read(read_document(str(path), {}))


def wrong(folder: Path, content: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(folder, content)
    assert caught.value.hint
    return str(caught.value).removeprefix(f"{folder}/")


def key_file(folder: Path, text: str = TEXT, mode: int = 0o600) -> Path:
    path = folder / "p.key"
    path.write_text(text)
    path.chmod(mode)
    return path


def error(key: str, message: str, hint: str | None = None) -> ConfigError:
    return ConfigError(message, file="t.yaml", line=7, key=key, hint=hint)


def test_rules_are_read_in_their_order(tmp_path):
    redaction = read(
        tmp_path,
        """key_file: p.key
rules:
  - {path: context.email, action: hash}
  - {pattern: card_number, action: mask, keep_last: 4}
  - {pattern: '\\bsk_live_[A-Za-z0-9]+', name: stripe_key, action: mask}
  - {path: context.secret.*, action: drop}
""",
    )
    assert redaction.key_file == str(tmp_path / "p.key")
    assert [rule.path or rule.name or rule.pattern for rule in redaction.rules] == [
        "context.email",
        "card_number",
        "stripe_key",
        "context.secret.*",
    ]
    assert [(rule.action, rule.keep_last) for rule in redaction.rules] == [("hash", 0), ("mask", 4), ("mask", 0), ("drop", 0)]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("key_env: K\nrules: x\n", 't.yaml:2: rules: must be a list of rules, not "x"'),
        ("key_env: K\nrules: []\n", "t.yaml:2: rules: must have between 1 and 200 rules"),
        ("key_env: K\n", "t.yaml:1: rules: this key is missing"),
        ("rules:\n  - {path: context.a}\n", "t.yaml:2: rules[0].action: this key is missing"),
        (
            "rules:\n  - {path: context.a, action: shred}\n",
            't.yaml:2: rules[0].action: must be drop, mask or hash, not "shred"',
        ),
        ("rules:\n  - {action: mask}\n", "t.yaml:2: rules[0]: a rule has a path or a pattern, and one of them only"),
        ("rules:\n  - {path: context.a, pattern: email, action: mask}\n", "t.yaml:2: rules[0]: a rule has a path or a pattern, and one of"),
        ("rules:\n  - {path: context.a, name: x, action: mask}\n", "t.yaml:2: rules[0]: a name is for a pattern of your own"),
        ("rules:\n  - path: event_id\n    action: mask\n", "t.yaml:2: rules[0].path: event_id cannot be redacted by its path"),
        (
            "rules:\n  - path: actor.id\n    action: drop\n",
            "t.yaml:3: rules[0].action: every event needs actor.id, so it cannot be dropped",
        ),
        ("rules:\n  - path: context\n    action: drop\n", "t.yaml:2: rules[0].path: names the whole context"),
        ("rules:\n  - pattern: emial\n    action: mask\n", "t.yaml:2: rules[0].pattern: 'emial' is no built-in pattern"),
        ("rules:\n  - pattern: email\n    action: drop\n", "t.yaml:3: rules[0].action: what a pattern finds has no key of its own"),
        ("rules:\n  - pattern: '(?=x)'\n    name: x\n    action: mask\n", "t.yaml:2: rules[0].pattern: is no expression that RE2 takes"),
        (
            "rules:\n  - pattern: '^x'\n    name: x\n    action: mask\n",
            "t.yaml:2: rules[0].pattern: ^, $, \\A and \\z have no meaning here",
        ),
        ("rules:\n  - pattern: 'x y'\n    action: mask\n", "t.yaml:2: rules[0].name: an expression of your own needs a name"),
        ("rules:\n  - path: context.a\n    action: hash\n    keep_last: 4\n", "t.yaml:4: rules[0].keep_last: is for a mask"),
        (
            "rules:\n  - path: context.a\n    action: mask\n    keep_last: 9\n",
            't.yaml:4: rules[0].keep_last: must be between 1 and 8, not "9"',
        ),
        ("rules:\n  - {path: context.a, action: mask, keep: 4}\n", "t.yaml:2: rules[0].keep: unknown key"),
    ],
)
def test_a_wrong_rule_is_one_line_with_file_line_and_key(tmp_path, content, line):
    assert wrong(tmp_path, content).startswith(line)


def test_hashing_needs_a_key(tmp_path):
    with pytest.raises(ConfigError, match="a rule hashes, and there is no key"):
        read(tmp_path, RULES)


def test_two_keys_are_one_too_many(tmp_path):
    with pytest.raises(ConfigError, match="are two keys"):
        read(tmp_path, f"key_file: a\nkey_env: B\n{RULES}")


def test_a_redactor_hashes_with_the_key_of_the_file(tmp_path):
    redactor = load_redactor(read(tmp_path, f"key_file: {key_file(tmp_path)}\n{RULES}"), error, "redaction", {})
    assert redactor.key_id == PseudonymKey(SECRET).id
    assert redactor.has_paths
    made = redactor.redact_event(b'{"context":{"email":"alice@example.com"}}')
    assert PseudonymKey(SECRET).pseudonym("alice@example.com").encode() in made.event


def test_a_redactor_hashes_with_the_key_of_the_environment(tmp_path):
    redactor = load_redactor(read(tmp_path, f"key_env: PSEUDONYMS\n{RULES}"), error, "redaction", {"PSEUDONYMS": TEXT})
    assert redactor.key_id == PseudonymKey(SECRET).id


def test_masking_needs_no_key(tmp_path):
    redactor = load_redactor(read(tmp_path, "rules:\n  - {pattern: email, action: mask}\n"), error, "redaction", {})
    assert redactor.key_id is None
    assert not redactor.has_paths
    assert redactor.redact_text(b"of alice@example.com").raw == b"of [redacted]"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610, 0o602])
def test_a_key_that_others_can_reach_is_refused(tmp_path, mode):
    redaction = read(tmp_path, f"key_file: {key_file(tmp_path, mode=mode)}\n{RULES}")
    with pytest.raises(ConfigError) as caught:
        load_redactor(redaction, error, "sources[0].redaction", {})
    assert str(caught.value).startswith(f"t.yaml:7: sources[0].redaction.key_file: others may read {tmp_path}/p.key too (mode {mode:04o})")
    assert "chmod 600" in caught.value.hint


@pytest.mark.parametrize("text", ["", "short", "not base64 at all!", base64.b64encode(bytes(16)).decode(), "ü" * 100])
def test_a_key_that_is_none_is_refused_and_not_shown(tmp_path, text):
    redaction = read(tmp_path, f"key_file: {key_file(tmp_path, text)}\n{RULES}")
    with pytest.raises(ConfigError, match=r"redaction\.key_file: a pseudonym key") as caught:
        load_redactor(redaction, error, "redaction", {})
    assert not text or text not in str(caught.value)


def test_a_key_file_that_is_not_there_or_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, why in (("absent", "No such file"), ("pipe", "not a regular file"), (".", "not a regular file")):
        with pytest.raises(ConfigError, match=why):
            load_redactor(read(tmp_path, f"key_file: {name}\n{RULES}"), error, "redaction", {})


@pytest.mark.parametrize("environ", [{}, {"PSEUDONYMS": ""}])
def test_a_variable_that_is_not_set_is_refused(tmp_path, environ):
    with pytest.raises(ConfigError, match=r"redaction\.key_env: the environment variable PSEUDONYMS is not set"):
        load_redactor(read(tmp_path, f"key_env: PSEUDONYMS\n{RULES}"), error, "redaction", environ)


def test_another_key_under_the_same_name_is_another_configuration_and_another_source(tmp_path):
    key = tmp_path / "p.key"

    def loaded(secret):
        key.unlink(missing_ok=True)
        key.write_text(base64.b64encode(secret * 32).decode(), encoding="ascii")
        key.chmod(0o600)
        rules = "{key_file: p.key, rules: [{path: actor.id, action: hash}]}"
        text = (
            f"namespace: n\nservice: s\nstate: s\nredaction: {rules}\nsources: [{{id: a, file: /a}}]\nstores: [{{id: m, directory: /t}}]\n"
        )
        (tmp_path / "t.yaml").write_text(text, encoding="utf-8")
        return load(str(tmp_path / "t.yaml"), {})

    one, same, other = loaded(b"a"), loaded(b"a"), loaded(b"b")
    assert one.config_sha256 == same.config_sha256 != other.config_sha256
    assert source_key(one, one.sources[0]) == source_key(same, same.sources[0]) != source_key(other, other.sources[0])
    assert identity(one).pseudonym_key == PseudonymKey(b"a" * 32).id
    assert identity(with_stream_source(other, "pipe")).pseudonym_key == PseudonymKey(b"b" * 32).id
    assert str(key) in files_of(one)
    key.chmod(0o644)
    with pytest.raises(ConfigError, match=r"redaction\.key_file: others may read"):
        load(str(tmp_path / "t.yaml"), {})
