"""`trailseal exec` and `trailseal pipe`: what they pass on, what they keep, how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.support import loggen
from tests.support.agent_process import LOGGEN, Site, until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


SERVICE = r"""
import sys
out, err = sys.stdout.buffer, sys.stderr.buffer
AUDIT = b'{"stream":"audit","event_id":"%s","occurred_at":"2026-01-08T14:32:07Z","actor":{"type":"system","id":"cron"},' \
        b'"action":"job.run","target":{"type":"job","id":"j"},"outcome":"success"}\n'
out.write(b"plain\r\n\x00\xff\xfe not UTF-8\n\n  indented\t\n" + AUDIT % b"from-stdout" + b'{"stream":"audits"}\n')
out.write(b"x" * 300_000 + b"\n")
err.write(b"Traceback (most recent call last):\n" + AUDIT % b"from-stderr" + b"ValueError: \xc3\n")
out.write(b"no newline at the end")
out.flush(); err.flush()
sys.exit(3)
"""


def test_exec_passes_on_byte_for_byte_and_keeps_channels_and_exit_code(tmp_path: Path) -> None:
    site = Site(tmp_path, sources=None, observability="stdout")
    with site.run("exec", "--", *python(SERVICE), stdout=subprocess.PIPE) as agent:
        assert agent.process.stdout is not None
        out = agent.process.stdout.read()
        assert agent.process.wait(60) == 3
    assert out == b"".join((
        b"plain\r\n\x00\xff\xfe not UTF-8\n\n  indented\t\n", b'{"stream":"audits"}\n', b"x" * 300_000, b"\n", b"no newline at the end"
    ))  # fmt: skip
    # The agent's own log shares standard error, in lines of its own.
    err = [line for line in agent.stderr_path.read_bytes().splitlines(keepends=True) if not line.startswith(b'{"time"')]
    assert err == [b"Traceback (most recent call last):\n", b"ValueError: \xc3\n"]
    assert sorted(site.trails.event_ids()) == ["from-stderr", "from-stdout"]
    assert {record["source"] for record in site.trails.records()} == {"command"}
    assert site.trails.reasons()[-1] == "stop"
    assert site.verify().code == 0


def test_exec_forwards_sigterm_and_keeps_what_the_service_says_last(tmp_path: Path) -> None:
    site = Site(tmp_path, sources=None, observability="stdout")
    code = (
        "import signal, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "import loggen\n"
        "def last(*_):\n    sys.stdout.buffer.write(loggen.audit_line(1)); sys.stdout.flush(); sys.exit(9)\n"
        "signal.signal(signal.SIGTERM, last)\n"
        "sys.stdout.buffer.write(loggen.audit_line(0) + b'up\\n'); sys.stdout.flush()\n"
        "while True: signal.pause()\n"
    )
    folder = os.path.dirname(LOGGEN[1])  # noqa: PTH120 - a word of a command line
    with site.run("exec", "--", *python(code), folder, stdout=subprocess.PIPE) as agent:
        assert agent.process.stdout is not None
        assert agent.process.stdout.readline() == b"up\n"
        agent.process.send_signal(signal.SIGTERM)
        assert agent.process.wait(60) == 9
    assert site.trails.event_ids() == [loggen.event_id(0), loggen.event_id(1)]
    assert site.verify().code == 0


def test_exec_of_a_command_that_does_not_exist_ends_with_127(tmp_path: Path) -> None:
    site = Site(tmp_path, sources=None)
    with site.run("exec", "--", "/nonexistent/service") as agent:
        assert agent.process.wait(60) == 127
    assert "could not be started" in agent.log


def test_pipe_passes_on_what_is_not_audit_and_ends_with_its_input(tmp_path: Path) -> None:
    site = Site(tmp_path, sources=None, observability="stdout")
    with site.run("pipe", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as agent:
        out, _ = agent.process.communicate(loggen.block(0, 20_000), timeout=60)
        assert agent.process.returncode == 0, agent.log
    assert out == loggen.others(20_000)
    assert site.trails.event_ids() == loggen.event_ids(20_000)
    (records,) = {record["source"] for record in site.trails.records()}
    assert records == "stdin"
    assert site.verify().code == 0


def test_pipe_ends_at_sigterm_after_what_it_was_sent(tmp_path: Path) -> None:
    site = Site(tmp_path, sources=None)
    with site.run("pipe", stdin=subprocess.PIPE) as agent:
        assert agent.process.stdin is not None
        agent.process.stdin.write(loggen.block(0, 100))
        agent.process.stdin.flush()
        agent.ready()
        assert agent.stop() == 0, agent.log
    assert site.trails.event_ids() == loggen.event_ids(100)
    assert site.trails.reasons()[-1] == "stop"


def test_files_and_a_stream_are_read_side_by_side(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.log.write_bytes(loggen.block(0, 1000, run="file"))
    with site.run("exec", "--", *LOGGEN, "1000", "--run", "command") as agent:
        until(lambda: len(site.trails.event_ids()) == 200, "both sources in the store")
        # The file has no end, so the agent goes on when the command has ended.
        time.sleep(0.5)
        assert agent.process.poll() is None
        assert agent.stop() == 0, agent.log
    ids = site.trails.event_ids()
    assert [each for each in ids if each.startswith("file")] == loggen.event_ids(1000, run="file")
    assert [each for each in ids if each.startswith("command")] == loggen.event_ids(1000, run="command")
    assert site.verify().code == 0
