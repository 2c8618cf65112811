"""Take one file's lines out of their envelopes, and leave what it ends with to its successor.

A line may begin in one file and end in the next. Its first file then keeps its cursor before the line, and what its successor has
to know is a `Legacy`; the step of the successor that ends the line moves the cursors of both, in one append.

Invariants: a legacy is made anew by each step at a file's end, and is used up by the step that records what it holds; nothing else
is remembered from step to step. This module must not open or read files; `reader` does.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ..envelope import Ending

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...intake import Cursor
    from ..envelope import Envelope, Rest, Taken
    from ..lines import Piece
    from .reader import Reader

_LOG = logging.getLogger(__name__)


class Part(NamedTuple):
    """What of a file waits for its successor, to become durable with it.

    Attributes:
        reader: Reads the file.
        after: Its cursor, once that is so.
        head: The file's first bytes up to that.
        window: The bytes before that.
        waiting: Lines that are complete, but wait with the unfinished one.
    """

    reader: Reader
    after: Cursor
    head: bytes
    window: bytes
    waiting: tuple[Piece, ...] = ()


class Legacy(NamedTuple):
    """What the files before one leave to it.

    Attributes:
        rest: Unfinished lines, and the state.
        parts: The files, oldest first.
    """

    rest: Rest
    parts: tuple[Part, ...]


class Settled(NamedTuple):
    """What a step may give out.

    Attributes:
        pieces: Lines.
        boundary: Where the cursor stands behind them, in bytes.
        goes_on: Where the next step reads on.
        token: What the cursor says besides.
        rest: What lies behind.
    """

    pieces: Sequence[Piece]
    boundary: int
    goes_on: int
    token: str = ""
    rest: Rest | None = None

    @property
    def waiting(self) -> bool:
        """Whether complete lines wait for the end of an unfinished one."""
        return self.rest is not None and bool(self.rest.waiting)


class Unwrapping:
    """Be the part of one reader that knows of envelopes.

    Attributes:
        unfinished: The file has not been read to its end, or its successor has to know something.
    """

    def __init__(self, make: Callable[[str], Envelope], path: str) -> None:
        """Begin at some cursor.

        Args:
            make: Makes the envelope, given the name the file was tailed under.
            path: That name.
        """
        self.unfinished = True
        self._make = make
        self._path = path
        self._envelope: Envelope | None = None
        self._before: Legacy | None = None
        self._legacy: Legacy | None = None
        self._warned = False

    def follow(self, previous: Unwrapping) -> bool:
        """Take what the file before this one leaves; return False as long as that is not known yet."""
        self._before = previous._legacy
        return not previous.unfinished or self._before is not None

    def settle(self, raw: Settled, start: int, token: str, ending: Ending, *, at_end: bool, largest: bool) -> Settled | None:
        """Take raw lines out of their envelopes.

        Args:
            raw: The raw lines.
            start: Where they begin, in bytes.
            token: What the cursor says.
            ending: What becomes, at the file's end, of a line whose last piece is not there, and of a unit that may go on.
            at_end: Nothing came behind them.
            largest: No more could be read at once.

        Returns:
            What is settled of them; None if an unfinished line fills all of it and more could be read at once.
        """
        if self._envelope is None:
            self._envelope = self._make(self._path)
        take = partial(self._envelope.take, raw.pieces, start, token, None if self._before is None else self._before.rest)
        taken = take(ending if at_end else Ending.WAIT)
        if not at_end and _waits(taken) and taken.settled == start:
            if not largest:
                return None
            taken = take(Ending.CUT)
        if taken.odd and not self._warned:
            self._warned = True
            _LOG.warning("%s has lines that are in no container runtime's format; they are taken as they stand", self._path)
        if _waits(taken):
            return Settled(taken.pieces, taken.settled, taken.settled, taken.token, taken.rest)
        return Settled(taken.pieces, min(taken.settled, raw.boundary), raw.goes_on, taken.token, taken.rest)

    def inherit(self) -> tuple[Part, ...]:
        """Return the earlier files whose legacy the present step uses up; without that call it is not used up."""
        before, self._before = self._before, None
        return () if before is None else before.parts

    def leave(self, rest: Rest | None, make_part: Callable[[], Part], *, complete: bool) -> None:
        """Note what a successor has to know.

        Args:
            rest: What lies behind the settled lines.
            make_part: Makes the part of this file, as its end is read; not called without need.
            complete: The file was read to its end, and that is the end of a line.
        """
        self.unfinished = rest is not None or not complete
        self._legacy = None
        if complete and rest is not None:
            earlier = () if self._before is None else self._before.parts
            self._legacy = Legacy(rest, (*earlier, make_part()._replace(waiting=rest.waiting)))

    def finished(self) -> None:
        """Note that the file's successor has made all of it durable."""
        self.unfinished = False
        self._legacy = None


def _waits(taken: Taken) -> bool:
    """Tell whether what was read behind the settled part is to be read again: an unfinished line, or a unit that may go on."""
    return taken.rest is not None and bool(taken.rest.begun or taken.rest.waiting)
