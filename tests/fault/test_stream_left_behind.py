"""A stream that died with its parent, and whose source is gone or of another kind at the next start: its loss is stated, once."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import loggen
from tests.support.agent_process import LOGGEN, Site, until

if TYPE_CHECKING:
    from pathlib import Path

LINES = 200
SERVICE = (
    sys.executable,
    "-c",
    f"import sys; sys.path.insert(0, sys.argv[1]); import loggen, os, signal; os.write(1, loggen.block(0, {LINES})); signal.pause()",
    LOGGEN[1].rpartition("/")[0],
)


def die_together(site: Site, *words: str) -> None:
    """Run a service until its lines are in the store, then let power fail for parent, worker and service alike."""
    with site.run(*words) as agent:
        until(lambda: site.trails.event_ids() == loggen.event_ids(LINES), "what the service wrote")
        worker = agent.worker()
        assert worker is not None
        # A worker that saw its parent go would state the loss itself, and a parent that saw its worker go would start another.
        agent.process.send_signal(signal.SIGSTOP)
        os.kill(worker, signal.SIGKILL)
        agent.kill()


def gaps(site: Site) -> list[tuple[Any, ...]]:
    fields = ("source", "path", "cause", "certainty", "from_offset", "to_offset")
    return [tuple(gap[name] for name in fields) for gap in site.trails.kind("gap")]


def lost(source: str) -> list[tuple[Any, ...]]:
    return [
        (source, "stderr", "worker_crashed", "possible", 0, None),
        (source, "stdout", "worker_crashed", "possible", len(loggen.block(0, LINES)), None),
    ]


def end_of(site: Site, *words: str) -> None:
    with site.run(*words) as agent:
        if words == ("pipe",):
            assert agent.process.wait(40) == 0, agent.log
        else:
            agent.ready()
            until(lambda: gaps(site), "a gap record")
            assert agent.stop() == 0, agent.log


def test_exec_replaced_by_pipe_states_what_exec_may_have_lost(tmp_path: Path) -> None:
    site = Site(tmp_path, sources=None)
    die_together(site, "exec", "--", *SERVICE)
    for _ in range(2):
        end_of(site, "pipe")
    assert sorted(gaps(site)) == lost("command")
    assert site.trails.event_ids() == loggen.event_ids(LINES)
    assert site.verify().codes() == {"gap"}


@pytest.mark.parametrize("change", ["removed", "became a file", "became a pipe"])
def test_a_configured_command_that_is_no_more_has_its_loss_stated_under_its_id(tmp_path: Path, change: str) -> None:
    site = Site(tmp_path, sources=[{"id": "svc", "command": list(SERVICE)}])
    die_together(site)
    site.log.write_bytes(loggen.block(0, LINES, run="file"))
    file = {"id": "svc" if change == "became a file" else "app", "file": str(site.log)}
    pipe = {"id": "svc", "pipe": "stdin"}
    site.configure(sources=[file, pipe] if change == "became a pipe" else [file])
    for _ in range(2):
        end_of(site)
    assert sorted(gaps(site)) == lost("svc")
    assert site.trails.event_ids() == loggen.event_ids(LINES) + loggen.event_ids(LINES, run="file")
    assert site.verify().codes() == {"gap"}


def test_a_stream_that_ended_in_order_leaves_nothing_to_state(tmp_path: Path) -> None:
    site = Site(tmp_path, sources=None)
    with site.run("exec", "--", *LOGGEN, str(LINES)) as agent:
        assert agent.process.wait(40) == 0, agent.log
    end_of(site, "pipe")
    assert gaps(site) == []
    assert site.verify().code == 0
