"""How a process becomes the relay's parent: it hands its plan to a fresh interpreter that loads nothing else.

Invariants: the process keeps its id, its pipes and its environment, so that a service manager sees one process. The plan
travels in the argument list, where an operator can read it; it holds nothing secret.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from .parent import supervise
from .settings import Feed, Limits

if TYPE_CHECKING:
    from collections.abc import Sequence


def worker_command(arguments: Sequence[str]) -> list[str]:
    """Return the worker's argument list: this interpreter, this package, and the command line's own arguments."""
    return [sys.executable, "-P", "-m", "agent", *arguments]


def become_parent(
    feeds: Sequence[Feed], worker_argv: Sequence[str], limits: Limits | None = None, *, keep_running: bool = False
) -> NoReturn:
    """Replace this process by a parent with nothing else in memory; process id, pipes and environment stay.

    Call it once the configuration is known to be good: what comes after cannot tell the user about it as well.

    Args:
        feeds: As for `supervise`.
        worker_argv: As for `supervise`.
        limits: As for `supervise`.
        keep_running: As for `supervise`.

    Raises:
        OSError: The interpreter could not be started again.
    """
    plan = {"feeds": feeds, "worker": worker_argv, "limits": (limits or Limits())._asdict(), "keep_running": keep_running}
    arguments = [sys.executable, "-P", "-m", "agent.relay", json.dumps(plan)]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, arguments)  # noqa: S606 - an argument list, no shell


def run_plan(text: str) -> int:
    """Run the plan that `become_parent` wrote and return the exit code."""
    plan = json.loads(text)
    feeds = [Feed(source, None if argv is None else tuple(argv)) for source, argv in plan["feeds"]]
    return supervise(feeds, plan["worker"], Limits(**plan["limits"]), keep_running=plan["keep_running"])
