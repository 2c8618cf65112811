"""Be the relay's parent with nothing else in memory; `become_parent` starts it with its plan as the one argument."""

from __future__ import annotations

import sys

from .plan import run_plan

if __name__ == "__main__":
    sys.exit(run_plan(sys.argv[1]))
