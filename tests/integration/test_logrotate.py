"""Debian's logrotate, every 200 ms, under a daemon that writes: nothing is lost, nothing is doubled, a race is stated.

`TRAILSEAL_LOGROTATE_LINES` (300,000) is how many lines the runs at full speed write.
"""

from __future__ import annotations

import os
import random
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
    [(), ("compress",), ("compress", "delaycompress"), BY_DATE],
    ids=lambda options: "+".join(word.split()[0] for word in options) or "plain",
)
def test_every_line_written_at_full_speed_survives_rotation_by_rename(site: Site, options: tuple[str, ...]) -> None:
    with site.run() as agent, Load(agent, CREATE, *options, lines=LINES) as load:
        load.finish()
        found = load.settle(agent)
    assert load.logrotate.turns >= 1
    assert_nothing_missing(found, site)


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


def test_rotations_while_the_agent_is_killed_again_and_again_lose_and_double_nothing(site: Site) -> None:
    dice = random.Random(SEED)
    with ExitStack() as stack:
        agent = stack.enter_context(site.run())
        load = stack.enter_context(Load(agent, CREATE, lines=80_000, seconds=12.0))
        while load.running():
            time.sleep(dice.uniform(0.2, 1.5))
            agent.kill()
            agent = stack.enter_context(site.run())
        load.finish()
        found = load.settle(agent)
    assert_nothing_missing(found, site)
