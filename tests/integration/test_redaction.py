"""Redaction with the real agent: what the rules name is in no file, log, metric or answer of it; and is found by whoever has the key."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING, Any

import pytest

from agent.events.redaction import PseudonymKey
from tests.support.agent_process import Site, trailseal, until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

ALICE, CARD, TOKEN = "alice@example.com", "4111111111111111", "sk_live_a1b2c3d4"
SECRETS = (ALICE, "alice%40", "alice\\u0040", "al\u200bice", CARD, "4111 1111", TOKEN, "tok_key_7", "1 High Street")
RULES: list[dict[str, Any]] = [
    {"path": "actor.id", "action": "hash"},
    {"path": "context.home_address", "action": "drop"},
    {"path": "context.tokens.*", "action": "drop"},
    {"pattern": "email", "action": "hash"},
    {"pattern": "card_number", "action": "mask", "keep_last": 4},
    {"pattern": r"\bsk_live_[A-Za-z0-9]+", "name": "stripe_key", "action": "mask"},
]


def event(number: int, actor: str, **context: object) -> str:
    made = {
        "event_id": f"e-{number}",
        "occurred_at": "2026-01-08T14:32:07Z",
        "actor": {"type": "user", "id": actor},
        "action": "refund.create",
        "target": {"type": "order", "id": "o-1"},
        "outcome": "success",
        "context": context,
        "stream": "audit",
    }
    return json.dumps(made)


EVENTS = [
    event(1, ALICE, note=f"card {CARD}, {TOKEN}", home_address="1 High Street"),
    event(2, "bob@example.com", by=f"<{ALICE}>", url="https://example.com/?q=alice%40example.com", odd=r"alice\u0040example.com"),
    event(3, ALICE, tokens={"tok_key_7": True}, deep=[{ALICE: {"card": int(CARD)}}], spread="4111 1111 1111 1111"),
    event(4, "al\u200bice@example.com", plain="kept as it is"),
]
QUARANTINED = [
    f'{{"stream":"audit","actor":"{ALICE}","{ALICE}":1,"card":{CARD}}}',
    f'{{"stream":"audit", broken {ALICE} {TOKEN}',
    event(5, ALICE, note=ALICE).replace('"outcome"', '"out_come"'),
    event(6, ALICE).replace('"event_id"', f'"{ALICE}": 1, "event_id"'),
    event(7, ALICE, note="x" * 5000 + ALICE),
]
OBSERVABILITY = f"observability of {ALICE} passes untouched"


def site_with(folder: Path, **settings: Any) -> Site:
    """Make a site that redacts, whose limit on lines is small."""
    key = folder / "pseudonym.key"
    if not key.exists():
        made = trailseal("keygen", "--pseudonym", key)
        assert made.returncode == 0, made.stderr
    redaction = {"key_file": str(key), "rules": RULES}
    chosen = {"redaction": redaction, "limits": {"line_bytes": "4KiB"}, "observability": {"file": str(folder / "passed.log")}} | settings
    return Site(folder, **chosen)


def key_of(folder: Path) -> PseudonymKey:
    return PseudonymKey.parse((folder / "pseudonym.key").read_text())


def write(site: Site) -> None:
    site.log.write_text("".join(f"{line}\n" for line in [*EVENTS, *QUARANTINED, OBSERVABILITY]))


def assert_no_secret_in_any_file_of_the_agent(site: Site) -> None:
    """Look through every file below the site but the service's own log, what passed through, and the configuration."""
    not_its = {site.log, site.config, site.folder / "passed.log", site.folder / "pseudonym.key"}
    looked = [path for path in site.folder.rglob("*") if path not in not_its and stat.S_ISREG(path.lstat().st_mode)]
    assert any(path.is_relative_to(site.state) for path in looked)
    key = key_of(site.folder)
    for path in looked:
        content = path.read_bytes()
        for secret in (*(secret.encode() for secret in SECRETS), key.secret, (site.folder / "pseudonym.key").read_bytes().strip()):
            assert secret not in content, f"{secret!r} in {path}"


def test_no_secret_reaches_spool_log_metric_or_status_of_a_running_and_of_a_killed_agent(tmp_path):
    site = site_with(tmp_path, seal={"max_age": "10m", "heartbeat": "10m"})
    write(site)
    with site.run() as agent:
        agent.ready()
        until(lambda: (site.status() or {}).get("spool", {}).get("records") == len(EVENTS + QUARANTINED), "all records in the spool")
        told = "".join(site.get(path)[1] for path in ("/metrics", "/status", "/healthz"))
        assert not any(secret in told for secret in SECRETS)
        assert_no_secret_in_any_file_of_the_agent(site)
        # What was not to be redacted is there to be found, so that looking means something.
        assert any(b"kept as it is" in path.read_bytes() for path in site.state.rglob("*") if path.is_file())
        agent.kill()
    assert_no_secret_in_any_file_of_the_agent(site)
    assert OBSERVABILITY in (tmp_path / "passed.log").read_text()


