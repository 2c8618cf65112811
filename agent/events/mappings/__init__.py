"""Map lines of other formats to events of the one schema, as declarative files say. Pure.

Invariants: any bytes give an answer and never an exception; expressions take linear time; a mapping is checked when it is compiled,
with the file and the key of what is wrong. Nothing here opens files or reads clocks.
"""

from __future__ import annotations

from .examples import run_examples
from .mapping import PASSED, Mapped, Mapping, Moment, Passed

__all__ = ["PASSED", "Mapped", "Mapping", "Moment", "Passed", "run_examples"]
