"""docs/verify.md and the code name the same findings, options and JSON keys."""

from __future__ import annotations

import re
from pathlib import Path

from agent.reader.cli import verify_command
from agent.reader.findings import EXPLANATIONS, Code
from agent.reader.report import as_json
from agent.reader.verify import Options, verify_store
from tests.support.trail_factory import sample_trail
from tests.unit.reader.versioned_bucket import NOW, VersionedBucket, VersionedReader, attester_of

TEXT = (Path(__file__).parents[3] / "docs" / "verify.md").read_text("utf-8")


def section(title: str) -> str:
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_every_code_is_documented_with_its_exit_and_meaning_and_no_other():
    rows = re.findall(r"^\| `([a-z_]+)` \| (\w+) \| (.+) \|$", section("The findings"), re.MULTILINE)
    written = {code: (exit_code, meaning) for code, exit_code, meaning in rows}
    assert written == {code.value: (str(code.severity.exit_code or "notice"), EXPLANATIONS[code].meaning) for code in Code}
    assert len(rows) == len(Code)


def test_every_option_is_documented_and_no_other():
    written = set(re.findall(r"^\| `(--[a-z-]+)", section("Options"), re.MULTILINE))
    options = {name for parameter in verify_command.params for name in parameter.opts if name.startswith("--")}
    assert written == options


def test_every_json_key_is_documented_and_no_other():
    trail = sample_trail()
    bucket = VersionedBucket(trail.objects)
    store = VersionedReader(bucket)
    document = as_json(verify_store(store, Options(), now=NOW, attester=attester_of(bucket, store.pins)))
    attestation = document["attestation"]
    keys = set(document) | set(document["trails"][0]) | set(document["findings"][0]) | set(attestation) | set(attestation["policy"])
    table = section("JSON").partition("|---|---|\n")[2]
    values = {
        "open",
        "stopped",
        "closed",
        "continued",
        "unknown",
        "intact",
        "incomplete",
        "not verified",
        "tampered",
        "unanchored",
        "locked",
        "notice",
    }
    assert {word.removesuffix("[]") for word in re.findall(r"`([a-z_ \[\]]+)`", table)} - values == keys
