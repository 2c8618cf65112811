"""The house stands as its papers say: locks, tools, licence, versions, decisions, and the trail format's document."""

import base64
import os
import re
import tomllib
from hashlib import sha256
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from agent.errors import ConfigError, IntegrityError, NotVerifiedError
from agent.trail.batch import read_data
from agent.trail.manifest import ContinuesWhy, Manifest, ManifestReason
from agent.trail.merkle import leaf_hash, node_hash
from agent.trail.note import SigningKey, VerifierKey
from agent.trail.records import Certainty, GapCause, QuarantineReason
from agent.trail.seal import open_seal, parse_seal

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SUPPORTED = ["3.11", "3.12", "3.13"]
LOCKS = ["runtime", "attest", "evidence", "dev"]
PAPERS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
SCRIPTS = [
    ".ci/run",
    "scripts/azurite.sh",
    "scripts/demo.sh",
    "scripts/image.sh",
    "scripts/packages.sh",
    "scripts/sbom.sh",
    "scripts/setup.sh",
    "scripts/test.sh",
    "scripts/wheel.sh",
]


def name_of(requirement: str) -> str:
    """Return a requirement's name as the locks write it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", Requirement(requirement).name).lower()


def locked(kind: str) -> dict[str, list[str]]:
    """Return the hashes of every ``name==version`` of a lock."""
    entries: dict[str, list[str]] = {}
    current = ""
    for line in (ROOT / f"requirements/{kind}.txt").read_text().splitlines():
        if found := re.match(r"([a-z0-9-]+==\S+)", line):
            current = found[1]
            entries[current] = []
        elif found := re.fullmatch(r"    --hash=sha256:([0-9a-f]{64})(?: \\)?", line):
            entries[current].append(found[1])
        else:
            assert line.startswith("    #"), f"a line that is neither a version, a hash nor a comment: {line}"
    return entries


@pytest.mark.parametrize("kind", LOCKS)
def test_every_locked_version_has_the_hashes_of_its_files(kind):
    entries = locked(kind)
    assert len(entries) > len(PROJECT["project"]["dependencies"])
    assert [entry for entry, hashes in entries.items() if not hashes] == []
    assert all(len(set(hashes)) == len(hashes) for hashes in entries.values())


@pytest.mark.parametrize("kind", LOCKS)
def test_no_lock_names_an_index_or_a_path(kind):
    text = (ROOT / f"requirements/{kind}.txt").read_text()
    assert re.findall(r"(?m)https?:|file:|^\s*-(?!-hash)|--(?!hash=)\w+|(?:^|\s)/\S+", text) == []


def test_the_development_lock_holds_the_runtime_lock():
    runtime, dev = locked("runtime"), locked("dev")
    assert {entry: set(dev[entry]) for entry in runtime} == {entry: set(hashes) for entry, hashes in runtime.items()}


@pytest.mark.parametrize(
    ("kind", "requirements"),
    [
        ("runtime", PROJECT["project"]["dependencies"]),
        ("dev", PROJECT["project"]["optional-dependencies"]["dev"]),
        ("attest", PROJECT["project"]["optional-dependencies"]["attest"]),
        ("evidence", PROJECT["project"]["optional-dependencies"]["evidence"]),
        ("dev", PROJECT["build-system"]["requires"]),
    ],
)
def test_the_locks_satisfy_what_the_project_asks_for(kind, requirements):
    versions = dict(entry.split("==") for entry in locked(kind))
    assert [r for r in requirements if not Requirement(r).specifier.contains(versions.get(name_of(r), "0"))] == []


def test_every_rule_that_the_linter_ignores_has_its_reason():
    text = (ROOT / "pyproject.toml").read_text()
    section = text[text.index("[tool.ruff.lint]") : text.index("[tool.ruff.lint.flake8-type-checking]")]
    ignored = re.findall(r'(?m)^ {2}"([A-Z]+[0-9]*)",(.*)$', section)
    lint = PROJECT["tool"]["ruff"]["lint"]
    assert lint["select"] == ["ALL"]
    assert sorted(code for code, _ in ignored) == sorted([*lint["ignore"], *chain.from_iterable(lint["per-file-ignores"].values())])
    assert [code for code, rest in ignored if not re.fullmatch(r" +# (as [A-Z]+\d+|\S.{8,})", rest)] == []


def test_the_licence_is_apache_2():
    text = (ROOT / "LICENSE").read_text()
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert re.search(r"Apache License\s+Version 2\.0, January 2004", text)
    assert "END OF TERMS AND CONDITIONS" in text
    assert len(text.split()) > 1500


def test_all_places_agree_on_the_python_versions():
    classifiers = [c.rpartition(" ")[2] for c in PROJECT["project"]["classifiers"] if re.search(r"Python :: 3\.\d+$", c)]
    assert classifiers == SUPPORTED
    oldest = SUPPORTED[0]
    assert PROJECT["project"]["requires-python"] == f">={oldest}"
    assert PROJECT["tool"]["ruff"]["target-version"] == "py" + oldest.replace(".", "")
    assert PROJECT["tool"]["mypy"]["python_version"] == oldest
    assert f"--python-version {oldest} " in (ROOT / "Makefile").read_text()
    assert f"sys.version_info < ({oldest.replace('.', ', ')})" in (ROOT / "scripts/setup.sh").read_text()
    assert "Python 3.11, 3.12 or 3.13" in (ROOT / "CONTRIBUTING.md").read_text()
    for paper in PAPERS:
        named = set(re.findall(r"Python (?:>= ?|≥ ?)?(3\.\d+)", paper.read_text()))
        assert named <= set(SUPPORTED), f"{paper.name} names a Python version that is not supported"


def test_the_decision_on_dependencies_lists_exactly_the_dependencies():
    table = re.findall(r"(?m)^\| ([\w.-]+) \|", (ROOT / "docs/adr/0002-dependencies.md").read_text())
    assert [name for name in table if name != "library"] == sorted(Requirement(r).name for r in PROJECT["project"]["dependencies"])


def test_decisions_are_numbered_in_order_and_have_a_status():
    records = sorted((ROOT / "docs/adr").glob("*.md"))
    assert [int(record.name[:4]) for record in records] == list(range(1, len(records) + 1))
    for record in records:
        text = record.read_text()
        assert re.match(rf"# {int(record.name[:4])}\. ", text), record.name
        assert re.search(r"(?m)^Status: (accepted|superseded by \d+)$", text), record.name


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: str(paper.relative_to(ROOT)))
def test_every_link_inside_the_papers_leads_somewhere(paper):
    prose = re.sub(r"`[^`\n]*`", "", paper.read_text())
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", prose)
    assert [t for t in targets if not re.match(r"[a-z]+:", t) and not (paper.parent / t).exists()] == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_can_be_executed_and_stop_at_the_first_failure(name):
    script = ROOT / name
    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in script.read_text()


def test_every_make_target_that_the_papers_name_exists():
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    named = {
        target for paper in PAPERS for target in re.findall(r"(?:`|^ {4})(?:[A-Z]+=\S+ )*make ([a-z-]+)", paper.read_text(), re.MULTILINE)
    }
    assert {"setup", "check", "test", "lock"} <= named
    assert named <= targets


def test_the_list_of_debian_packages_holds_package_names():
    lines = [line for line in (ROOT / "tests/debian-packages.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert lines
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", line)] == []


FORMAT = (ROOT / "docs/trail-format.md").read_text()


@pytest.mark.parametrize(
    ("row", "values"),
    [
        ("quarantine reasons", QuarantineReason),
        ("gap causes", GapCause),
        ("certainties", Certainty),
        ("manifest reasons", ManifestReason),
        ("reasons to continue", ContinuesWhy),
    ],
)
def test_the_closed_lists_of_the_trail_format_are_those_of_the_code(row, values):
    found = re.search(rf"(?m)^\| {row} \| (.*) \|$", FORMAT)
    assert found, row
    assert re.findall(r"`(\w+)`", found[1]) == [value.value for value in values]


def test_the_manifest_keys_of_the_trail_format_are_those_of_the_code():
    section = FORMAT[FORMAT.index("## 4. The manifest") : FORMAT.index("### 4.1 Reasons")]
    assert re.findall(r"(?m)^\| `(\w+)` \|", section) == list(Manifest.__struct_fields__)


def test_the_exit_codes_of_the_trail_format_are_those_of_the_errors():
    section = FORMAT[FORMAT.index("### 8.1 Exit codes") : FORMAT.index("### 8.2")]
    codes = {int(code) for code in re.findall(r"\b(\d+)\b(?=[^|]*\|[^|]*\|$)", section, re.MULTILINE)}
    assert {IntegrityError.exit_code, NotVerifiedError.exit_code, ConfigError.exit_code} == {10, 12, 2}
    assert codes == {0, 1, 2, 10, 11, 12}


def example_block(after: str) -> bytes:
    """Return the indented block that follows a sentence of the worked example."""
    text = FORMAT[FORMAT.index("## 11. A worked example") :]
    lines: list[str] = []
    for line in text[text.index(after) + len(after) :].split("\n")[1:]:
        if line and not line.startswith("    "):
            break
        lines.append(line[4:])
    return ("\n".join(lines).strip("\n") + "\n").encode()


def test_the_worked_example_is_a_valid_trail():
    vkey = example_block("the vkey\n").decode().strip()
    key = VerifierKey.parse(vkey)
    assert SigningKey.from_seed(key.name, bytes(range(32))).verifier == key
    first = parse_seal(example_block("after the last line:\n"))
    second = parse_seal(example_block("The seal object:\n"))
    line = example_block("the leaf with seq 1:\n").removesuffix(b"\n")
    data = base64.b64decode(example_block("in base64:\n"))

    for seal in (first, second):
        _, verified = open_seal(seal, key.name, {key})
        assert verified == {key}
    assert first.manifest.key == vkey
    assert second.manifest.previous == first.sha256
    assert second.manifest.data is not None
    assert second.manifest.data.sha256 == sha256(data).hexdigest()
    assert list(read_data(data, second.manifest.data.raw_bytes)) == [line]

    leaves = [leaf_hash(leaf) for leaf in (first.manifest_line, line, second.manifest_line)]
    node = node_hash(leaves[0], leaves[1])
    table = re.findall(r"(?m)^\| .* \| `([0-9a-f]{64})` \|$", FORMAT)
    assert table == [hashed.hex() for hashed in (*leaves, node, node_hash(node, leaves[2]))]
    assert second.proof.hashes == (node,)
    assert second.checkpoint().root.hex() == table[-1]
