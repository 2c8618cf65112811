"""What the README shows works: its configuration, its commands in their order, its event, its options, its exit codes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.cli import COMMANDS, cli
from agent.config import load
from agent.events.classify import FieldRule
from agent.events.validate import Validator
from agent.events.verdict import Accepted
from tests.support.agent_process import Trails, until
from tests.support.object_servers.rgw import Rgw

if TYPE_CHECKING:
    import click

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
SETTINGS = [text for language, text in BLOCKS if language == "yaml"]
COMMAND_LINES = [text for language, text in BLOCKS if language == "sh"]
PAYMENTS = """#!/bin/sh
echo "listening on $2"
echo '{"stream":"audit","event_id":"e-2","occurred_at":"2026-01-08T14:32:08Z","actor":{"type":"system","id":"scheduler"},\
"action":"job.reconcile","target":{"type":"dataset","id":"payouts"},"outcome":"success"}'
"""
LATER = PAYMENTS.splitlines()[-1].replace("echo '", "").rstrip("'")


def block(beginning: str) -> str:
    """Return the one block of commands that begins with some words."""
    [found] = [text for text in COMMAND_LINES if text.startswith(beginning)]
    return found


class Shell:
    """Run the README's commands in a folder, as a person would who has `trailseal` on PATH."""

    def __init__(self, folder: Path) -> None:
        """Begin in a folder."""
        self.folder = folder
        self.environ = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def configure(self, settings: str) -> None:
        """Write the configuration; no TCP port, because the machine's 9600 may be taken."""
        (self.folder / "trailseal.yaml").write_text(settings + "vitals: {listen: none}\n", encoding="utf-8")

    def run(self, text: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=40,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.mark.slow
def test_the_five_minutes_work_from_the_first_command_to_the_auditors(tmp_path):
    shell, trails = Shell(tmp_path), Trails(tmp_path / "store")
    shell.configure(SETTINGS[0])
    assert shell.run(block("trailseal check")).startswith("ok ")
    assert shell.run(block("{\n")) == "GET /health 200\n"
    assert trails.event_ids() == ["e-1"]

    payments = tmp_path / "payments"
    payments.write_text(PAYMENTS)
    payments.chmod(payments.stat().st_mode | stat.S_IXUSR)
    assert shell.run(block("trailseal exec")) == "listening on 8080\n"
    assert trails.event_ids() == ["e-1", "e-2"]

    shell.configure(SETTINGS[1])
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "app.log").write_text(f"GET /\n{LATER.replace('e-2', 'e-3')}\n")
    [words] = [line.split() for line in block("trailseal run").splitlines()]
    with subprocess.Popen(words, cwd=tmp_path, env=shell.environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as agent:
        try:
            until(lambda: "e-3" in trails.event_ids() or agent.poll() is not None, "the event of the file in the store")
            assert "ready      yes" in shell.run("trailseal status --config trailseal.yaml")
        finally:
            agent.send_signal(signal.SIGTERM)
        assert agent.communicate(timeout=30)[0] == "GET /\n"
        assert agent.returncode == 0

    assert trails.event_ids() == ["e-1", "e-2", "e-3"]
    verdict = shell.run(block("trailseal trust store"))
    assert "intact and complete: 1 trail, 3 records (exit 0)" in verdict
    shell.environ["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    answer = shell.run(block("trailseal query store"))
    assert "complete: everything the store is known to hold for this range was verified" in answer
    assert "intact and stated complete: 1 of 1 events proven (exit 0)" in answer
    assert shell.run("trailseal keygen demo/payments --out payments.key").startswith("demo/payments/*/* ")


@pytest.mark.parametrize("settings", SETTINGS[:2], ids=["smallest", "files"])
def test_the_configuration_loads(settings, tmp_path):
    (tmp_path / "trailseal.yaml").write_text(settings, encoding="utf-8")
    loaded = load(str(tmp_path / "trailseal.yaml"), {"HOSTNAME": "web-1"})
    assert (loaded.namespace, loaded.service, [store.directory for store in loaded.stores]) == (
        "demo",
        "payments",
        [str(tmp_path / "store")],
    )


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_bucket_under_a_lock_works_as_shown(tmp_path):
    with Rgw(tmp_path / "rgw") as rgw:
        bucket = re.findall(r"s3://([\w-]+)/prod", SETTINGS[2])[0]
        # The audit's reader is the owner here, and so is the agent: the doctor is right to call that bad.
        rgw.bucket(bucket, lock="compliance")
        shell = Shell(tmp_path)
        shell.environ |= {"AWS_ENDPOINT_URL": rgw.endpoint, "AWS_ACCESS_KEY_ID": rgw.access_key, "AWS_SECRET_ACCESS_KEY": rgw.secret_key}
        shell.configure(SETTINGS[2])
        (tmp_path / "logs").mkdir()
        (tmp_path / "logs" / "app.log").write_text(f"GET /\n{LATER}\n")
        [words] = [line.split() for line in block("trailseal run").splitlines()]
        with subprocess.Popen(
            words, cwd=tmp_path, env=shell.environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as agent:
            try:
                until(lambda: re.search("confirmed +batch", asked(shell)), "a confirmed batch")
                until(lambda: "1 events" in asked(shell), "the event")
            finally:
                agent.send_signal(signal.SIGTERM)
            assert agent.communicate(timeout=30)[0] == "GET /\n"
            assert agent.returncode == 0
        verdict = shell.run(block("trailseal trust s3:"))
        assert "intact and complete: 1 trail, 1 records (exit 0)" in verdict
        assert "Assurance: locked" in verdict
        doctor = shell.run(f"{block('trailseal doctor').strip()} || test $? = 1")
        assert "BAD" in doctor
        assert "delete" in doctor


def asked(shell: Shell) -> str:
    """Return what the running agent says of itself; nothing while there is none."""
    return shell.run("trailseal status --config trailseal.yaml || true")


def test_the_event_is_a_valid_one_and_every_field_is_explained(tmp_path):
    [text] = [text for language, text in BLOCKS if language == "json"]
    event = json.loads(text)
    for name in ("trailseal.yaml", "catalog.yaml"):
        shutil.copy(ROOT / "config" / name, tmp_path)
    catalog = load(str(tmp_path / "trailseal.yaml"), {"HOSTNAME": "web-1"}).load_catalog()
    assert catalog.entry(event["action"])
    assert isinstance(Validator(FieldRule("stream", "audit"), catalog).judge_line(json.dumps(event).encode()), Accepted)
    explained = re.findall(r"(?m)^\| `(\w+)` \|", README.partition("## The event")[2].partition("## What an auditor does")[0])
    assert explained == [field for field in event if field != "stream"]


def commands() -> list[tuple[str, str]]:
    """Return every (command, option) that the README uses with `trailseal`."""
    code = [text for _, text in BLOCKS] + re.findall(r"`([^`\n]+)`", README)
    lines = [line for text in code for line in text.splitlines()]
    found = []
    for line in lines:
        for command, rest in re.findall(r"(?:^|[ /|])trailseal ([a-z]+)\b([^|]*)", line):
            ours = rest.partition(" -- ")[0]
            found += [(command, option) for option in re.findall(r"(?<=\s)--[a-z-]+", ours)] or [(command, "")]
    return sorted(set(found))


@pytest.mark.parametrize(("command", "option"), commands())
def test_every_command_and_option_exists(command, option):
    assert command in COMMANDS
    found: click.Command | None = cli.get_command(cli.make_context("trailseal", ["version"]), command)
    assert found is not None
    assert option in {"", *(name for parameter in found.params for name in parameter.opts)}


def test_the_options_named_for_verify_exist():
    found = cli.get_command(cli.make_context("trailseal", ["version"]), "verify")
    assert found is not None
    named = re.findall(r"`(--[a-z]+)", README.partition("## What an auditor does")[2].partition("## What is guaranteed")[0])
    assert {"--expected", "--fresh", "--json"} == set(named)
    assert set(named) <= {name for parameter in found.params for name in parameter.opts}


def test_the_exit_codes_are_those_of_the_page_on_verify():
    page = (ROOT / "docs" / "verify.md").read_text(encoding="utf-8")
    rows = r"(?m)^\| ([\d, ]+) \| ([\w ]+)"
    assert re.findall(rows, README) == re.findall(rows, page.partition("## Options")[0])


def test_what_the_readme_runs_or_installs_from_is_there():
    for script in re.findall(r"(?m)^(scripts/\S+)", "\n".join(COMMAND_LINES)):
        assert os.access(ROOT / script, os.X_OK), script
    [requirements] = re.findall(r"-r (\S+)", README)
    assert "--hash=sha256:" in (ROOT / requirements).read_text()
