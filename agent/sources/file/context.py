"""Say what all readers of one file source share, and how its files are found.

Invariants: nothing here changes while the source runs. This module holds types only; it must not open files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from .appends import KIND
from .discover import scan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ...events.mappings.joining import Joining
    from ..base import BlockSeparator, TimeOfDay
    from ..envelope import Envelope
    from .discover import Scan
    from .settings import TailSettings


class MovedError(Exception):
    """The path leads to another file than the one the reader was made for."""


class Wrapped(NamedTuple):
    """Say how the files of a source are found, and how lines lie in them.

    Attributes:
        kind: What manifests call the source's kind.
        scan: Looks for the files that patterns name.
        envelope: Given the name a file was tailed under, makes what takes its lines out of their envelopes; None where they
            are in none.
        is_audit: What is asked about over-long lines of the file instead of the rule.
    """

    kind: str = KIND
    scan: Callable[[Iterable[str]], Scan] = scan
    envelope: Callable[[str], Envelope] | None = None
    is_audit: Callable[[bytes], bool] | None = None


PLAIN: Final = Wrapped()


@dataclass(frozen=True, slots=True)
class Context:
    """What all readers of one source share.

    Attributes:
        source: The source's id.
        separator: Separates blocks; used on the reading thread only.
        is_audit: The rule's decision about one line.
        clock: Tells when a block was read.
        settings: The knobs.
        wrapped: What is special about its files.
        joining: Which lines are one unit; None if each is one.
    """

    source: str
    separator: BlockSeparator
    is_audit: Callable[[bytes], bool]
    clock: TimeOfDay
    settings: TailSettings
    wrapped: Wrapped = PLAIN
    joining: Joining | None = None

    def patience_seconds(self, *, for_unit: bool) -> float:
        """Return how long lines at a file's end wait: for the rest of an unfinished line, or for more of a unit."""
        return self.joining.patience_seconds if for_unit and self.joining is not None else self.settings.unfinished_seconds
