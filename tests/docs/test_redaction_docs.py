"""docs/redaction.md shows what the program does, and names every pattern and every key of a rule."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import msgspec

from agent.config.document import read_document
from agent.config.redaction import Redaction, RedactionRule, load_redactor
from agent.config.sections import Section
from agent.errors import ConfigError
from agent.events import Accepted, AllRule, Validator
from agent.events.redaction import BUILT_IN, PseudonymKey

PAGE = (Path(__file__).parents[2] / "docs" / "redaction.md").read_text(encoding="utf-8")
YAML = re.findall(r"(?s)```yaml\n(.*?)```", PAGE)
JSON = re.findall(r"(?s)```json\n(.*?)\n```", PAGE)
SECRET = bytes(range(32))


def no_error(key: str, message: str, hint: str | None = None) -> ConfigError:
    return ConfigError(message, key=key, hint=hint)


def test_the_example_is_redacted_as_the_page_says(tmp_path: Path):
    path = tmp_path / "t.yaml"
    path.write_text(YAML[0].replace("/etc/trailseal", str(tmp_path)))
    key = tmp_path / "pseudonym.key"
    key.write_text(base64.b64encode(SECRET).decode())
    key.chmod(0o600)
    [(_, node)] = read_document(str(path), {}).pairs()
    redactor = load_redactor(Section(Redaction).read(node), no_error, "redaction", {})
    before, after, names = JSON
    assert isinstance(Validator(AllRule()).judge_line(before.encode()), Accepted)
    made = redactor.redact_event(before.encode())
    assert made.event.decode() == after
    assert list(made.names) == json.loads(names)


def test_the_pseudonyms_on_the_page_are_those_of_its_key():
    key = PseudonymKey(SECRET)
    assert set(re.findall(r"hmac-sha256:[0-9a-f]{8}:[a-z2-7]{26}", PAGE)) == {
        key.pseudonym("alice@example.com"),
        key.pseudonym("bob@example.com"),
    }


def test_the_page_has_every_pattern_and_no_other():
    table = PAGE.partition("| pattern | finds |")[2].partition("\n\n")[0]
    assert re.findall(r"(?m)^\| `([a-z_]+)` \|", table) == list(BUILT_IN)


def test_the_page_has_every_key_of_a_rule_and_every_action():
    table = PAGE.partition("| key | what |")[2].partition("\n\n")[0]
    assert re.findall(r"(?m)^\| `([a-z_]+)` \|", table) == [field.name for field in msgspec.structs.fields(RedactionRule)]
    for action in ("drop", "mask", "hash"):
        assert f"\n| `{action}` |" in PAGE
