"""The commands `catalog list`, `catalog check` and `catalog diff`, as a person and as a program meet them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.config import shipped_catalogs

GRANT = (
    "  role.grant: {category: authorization, sensitivity: high, privileged: true, required_context: [granted_role], description: Given.}\n"
)
WEAK = "  role.grant: {category: authorization, sensitivity: high, privileged: true, description: Given.}\n"
LOGIN = "  auth.login: {category: authentication, sensitivity: medium, required_context: [method], description: Signed in.}\n"
HEAD = "format: 1\nactions:\n"
MAPPING = """format: 1
name: doors
title: Doors
describes: a test
select: {all: true}
parse: [{as: json}]
event:
  occurred_at: {time: "{at}"}
  actor: {type: user, id: "{who}"}
  target: {type: door, id: "{door}"}
  outcome: success
rules:
  - {name: grant, when: {what: grant}, action: role.grant}
  - {name: other, action: "door.{what}"}
examples:
  - title: a key is handed out
    line: '{"at": "2026-06-01T00:00:00Z", "who": "ann", "door": "A", "what": "grant"}'
    event:
      {occurred_at: 2026-06-01T00:00:00Z, actor: {type: user, id: ann}, action: role.grant, target: {type: door, id: A}, outcome: success}
  - title: a door opens
    line: '{"at": "2026-06-01T00:00:00Z", "who": "ann", "door": "A", "what": "open"}'
    event:
      {occurred_at: 2026-06-01T00:00:00Z, actor: {type: user, id: ann}, action: door.open, target: {type: door, id: A}, outcome: success}
