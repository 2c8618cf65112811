"""The renderings in a pack: its events again in the words of other schemas, made of the records' exact bytes and of nothing else.

Invariants: one line a record, ASCII, in the records' order; the same records make the same bytes under the same version of this program;
where a record lies is told by its trail and its proof, never by the record. A rendering is a copy for other tools, no evidence: whoever
checks a pack makes it again. This module must not read a store or an index, and must not check anything.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from ... import __version__
from ...errors import FormatError
from ..renderings import RENDERINGS, SCHEMAS, Stored
from .checking import describe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MADE_BY: Final = f"trailseal {__version__}"
"""Who makes renderings here; another version may make others of the same records."""


class Renderer:
    """Makes the lines of some renderings.

    Attributes:
        names: The renderings, each once, in an order of their own.
    """

    def __init__(self, names: Iterable[str]) -> None:
        """Take which are wanted.

        Raises:
            ValueError: One of them is not known.
        """
        self.names = tuple(sorted(set(names), key=list(RENDERINGS).index))

    def lines(self, origin: str, seq: int, leaf: bytes) -> Iterator[tuple[str, bytes]]:
        """Yield a record's line in each rendering, with its name.

        Args:
            origin: The record's trail.
            seq: Its number.
            leaf: Its exact bytes.

        Raises:
            FormatError: It is nested more deeply than can be written; no agent seals such a record.
        """
        if not self.names:
            return
        stored = Stored.of_record(describe(leaf), origin=origin, seq=seq)
        for name in self.names:
            try:
                line = json.dumps(RENDERINGS[name](stored), ensure_ascii=True, separators=(",", ":"))
            except RecursionError as error:
                raise FormatError(f"seq {seq} of {origin} is nested too deeply to be rendered") from error
            yield name, line.encode() + b"\n"

    def schemas(self) -> tuple[tuple[str, str], ...]:
        """Return each rendering with the schema it follows, in words."""
        return tuple((name, SCHEMAS[name]) for name in self.names)

    def stated(self) -> list[dict[str, str]]:
        """Return what ``query.json`` says of the renderings."""
        return [{"rendering": name, "schema": schema, "made_by": MADE_BY} for name, schema in self.schemas()]
