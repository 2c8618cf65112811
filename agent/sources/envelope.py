"""Say what a file source needs to know of the envelopes in which lines may lie.

A plain file's lines are the service's own. A container runtime puts each into an envelope, and cuts long ones into pieces whose
next may come behind other lines, or in the file's successor. The envelope decides up to where a file is settled; the reader keeps
the cursor there and reads what follows again, so nothing has to be remembered but what the cursor says.

Invariants: nothing behind `Taken.settled` was given out, so an append with the cursor at it is complete. This module holds types
only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .lines import Piece


class Ending(Enum):
    """What becomes of a line whose end is not there."""

    WAIT = auto()
    """It is not given out, and nothing behind its beginning is."""
    CUT = auto()
    """It is given out in parts: waiting has become too expensive."""
    FINAL = auto()
    """It is given out as it is: nothing will follow."""


class Begun(NamedTuple):
    """Be a line of which pieces were read, but not its end.

    Attributes:
        content: Its pieces, in order.
        offset: Where the last unbroken run of its pieces begins in the file, in bytes.
        extent: How many bytes of the file that run takes; 0 while all pieces lie in earlier files.
        place: Before which of the things that came out it would stand if it ended here.
    """

    content: tuple[bytes, ...]
    offset: int
    extent: int
    place: int = 0


@dataclass(frozen=True, slots=True)
class Rest:
    """What one file leaves to its successor.

    Attributes:
        begun: Unfinished lines, by their stream.
        waiting: What came behind the beginning of the first of them.
        token: The state at the file's end.
    """

    begun: Mapping[str, Begun]
    waiting: tuple[Piece, ...]
    token: str


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken out of some envelopes.

    Attributes:
        pieces: Lines to record or to pass on.
        settled: Up to where the file is done with, in bytes.
        token: The state there, kept with the cursor; empty where nothing needs to be known.
        rest: What lies behind, or what a successor needs to know; None if that is nothing.
        odd: How many of the settled lines had no envelope.
    """

    pieces: tuple[Piece, ...]
    settled: int
    token: str
    rest: Rest | None
    odd: int


class Envelope(Protocol):
    """Take the lines of one file out of their envelopes.

    Guarantees: pure; the same question has the same answer. Every byte of the service up to `Taken.settled` is in the pieces.
    """

    def take(self, pieces: Sequence[Piece], start: int, token: str, before: Rest | None, ending: Ending) -> Taken:
        """Take out what raw pieces hold.

        Args:
            pieces: Raw lines, joined up, from where the file was settled last.
            start: Where that is, in bytes.
            token: The state there; empty at a file's beginning.
            before: What the file's predecessor left.
            ending: What becomes of a line whose end is not there.
        """
        ...