"""


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("old.yaml").write_text(HEAD + GRANT + LOGIN, encoding="utf-8")
    Path("new.yaml").write_text(HEAD + WEAK + LOGIN, encoding="utf-8")


def catalog(*words: str, exit_code: int = 0) -> str:
    """Run the command as a program and return what it printed."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "100"}
    done = subprocess.run([sys.executable, "-m", "agent", "catalog", *words], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == exit_code, done.stdout + done.stderr
    return done.stdout + done.stderr


def document(*words: str, exit_code: int = 0) -> Any:
    return json.loads(catalog(*words, "--json", exit_code=exit_code))


class TestList:
    def test_without_a_catalog_it_lists_what_is_shipped(self):
        shown = catalog("list")
        assert all(f"shipped:{name} " in shown for name in shipped_catalogs())
        assert [each["name"] for each in document("list")["catalogs"]] == [f"shipped:{name}" for name in shipped_catalogs()]

    def test_each_action_stands_under_its_category_with_where_it_is_from(self):
        lines = [line.rstrip() for line in catalog("list", "old.yaml", "new.yaml").splitlines()]
        assert lines.index("authentication (1)") < lines.index("authorization (1)")
        [grant] = [line.split() for line in lines if "role.grant" in line]
        assert grant == ["role.grant", "high", "yes", "new.yaml:3"]
        assert lines[-1] == "2 actions in force, of old.yaml, new.yaml"

    def test_json_has_all_of_it_and_a_category_chooses(self):
        [action] = document("list", "old.yaml", "--category", "authentication")["actions"]
        assert action == {
            "action": "auth.login",
            "category": "authentication",
            "sensitivity": "medium",
            "privileged": False,
            "required_context": ["method"],
            "description": "Signed in.",
            "file": "old.yaml",
            "line": 4,
        }

    def test_what_a_configuration_names_is_listed(self, tmp_path):
        Path("t.yaml").write_text(
            "namespace: n\nservice: s\nstate: state\nstores: [{id: main, directory: store}]\ncatalog: [old.yaml, new.yaml]\n",
            encoding="utf-8",
        )
        listed = document("list", "--config", "t.yaml")
        assert listed["files"] == [str(tmp_path / "old.yaml"), str(tmp_path / "new.yaml")]
        Path("t.yaml").write_text(Path("t.yaml").read_text().replace("catalog", "# catalog"), encoding="utf-8")
        assert "names no catalog" in catalog("list", "--config", "t.yaml", exit_code=2)

    def test_a_catalog_that_is_wrong_is_not_listed(self):
        Path("new.yaml").write_text(HEAD + WEAK.replace("high", "huge"), encoding="utf-8")
        assert "new.yaml:3: actions.role.grant.sensitivity" in catalog("list", "new.yaml", exit_code=2)

    def test_a_file_s_text_cannot_drive_the_terminal(self):
        name = "[red]\x1b]0;owned\x07\u202e.yaml"
        Path(name).write_text(HEAD + '  "[bold]x[/bold]": {category: security, sensitivity: low, required_context: ["\\e[31m[red]"]}\n')
        shown = catalog("list", name) + catalog("check", name) + catalog("diff", name, "old.yaml", exit_code=1)
        assert not {"\x1b", "\x07", "\u202e"} & set(shown)
        assert "[bold]x[/bold]" in shown
        assert "\\x1b[31m[red]" in shown


class TestCheck:
    def test_every_error_is_told_with_file_line_and_key(self):
        Path("bad.yaml").write_text(
            f"format: 1\ninclude: [old.yaml, new.yaml, gone.yaml]\nactions:\n{LOGIN.replace('medium', 'med')}", encoding="utf-8"
        )
        shown = catalog("check", "bad.yaml", exit_code=2).splitlines()
        assert [line.removeprefix("error    ") for line in shown if line.startswith("error")] == [
            "bad.yaml:4: actions.auth.login.sensitivity: must be one of low, medium, high",
            "bad.yaml:2: include[2]: the catalog gone.yaml cannot be read: No such file or directory",
            "bad.yaml:2: include: role.grant is one thing in old.yaml:3 and another in new.yaml:3",
        ]
        found = document("check", "bad.yaml", exit_code=2)
        assert [(each["file"], each["line"], each["key"]) for each in found["errors"]] == [
            ("bad.yaml", 4, "actions.auth.login.sensitivity"),
            ("bad.yaml", 2, "include[2]"),
            ("bad.yaml", 2, "include"),
        ]
        assert found["ok"] is False

    def test_what_is_worth_a_look_fails_only_where_it_is_asked_to(self):
        assert "warning  old.yaml:3: role.grant is not in force: new.yaml:3 replaces it" in catalog("check", "old.yaml", "new.yaml")
        [warning] = document("check", "old.yaml", "new.yaml", "--strict", exit_code=1)["warnings"]
        assert warning == {
            "kind": "shadowed",
            "action": "role.grant",
            "file": "old.yaml",
            "line": 3,
            "other": {"action": "role.grant", "file": "new.yaml", "line": 3},
        }
        assert "0 warnings" in catalog("check", "old.yaml", "--strict")

    def test_what_a_mapping_makes_and_the_catalog_does_not_expect_is_told(self):
        Path("doors.yaml").write_text(MAPPING, encoding="utf-8")
        shown = catalog("check", "old.yaml", "--mapping", "./doors.yaml", exit_code=1)
        assert (
            'mapping  ./doors.yaml: role.grant would be quarantined without context.granted_role (example "a key is handed out")' in shown
        )
        assert 'mapping  ./doors.yaml: no entry knows door.open (example "a door opens")' in shown
        Path("new.yaml").write_text(
            Path("new.yaml").read_text() + LOGIN.replace("auth.login", "door.*").replace("[method]", "[]"), encoding="utf-8"
        )
        assert document("check", "new.yaml", "--mapping", "./doors.yaml")["mappings"] == []

    def test_the_mappings_of_a_configuration_s_sources_are_held_against_its_catalogs(self):
        Path("doors.yaml").write_text(MAPPING, encoding="utf-8")
        Path("t.yaml").write_text(
            "namespace: n\nservice: s\nstate: state\nstores: [{id: main, directory: store}]\n"
            "catalog: [old.yaml]\nsources: [{id: doors, file: /var/log/doors.log, mapping: ./doors.yaml}]\n",
            encoding="utf-8",
        )
        found = document("check", "--config", "t.yaml", exit_code=1)["mappings"]
        assert [(each["action"], each["missing_context"]) for each in found] == [("role.grant", "granted_role"), ("door.open", None)]


class TestDiff:
    def test_a_required_context_that_is_gone_is_weaker(self):
        shown = catalog("diff", "old.yaml", "new.yaml", exit_code=1)
        assert "~ role.grant  weaker    says something else (new.yaml:3)" in shown
        assert "required_context: granted_role → nothing" in shown
        assert "0 added, 0 removed, 1 changed; 1 weaker, 0 stronger" in shown
        [change] = document("diff", "old.yaml", "new.yaml", exit_code=1)["changes"]
        assert change == {
            "action": "role.grant",
            "kind": "changed",
            "direction": "weaker",
            "beside": None,
            "fields": [{"name": "required_context", "old": "granted_role", "new": "", "direction": "weaker"}],
            "file": "new.yaml",
            "line": 3,
        }

    def test_the_other_way_round_is_stronger_and_the_same_is_no_difference(self):
        assert document("diff", "new.yaml", "old.yaml", exit_code=1)["stronger"] == 1
        assert catalog("diff", "old.yaml", "old.yaml") == "The catalogs say the same.\n"

    def test_what_cannot_be_read_is_no_difference_but_an_error(self):
        assert "gone.yaml: the catalog cannot be read" in catalog("diff", "old.yaml", "gone.yaml", exit_code=2)


@pytest.mark.parametrize(
    "words", [["list", "old.yaml", "--config", "t.yaml"], ["check"], ["list", "--category", "security"], ["diff", "old.yaml"]]
)
def test_a_command_line_that_says_too_little_or_too_much_is_a_usage_error(words):
    assert "Usage:" in catalog(*words, exit_code=2)
