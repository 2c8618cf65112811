"""Copy the trails of one store into another: `trailseal copy`, for migrations, backups, and a new store beside an old one.

    ends        the two addresses of a command line, opened
    source      what is read: each batch is checked, and what the check read is what is handed on
    target      what is written: created if absent, compared if present, tried again for a while
    run         trail after trail, data before its seal, seals in their order
    verifying   the verification of what lies in the target afterwards
    outcome     what happened, and the exit code
    report      the same, for a person and for a program
    progress    the bar on a terminal

Invariants: what was not found in order is not written; nothing is overwritten; being killed at any moment leaves of each trail a
part that verifies, and running again completes it. The source is only read. Nothing here judges a trail: the reader does.
"""

from __future__ import annotations

from .outcome import Report
from .run import Options, copy_store
from .target import Target

__all__ = ["Options", "Report", "Target", "copy_store"]
