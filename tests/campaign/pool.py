"""Run faults in several processes at once, each on a machine of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .run import Outcome, perform, trace
from .workloads import Rig

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

    from .faults import Fault
    from .injection import Call

_HERE: dict[str, Rig] = {}


def begin(root: str, numbers: Queue[int]) -> None:
    """Give this process its folder."""
    folder = Path(root) / f"worker-{numbers.get()}"
    folder.mkdir()
    _HERE["rig"] = Rig(folder)


def trace_here(workload: str) -> list[Call]:
    """Run a workload without a fault in this process's folder; see `trace`."""
    return trace(workload, _HERE["rig"])


def perform_here(fault: Fault, keep: str) -> Outcome:
    """Run a fault in this process's folder; see `perform`."""
    return perform(fault, _HERE["rig"], Path(keep))
