"""Debian's logrotate, every 200 ms, under a daemon that writes: nothing is lost, nothing is doubled, a race is stated.

`TRAILSEAL_LOGROTATE_LINES` (300,000) is how many lines the runs at full speed write.
"""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support.agent_process import Site
from tests.support.rotation import COPYTRUNCATE, CREATE, Account, Load

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

LINES: Final = int(os.environ.get("TRAILSEAL_LOGROTATE_LINES", "300000"))
PACED: Final[dict[str, Any]] = {"lines": 60_000, "seconds": 6.0}
BY_DATE: Final = ("dateext", "dateformat -%Y%m%d-%s")
SEED: Final = 20260111


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def assert_nothing_missing(found: Account, site: Site) -> None:
    """Check the strict oracle: every line once, nothing else, and a verifier that agrees."""
    assert (found.found, found.doubled, found.gaps, found.quarantined) == (found.written, [], [], []), str(found)
    verdict = site.verify()
    assert verdict.code == 0, verdict.findings()


def assert_losses_stated(found: Account, site: Site) -> None:
    """Check that what is missing was destroyed, and lies where a gap record says so; that nothing is there twice."""
    assert (found.doubled, found.unstated, found.overlooked, found.contradicted) == ([], [], [], []), str(found)
    assert found.found + len(found.stated) == found.written
    verdict = site.verify()
    assert (verdict.code, verdict.codes()) in ((0, set()), (11, {"gap"})), verdict.findings()


@pytest.mark.parametrize(
    "options",
    [(), ("compress",), ("compress", "delaycompress"), BY_DATE, ("olddir old", "createolddir 0755")],
    ids=lambda options: "+".join(word.split()[0] for word in options) or "plain",
)
def test_every_line_written_at_full_speed_survives_rotation_by_rename(site: Site, options: tuple[str, ...]) -> None:
    with site.run() as agent, Load(agent, CREATE, *options, lines=LINES) as load:
        load.finish()
        found = load.settle(agent)
    assert load.logrotate.turns >= 1
    assert_nothing_missing(found, site)


@pytest.mark.parametrize("options", [(), ("compress", "delaycompress"), BY_DATE], ids=lambda options: options[0] if options else "plain")
def test_what_copytruncate_destroys_at_full_speed_is_all_that_is_missing_and_is_stated(site: Site, options: tuple[str, ...]) -> None:
    with site.run() as agent, Load(agent, COPYTRUNCATE, *options, lines=LINES) as load:
        load.finish()
        found = load.settle(agent)
    assert load.logrotate.turns >= 1
    assert {gap["cause"] for gap in found.gaps} == {"truncated"}
    assert_losses_stated(found, site)


@pytest.mark.parametrize("mode", [CREATE, COPYTRUNCATE])
def test_thirty_rotations_of_a_steady_log_are_followed_one_by_one(site: Site, mode: str) -> None:
    with site.run() as agent, Load(agent, mode, **PACED) as load:
        load.finish()
        found = load.settle(agent)
    assert load.logrotate.turns >= 20
    if mode == CREATE:
        assert_nothing_missing(found, site)
    else:
        assert_losses_stated(found, site)


@pytest.mark.parametrize("mode", [CREATE, COPYTRUNCATE])
def test_rotations_while_the_agent_is_killed_again_and_again_lose_and_double_nothing(site: Site, mode: str) -> None:
    dice = random.Random(SEED)
    with ExitStack() as stack:
        agent = stack.enter_context(site.run())
        load = stack.enter_context(Load(agent, mode, lines=80_000, seconds=12.0))
        while load.running():
            time.sleep(dice.uniform(0.2, 1.5))
            agent.kill()
            agent = stack.enter_context(site.run())
        load.finish()
        found = load.settle(agent)
    if mode == CREATE:
        assert_nothing_missing(found, site)
    else:
        assert_losses_stated(found, site)


@pytest.mark.parametrize("mode", [CREATE, COPYTRUNCATE])
@pytest.mark.parametrize("hindrance", ["stopped", "killed"])
def test_files_that_vanish_while_the_agent_cannot_look_are_stated(site: Site, mode: str, hindrance: str) -> None:
    with ExitStack() as stack:
        agent = stack.enter_context(site.run())
        load = stack.enter_context(Load(agent, mode, "rotate 3", **PACED))
        time.sleep(1.0)
        agent.process.send_signal(signal.SIGSTOP if hindrance == "stopped" else signal.SIGKILL)
        time.sleep(3.0)
        if hindrance == "stopped":
            agent.process.send_signal(signal.SIGCONT)
        else:
            agent = stack.enter_context(site.run())
        load.finish()
        found = load.settle(agent)
    assert found.stated
    assert_losses_stated(found, site)
