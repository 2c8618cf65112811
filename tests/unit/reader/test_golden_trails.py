from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from agent.reader.fetch import DirectoryReader
from agent.reader.findings import Code
from agent.reader.trustfile import TrustFile
from agent.reader.verify import Options, verify_store
from agent.trail.batch import read_data
from agent.trail.seal import parse_seal
from tests.support.golden_trails import golden_trails, trust_lines

FOLDER = Path(__file__).parents[2] / "vectors" / "trails"
NOW = datetime(2026, 1, 8, 14, 34, tzinfo=UTC)
VERDICTS = {"two-epochs": (0, 8, set()), "enrolled": (0, 13, set()), "gap": (11, 5, {Code.GAP})}


def stored(name: str) -> dict[str, bytes]:
    root = FOLDER / name / "store"
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", VERDICTS)
def test_the_verdict_on_a_golden_trail_never_changes(name):
    trust = TrustFile.load(FOLDER / name / "trust")
    report = verify_store(DirectoryReader(FOLDER / name / "store"), Options(trust=trust), now=NOW)
    assert (report.severity.exit_code, report.records, set(report.log.counts)) == VERDICTS[name]


def lines_of(objects: dict[str, bytes]) -> list[list[bytes]]:
    return [list(read_data(raw, 1 << 20)) for key, raw in sorted(objects.items()) if key.startswith("records/")]


def facts_of(objects: dict[str, bytes]) -> list[object]:
    """Return what the seals say, without what depends on how zstd compressed the data."""
    facts: list[object] = []
    for key, raw in sorted(objects.items()):
        if key.endswith(".seal"):
            manifest = parse_seal(raw).manifest
            kept = manifest.data and (manifest.data.raw_bytes, manifest.data.key.rpartition("-")[0])
            facts.append((key, kept, msgspec.structs.replace(manifest, data=None, previous=None, continues=msgspec.UNSET)))
    return facts


@pytest.mark.parametrize("name", VERDICTS)
def test_todays_code_makes_the_same_trail(name):
    made = {key: raw for trail in golden_trails()[name] for key, raw in trail.objects.items()}
    there = stored(name)
    assert lines_of(made) == lines_of(there)
    assert facts_of(made) == facts_of(there)
    assert trust_lines(name, golden_trails()[name]) == (FOLDER / name / "trust").read_text("utf-8")
    compressed_alike = {key for key in made if key.startswith("records/")} == {key for key in there if key.startswith("records/")}
    assert made == there or not compressed_alike
