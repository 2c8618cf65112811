"""Check the renderings in a pack: each is made again from the proven records and compared.

Invariants: only what is byte for byte what this version makes is called the same; what another version says it made and is not the same
is not checked, which is no verdict on it and never passes for one; a line too few or too many is found whatever version made it. This
module must not judge the records themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated

import msgspec

from ...errors import FormatError
from ..findings import Severity
from ..renderings import SCHEMAS
from . import packing
from .rendered import MADE_BY, Renderer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .packzip import PackFile


class Declared(msgspec.Struct, frozen=True):
    """What ``query.json`` says of a rendering.

    Attributes:
        rendering: Its name.
        schema: The schema and its version, in words.
        made_by: The program and its version.
    """

    rendering: Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9]{1,16}\Z")]
    schema: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9. -]{1,40}\Z")]
    made_by: Annotated[str, msgspec.Meta(pattern=r"\Atrailseal [A-Za-z0-9.+-]{1,40}\Z")]


@dataclass(slots=True)
class CheckedRendering:
    """A rendering of the pack.

    Attributes:
        name: Its name.
        schema: The schema and its version, as the pack says.
        made_by: The program and its version, as the pack says.
        same: Whether it is, byte for byte, what this version makes of the proven records; None if that was not found out.
    """

    name: str
    schema: str
    made_by: str
    same: bool | None = None

    @property
    def place(self) -> str:
        """The file in the pack."""
        return packing.rendering_name(self.name)


class RenderingCheck:
    """Makes the renderings of a pack again while its records are checked, and compares them at the end."""

    def __init__(self, declared: Sequence[Declared]) -> None:
        """Take what the pack says that there is, each once."""
        self.renderings = [CheckedRendering(one.rendering, one.schema, one.made_by) for one in declared]
        self._renderer = Renderer(one.name for one in self.renderings if one.name in packing.RENDERINGS)
        self._hashes = {name: sha256() for name in self._renderer.names}
        self._records = 0
        self._unmade = ""

    def take(self, origin: str, seq: int, leaf: bytes) -> None:
        """Take the next proven record."""
        self._records += 1
        try:
            for name, line in self._renderer.lines(origin, seq, leaf):
                self._hashes[name].update(line)
        except FormatError as error:
            self._unmade = self._unmade or error.message

    def compare(self, pack: PackFile, found: Callable[[Severity, str, str], None]) -> None:
        """Compare, once all records were taken and all of them are proven.

        Args:
            pack: The pack.
            found: Called with each fault: how bad it is, the file, and a sentence.
        """
        for one in self.renderings:
            try:
                severity, message = self._judge(pack, one)
            except FormatError as error:
                severity, message = Severity.TAMPERED, error.message
            if message:
                found(severity, one.place, message)

    def _judge(self, pack: PackFile, one: CheckedRendering) -> tuple[Severity, str]:
        digest, lines, whole = _measure(pack, one.place)
        made = self._hashes.get(one.name)
        if made is not None and not self._unmade and digest == made.hexdigest():
            one.same = True
            # The schema's version stands in the text, too, so the same text is of the same schema.
            wrong = one.schema != SCHEMAS[one.name]
            return Severity.TAMPERED, f"{packing.QUERY} calls it {one.schema}, and it is {SCHEMAS[one.name]}" if wrong else ""
        if lines != self._records or not whole:
            one.same = False
            behind = "" if whole else " and something behind the last"
            return Severity.TAMPERED, f"it has {lines:,} whole lines{behind}, and there are {self._records:,} events"
        if one.made_by != MADE_BY:
            ours = f"{MADE_BY}, {SCHEMAS[one.name]}" if made is not None else f"{MADE_BY}, which makes no such rendering"
            return Severity.UNVERIFIED, f"not checked: made by another version ({one.made_by}, {one.schema}; this is {ours})"
        one.same = False
        if made is None:
            return Severity.TAMPERED, "this version, which is said to have made it, makes no such rendering"
        return Severity.TAMPERED, self._unmade or f"it does not say what {packing.EVENTS} says"


def _measure(pack: PackFile, name: str) -> tuple[str, int, bool]:
    """Return an entry's SHA-256 in hex, how many newlines it has, and whether nothing stands behind the last one."""
    hashed, lines, end = sha256(), 0, b"\n"
    for piece in pack.pieces(name):
        hashed.update(piece)
        lines += piece.count(b"\n")
        end = piece[-1:]
    return hashed.hexdigest(), lines, end == b"\n"
