"""`check`, `status`, `version`, metrics, and what the command line refuses."""

from __future__ import annotations

import http.client
import json
import stat
import time
from typing import TYPE_CHECKING, Any

import pytest

from agent import __version__
from agent.vitals.catalogue import CATALOGUE, PREFIX
from tests.support import loggen
from tests.support.agent_process import Site, free_port, trailseal, until

if TYPE_CHECKING:
    from pathlib import Path


HEARTBEAT = f"{PREFIX}heartbeat_timestamp_seconds"


GOOD = """\
namespace: demo
service: payments
state: state
sources:
  - {id: app, file: "logs/*.log"}
seal: {max_age: 5s}
stores:
  - {id: main, directory: store}
vitals: {listen: none}
"""


@pytest.mark.parametrize(
    ("line", "wrong", "key"),
    [
        (6, "seal: {max_age: soon}", "seal.max_age"),
        (6, "seals: {max_age: 5s}", "seals"),
        (5, "  - {id: app, file: 7}", "sources[0].file"),
        (8, "  - {id: main, directory: store, required: perhaps}", "stores[0].required"),
        (3, "state: ${SURELY_NOT_SET}", "state"),
        (9, "catalog: missing.yaml", "catalog"),
        (9, "enrolment_key: missing.key", "enrolment_key"),
        (4, "sources: [", None),
    ],
)
@pytest.mark.parametrize("command", ["run", "check"])
def test_a_wrong_configuration_is_one_clear_line_and_exit_2(tmp_path: Path, command: str, line: int, wrong: str, key: str | None) -> None:
    lines = GOOD.splitlines()
    lines[line - 1] = wrong
    file = tmp_path / "trailseal.yaml"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = trailseal(command, "--config", file)
    assert done.returncode == 2
    assert done.stdout == ""
    message, *hints = done.stderr.splitlines()
    assert message.startswith(f"trailseal: {file}:" if key is None else f"trailseal: {file}:{line}: {key}")
    assert len(hints) <= 1
    assert not (tmp_path / "state").exists()


def test_a_configuration_that_does_not_exist_and_a_missing_option_exit_2(tmp_path: Path) -> None:
    done = trailseal("run", "--config", tmp_path / "none.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "none.yaml" in done.stderr
    assert trailseal("run").returncode == 2
    assert trailseal("dance").returncode == 2


def test_an_address_in_use_is_one_clear_line_and_exit_2(tmp_path: Path) -> None:
    port = free_port()
    with (
        Site(tmp_path / "one", vitals={"listen": f"127.0.0.1:{port}"}).run() as first,
        Site(tmp_path / "two", vitals={"listen": f"127.0.0.1:{port}"}).run() as second,
    ):
        until(lambda: {first.process.poll(), second.process.poll()} != {None}, "a refusal")
        assert {first.process.poll(), second.process.poll()} == {None, 2}
    assert "vitals.listen" in first.log + second.log


def test_check_looks_at_configuration_and_state(tmp_path: Path) -> None:
    site = Site(tmp_path)
    fresh = trailseal("check", "--config", site.config, "--json")
    assert fresh.returncode == 0, fresh.stdout
    assert not site.state.exists()
    site.log.write_bytes(loggen.block(0, 100))
    with site.run() as agent:
        agent.ready()
        site.wait_drained(site.log.stat().st_size)
        assert agent.stop() == 0
    used = json.loads(trailseal("check", "--config", site.config, "--json").stdout)
    assert used["ok"]
    assert "last stop" in next(finding["detail"] for finding in used["findings"] if finding["what"] == "state")
    database = site.state / "spool.db"
    database.write_bytes(b"nothing of the kind" * 1000)
    broken = trailseal("check", "--config", site.config)
    assert broken.returncode == 1
    assert "BAD" in broken.stdout


@pytest.mark.slow
def test_status_says_what_the_agent_does_and_that_none_runs(tmp_path: Path) -> None:
    site = Site(tmp_path)
    none = trailseal("status", "--config", site.config)
    assert none.returncode == 2
    assert "no agent runs" in none.stderr
    site.log.write_bytes(loggen.block(0, 100))
    with site.run() as agent:
        agent.ready()
        site.wait_drained(site.log.stat().st_size)
        until(lambda: ((site.status() or {}).get("last_confirmed") or {}).get("size", 0) > 10, "a confirmation")
        told = trailseal("status", "--config", site.config)
        assert told.returncode == 0
        answer: dict[str, Any] = json.loads(trailseal("status", "--config", site.config, "--json").stdout)
        assert answer["pid"] == agent.process.pid
        assert answer["head"]["events"] == 10
        assert answer["head"]["key"] in told.stdout
        assert answer["head"]["key"] in trailseal("trust", site.store).stdout
        assert stat.S_IMODE((site.state / "agent.sock").stat().st_mode) == 0o600
        sound = site.config.read_text(encoding="utf-8")
        site.config.write_text(sound.replace('"namespace"', '"namespce"'), encoding="utf-8")
        assert trailseal("check", "--config", site.config).returncode == 2
        assert answer["head"]["key"] in trailseal("status", "--config", site.config).stdout
        site.config.write_text("{}", encoding="utf-8")
        assert "state: this key is missing" in trailseal("status", "--config", site.config).stderr
        site.config.write_text(sound, encoding="utf-8")
    killed = trailseal("status", "--config", site.config)
    assert killed.returncode == 2


def test_version_says_which(tmp_path: Path) -> None:
    assert json.loads(trailseal("version", "--json").stdout)["trailseal"] == __version__
    assert __version__ in trailseal("version").stdout


def test_every_instrument_is_shown_and_the_main_ones_move(tmp_path: Path) -> None:
    port = free_port()
    site = Site(tmp_path, vitals={"listen": f"127.0.0.1:{port}"}, seal={"max_age": "200ms", "heartbeat": "1s"})
    site.log.write_bytes(loggen.block(0, 1000) + b'{"stream":"audit"}\n')
    with site.run() as agent:
        agent.ready()
        site.wait_drained(site.log.stat().st_size)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        shown = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}
        expected = {PREFIX + each.name for each in CATALOGUE}
        assert {name for name in expected if not {name, name.removesuffix("_total")} & shown} == set()
        metrics = site.metrics()
        beat = metrics[HEARTBEAT]
        until(lambda: site.metrics()[HEARTBEAT] > beat, "another heartbeat")
        metrics = site.metrics()
        assert agent.stop() == 0
    for name, value in {
        'lines_total{source="app"}': 1001,
        'observability_lines_total{source="app"}': 900,
        'source_bytes_total{source="app"}': site.log.stat().st_size,
        'records_total{kind="event",source="app"}': 100,
        'records_total{kind="quarantine",source="app"}': 1,
        'quarantined_total{reason="missing_field",source="app"}': 1,
        'batches_sealed_total{reason="open"}': 1,
        "spool_full": 0,
        "forks_total": 0,
    }.items():
        assert metrics[PREFIX + name] == value, name
    for name in ("spool_commits_total", "head_size", "seal_raw_bytes_total", 'store_receipts_total{store="main"}'):
        assert metrics[PREFIX + name] > 0, name
    assert metrics[HEARTBEAT] == pytest.approx(time.time(), abs=30)
