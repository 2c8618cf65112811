"""docs/evidence.md and the code name the same options, files, JSON keys and exit codes."""

from __future__ import annotations

import json
import re
import shlex
import zipfile
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.reader.ask.filters import Filter
from agent.reader.evidence.cli import export_command, prove_command
from agent.reader.evidence.offline.cli import verify_pack_command, verify_proof_command
from agent.reader.evidence.pack import write_pack
from agent.reader.evidence.selecting import Question
from agent.reader.trustfile import TrustFile
from tests.support.evidence_store import write_store
from tests.support.trail_factory import sample_trail

TEXT = (Path(__file__).parents[4] / "docs" / "evidence.md").read_text("utf-8")


def section(title):
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize(
    "command", [prove_command, verify_proof_command, export_command, verify_pack_command], ids=lambda command: command.name
)
def test_every_option_is_documented_and_no_other(command):
    table = TEXT.split(f"| option of `{command.name}` | meaning |\n|---|---|\n")[1].split("\n\n")[0]
    written = {name for cell in re.findall(r"^\| (.+?) \|", table, re.MULTILINE) for name in re.findall(r"`(--[a-z-]+)", cell)}
    options = {name for parameter in command.params for name in parameter.opts if name.startswith("--")}
    assert written == options


def test_every_file_of_a_pack_is_documented_and_no_other(indexed, tmp_path):
    trail = sample_trail()
    index, store = indexed(trail)
    question = Question(Filter(), correlate="context.granted_role", renderings=("ocsf", "ecs"))
    now = trail.now + timedelta(seconds=5)
    write_pack(tmp_path / "x.zip", index, store, question, trust=TrustFile.parse(trail.trust_line, "t"), now=now)
    with zipfile.ZipFile(tmp_path / "x.zip") as pack:
        names = {re.sub(r"/.*/(\d+\.)?", lambda found: "/…/SEQ." if found[1] else "/…/", name) for name in pack.namelist()}
        readme = pack.read("README.md").decode()
    assert (
        set(re.findall(r"^\| `([^`]+)` \|", section("Hand over the answer to a question").split("| file in the pack")[1], re.MULTILINE))
        >= names
    )
    documented = set(re.findall(r"`([A-Za-z0-9./-]+)`", readme.split("## What is in it")[1].split("\n## ")[0]))
    assert {name.replace("…", "TRAIL") for name in names if "seals" not in name} - documented <= {"README.md"}


def test_the_json_keys_are_documented(indexed, tmp_path, monkeypatch):
    trail = sample_trail()
    index, store = indexed(trail)
    now = trail.now + timedelta(seconds=5)
    write_pack(tmp_path / "x.zip", index, store, Question(Filter(), renderings=("ocsf",)), trust=TrustFile(), now=now)
    document = json.loads(CliRunner().invoke(verify_pack_command, [str(tmp_path / "x.zip"), "--json"]).stdout)
    keys = set(document) | set(document["trails"][0]) | set(document["faults"][0]) | set(document["renderings"][0])
    assert keys <= set(re.findall(r"`([a-z_ ]+)`", section("JSON of `verify-pack`")))
    with zipfile.ZipFile(tmp_path / "x.zip") as pack:
        name = next(name for name in pack.namelist() if name.startswith("proofs/"))
        (tmp_path / "proof").write_bytes(pack.read(name))
        lines = pack.read("events.ndjson").splitlines()
        leaf = next(line for line in lines if line.startswith(b'{"seq":%d,' % int(Path(name).stem)))
    (tmp_path / "leaf").write_bytes(leaf)
    words = [str(tmp_path / "proof"), "--leaf", str(tmp_path / "leaf"), "--json"]
    proven = json.loads(CliRunner().invoke(verify_proof_command, [*words, "--key", trail.vkey]).stdout)
    failed = json.loads(CliRunner().invoke(verify_proof_command, words).stdout)
    assert (proven["exit_code"], failed["exit_code"]) == (0, 12)
    written = set(re.findall(r"`([a-z_0-9]+)`", section("JSON of `verify-proof`")))
    assert proven.keys() | failed.keys() == written - {"proven", "tampered"}


@pytest.mark.slow
def test_the_commands_of_the_page_do_what_it_says(tmp_path, monkeypatch):
    """Every indented command is run in the order of the page's work: prove, verify-proof, export, verify-pack."""
    written = write_store(tmp_path / "made", events=3000)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trust.txt").write_bytes(written.trust.read_bytes())
    (tmp_path / "evidence").mkdir()
    commands = [shlex.split(line) for line in re.findall(r"^ +trailseal (.+)$", TEXT, re.MULTILINE)]
    found = {command.name: command for command in (prove_command, verify_proof_command, export_command, verify_pack_command)}
    order = list(found)
    ran = []
    for name, *said in sorted(commands, key=lambda words: order.index(words[0])):
        words = [str(written.store) if word == "/srv/trail" else word for word in said]
        done = CliRunner().invoke(found[name], words)
        assert done.exit_code == 0, (name, words, done.output)
        ran.append((name, done.stdout))
    assert [name for name, _ in ran] == ["prove", "prove", "verify-proof", "export", "verify-pack"]
    shown = re.search(r"```text\n(.*?)```", section("Prove one event"), re.DOTALL)
    assert shown
    assert ran[2][1] == shown[1]
