"""The command `verify-pack`: what it says, what it leaves, and what it needs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile

import pytest
from click.testing import CliRunner

from agent.reader.evidence.offline.cli import verify_pack_command
from tests.support.trail_factory import sample_trail
from tests.unit.reader.evidence.forging import contents, rewrite


def test_the_command_says_what_it_found_and_ends_with_it(pack, tmp_path):
    path, _ = pack(sample_trail())
    (tmp_path / "trust").write_text(sample_trail().trust_line)
    run = CliRunner().invoke
    good = run(verify_pack_command, [str(path), "--trust", str(tmp_path / "trust"), "--page", str(tmp_path / "own.html")])
    assert good.exit_code == 0
    assert good.stdout.splitlines()[-1] == "intact and stated complete: 12 of 12 events proven (exit 0)"
    assert (tmp_path / "own.html").read_bytes() == contents(path)["index.html"]
    unknown = run(verify_pack_command, [str(path)])
    assert (unknown.exit_code, "NOBODY vouches" in unknown.stdout) == (12, True)
    document = json.loads(run(verify_pack_command, [str(path), "--key", sample_trail().vkey, "--json"]).stdout)
    assert (document["verdict"], document["exit_code"], document["proven"], document["page_is_ours"]) == ("proven", 0, 12, True)
    files = contents(path)
    files["events.ndjson"] = files["events.ndjson"].replace(b"user-", b"\x1b[2J-", 1)
    rewrite(path, files)
    bad = run(verify_pack_command, [str(path), "--trust", str(tmp_path / "trust"), "--quiet", "--page", str(tmp_path / "bad.html")])
    assert not (tmp_path / "bad.html").exists()
    assert (bad.exit_code, bad.stdout) == (10, "tampered: 11 of 12 events fit their proofs and signatures (exit 10)\n")


def test_control_characters_in_a_pack_do_not_reach_the_terminal(pack):
    path, _ = pack(sample_trail())
    files = contents(path)
    query = json.loads(files["query.json"])
    query["query"] = "\x1b[2Jall is well\u202e"
    rewrite(path, {**files, "query.json": json.dumps(query).encode(), "x\x1b[1m": b""})
    said = CliRunner().invoke(verify_pack_command, [str(path)]).stdout
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", said)


@pytest.mark.slow
def test_neither_a_database_nor_a_network_is_needed(pack, tmp_path):
    path, _ = pack(sample_trail(), renderings=("ocsf", "ecs"))
    (tmp_path / "trust").write_text(sample_trail().trust_line)
    program = (
        "import sys\nfor name in ('duckdb', 'aiohttp', 'obstore', 'socket'): sys.modules[name] = None\n"
        "from agent.reader.evidence.offline.cli import verify_pack_command\nverify_pack_command(sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path), "--trust", str(tmp_path / "trust")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("page", [True, False])
def test_temporary_files_of_a_check_lie_beside_the_page_or_the_pack(pack, tmp_path, monkeypatch, page):
    path, _ = pack(sample_trail())
    (tmp_path / "pages").mkdir()
    made, folders = tempfile.TemporaryFile, set()

    def noted(*arguments, **named):
        folders.add(named.get("dir"))
        return made(*arguments, **named)

    monkeypatch.setattr(tempfile, "TemporaryFile", noted)
    words = ["--page", str(tmp_path / "pages" / "x.html")] if page else []
    done = CliRunner().invoke(verify_pack_command, [str(path), "--key", sample_trail().vkey, *words])
    assert done.exit_code == 0
    assert folders == {tmp_path / "pages" if page else tmp_path}
    assert [one.name for one in (tmp_path / "pages").iterdir()] == (["x.html"] if page else [])