def test_no_secret_reaches_the_store_and_every_line_is_accounted_for(tmp_path):
    site = site_with(tmp_path)
    write(site)
    with site.run() as agent:
        agent.ready()
        site.wait_drained(site.log.stat().st_size)
        assert agent.stop() == 0
    assert_no_secret_in_any_file_of_the_agent(site)
    records = site.trails.records()
    stored = json.dumps(records, ensure_ascii=False)
    assert not any(secret in stored for secret in SECRETS)
    assert [record["kind"] for record in records] == ["event"] * len(EVENTS) + ["quarantine"] * len(QUARANTINED)
    key = key_of(tmp_path)
    events = [record["event"] for record in records if record["kind"] == "event"]
    assert [one["actor"]["id"] for one in events[:3]] == [key.pseudonym(ALICE), key.pseudonym("bob@example.com"), key.pseudonym(ALICE)]
    assert events[0]["context"] == {"note": "card [redacted]1111, [redacted]"}
    assert events[3]["context"] == {"plain": "kept as it is"}
    assert records[0]["redacted"] == ["actor.id", "context.note", "context.home_address"]
    broken = next(record for record in records if record.get("reason") == "not_json")
    assert (broken["length"], broken["hmac_sha256"]) == (len(QUARANTINED[1]), key.digest(QUARANTINED[1].encode()))
    assert broken["redacted"] == ["raw"]
    assert all(seal.manifest.agent.pseudonym_key == key.id for seal in site.trails.seals())
    assert site.verify().code == 0


def test_who_has_the_key_finds_everything_a_person_did_and_nobody_else_does(tmp_path):
    site = site_with(tmp_path)
    write(site)
    with site.run() as agent:
        agent.ready()
        site.wait_drained(site.log.stat().st_size)
        assert agent.stop() == 0
    other = tmp_path / "other.key"
    assert trailseal("keygen", "--pseudonym", other).returncode == 0
    for words, found in (([], 0), (["--pseudonym-key", str(tmp_path / "pseudonym.key")], 2), (["--pseudonym-key", str(other)], 0)):
        asked = trailseal("query", site.store, "--index", tmp_path / "index.duckdb", "--actor", ALICE, "--json", *words)
        assert asked.returncode == 0, asked.stderr
        answer = json.loads(asked.stdout)
        assert answer["statement"]["matched"] == found
        assert ("pseudonym" in answer["statement"]["query"]) == bool(words)


def test_a_new_key_is_taken_up_and_named_while_the_agent_runs_and_both_are_needed_to_find_all(tmp_path):
    site = site_with(tmp_path)
    site.log.write_text(EVENTS[0] + "\n")
    with site.run() as agent:
        agent.ready()
        site.wait_drained(site.log.stat().st_size)
        assert trailseal("keygen", "--pseudonym", tmp_path / "new.key").returncode == 0
        new, old = PseudonymKey.parse((tmp_path / "new.key").read_text()), key_of(tmp_path)
        before = (site.status() or {})["config_sha256"]
        site.configure(redaction={"key_file": str(tmp_path / "new.key"), "rules": RULES})
        until(lambda: (site.status() or {}).get("config_sha256") not in {before, None}, "the new configuration in force")
        with site.log.open("a") as log:
            log.write(EVENTS[2] + "\n")
        site.wait_drained(site.log.stat().st_size)
        assert agent.stop() == 0
    assert [one["actor"]["id"] for one in site.trails.events()] == [old.pseudonym(ALICE), new.pseudonym(ALICE)]
    named = [seal.manifest.agent.pseudonym_key for seal in site.trails.seals() if seal.manifest.records.count]
    assert named == [old.id, new.id]
    for keys, found in ((["pseudonym.key"], 1), (["new.key"], 1), (["pseudonym.key", "new.key"], 2)):
        words = [word for key in keys for word in ("--pseudonym-key", str(tmp_path / key))]
        asked = trailseal("query", site.store, "--index", tmp_path / "index.duckdb", "--actor", ALICE, "--json", *words)
        assert json.loads(asked.stdout)["statement"]["matched"] == found, asked.stderr


def test_the_agent_does_not_start_with_a_key_that_others_can_read(tmp_path):
    site = site_with(tmp_path)
    (tmp_path / "pseudonym.key").chmod(0o644)
    for command in ("check", "run"):
        done = trailseal(command, "--config", site.config)
        assert done.returncode == 2
        assert "key_file: others may read" in done.stderr
    assert not site.store.exists()
