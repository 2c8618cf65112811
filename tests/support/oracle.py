"""The oracle of the fault tests, and the few moves they share: lines into a log, all of them in the trail once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from tests.support import loggen
from tests.support.agent_process import TRAILSEAL, Agent, until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.support.agent_process import Site

_OVERRIDES: Final = "-dac_override,-dac_read_search"
_WITHOUT_OVERRIDE: Final = ("setpriv", "--inh-caps", _OVERRIDES, "--bounding-set", _OVERRIDES)


def write(path: Path, first: int, last: int, *, run: str = "run") -> list[str]:
    """Append audit lines `first` to `last` - 1 to a file; return their event ids."""
    with path.open("ab") as log:
        log.writelines(loggen.audit_line(number, run) for number in range(first, last))
    return [loggen.event_id(number, run) for number in range(first, last)]


def wait_for(site: Site, agent: Agent, ids: Sequence[str]) -> None:
    """Wait until all these events are in the store; an agent that ends meanwhile fails the test with its log."""
    wanted = set(ids)
    until(lambda: agent.process.poll() is not None or wanted <= set(site.trails.event_ids()), "events in the store", step_seconds=0.05)
    assert agent.process.poll() is None, agent.log


def drain(site: Site, agent: Agent, ids: Sequence[str]) -> None:
    """Wait until all these events are in the store, and end the agent in order."""
    wait_for(site, agent, ids)
    assert agent.stop() == 0, agent.log


def assert_once(site: Site, ids: Sequence[str], *, ordered: bool = True) -> None:
    """Check the oracle where nothing was destroyed: these events and no others, each once, no gap, and `verify` agrees."""
    found = site.trails.event_ids()
    missing, foreign, double = set(ids) - set(found), set(found) - set(ids), len(found) - len(set(found))
    assert (sorted(missing)[:5], sorted(foreign)[:5], double) == ([], [], 0), (
        f"missing {len(missing)}, foreign {len(foreign)}, twice {double}"
    )
    swapped = [(has, wants) for has, wants in zip(found, ids, strict=True) if has != wants] if ordered else []
    assert swapped == [], f"out of order: {swapped[:5]}"
    assert site.trails.kind("gap") == [], site.trails.kind("gap")
    verdict = site.verify()
    assert verdict.code == 0, verdict.findings()


def assert_stated(site: Site, ids: Sequence[str], gaps: Sequence[tuple[str, str, int, int | None]]) -> None:
    """Check the oracle where bytes were destroyed: these events, these gap records (cause, certainty, from, to), and `verify` says so."""
    events = site.trails.event_ids()
    assert events == list(ids), f"{len(events)} events, not {len(ids)}; missing {sorted(set(ids) - set(events))[:5]}"
    found = [(gap["cause"], gap["certainty"], gap["from_offset"], gap["to_offset"]) for gap in site.trails.kind("gap")]
    assert found == list(gaps), site.trails.kind("gap")
    verdict = site.verify()
    assert (verdict.code, verdict.codes()) == (11, {"gap"}), verdict.findings()


def run_unprivileged(site: Site) -> Agent:
    """Start an agent to whom the permissions of files apply: one that root starts gives up the right to pass them over."""
    command = [TRAILSEAL, "run", "--config", str(site.config)]
    return Agent(site, command if os.geteuid() else [*_WITHOUT_OVERRIDE, *command])
