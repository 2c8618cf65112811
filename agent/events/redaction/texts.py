"""Redact one text by patterns, whatever the spelling.

Invariants: after `redact` no pattern finds anything in any layer of the text's spelling, as far as the patterns tell; a text whose
spelling is nested beyond the layers that are undone, or that holds more secrets than are worth keeping the rest for, is replaced
as a whole. This module must not know where the text comes from.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Protocol

from .spans import Hit, parts, replace
from .unfold import MAX_LEVELS, hexadecimal, levels, origin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .rules import Treatment
    from .spans import Span

MAX_HITS: Final = 200
"""How many secrets one text may hold and still be kept around them."""
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_HEXADECIMAL_RANK: Final = 2 * MAX_LEVELS + 2
"""What is found below hexadecimal is further down than anything else."""
_CUT: Final = "\n"
"""Stands for what was cut out while the rest is looked through: what hardly any secret goes across."""


class Seeker(Protocol):
    """Look for something in a text, and say how it is treated."""

    @property
    def treatment(self) -> Treatment:
        """What becomes of what is found."""

    @property
    def value(self) -> str | None:
        """What is looked for, where that is one value in any case; None where what is found is the value."""

    def find(self, text: str) -> list[Span]:
        """Return where it stands, in characters."""


def redact(text: str, seekers: Sequence[Seeker], found: list[tuple[str, Treatment]] | None = None) -> str | None:
    """Return the text with everything replaced that any of the seekers finds.

    Args:
        text: Any text; lone surrogates stand for bytes that are no text.
        seekers: What is looked for.
        found: Takes the values that are found.

    Returns:
        The text; the same object where nothing was found; None where it cannot be kept at all.
    """
    hits = seek(text, seekers)
    if hits == []:
        return text
    if hits is None:
        return None
    if found is not None:
        found += ((hit.value, hit.treatment) for hit in hits)
    # Cutting one secret out can leave another that overlapped it, so the rest is looked through once more; not what was put in its place.
    gone = parts(hits)
    left = seek(replace(text, gone, _CUT), seekers)
    # An expression such as \\S+ finds the mark itself.
    return replace(text, gone) if left is not None and not any(hit.value.strip() for hit in left) else None


def searchable(text: str) -> str:
    """Return the text, of the same length, as what can be written in UTF-8, which RE2 needs."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def seek(text: str, seekers: Sequence[Seeker], *, in_hexadecimal: bool = False) -> list[Hit] | None:
    """Return everything that is found in a text, in all layers of its spelling.

    None where the spelling has no bottom, or there is more than `MAX_HITS`.

    Args:
        text: Any text.
        seekers: What is looked for.
        in_hexadecimal: Whether the text was itself written in hexadecimal; that is undone once.
    """
    plain = searchable(text)
    hits: list[Hit] = []
    seen: set[str] = set()
    for wary in (False, True):
        layers, complete = levels(plain, wary=wary)
        if not complete:
            return None
        for level, layer in enumerate(layers):
            if layer in seen:
                continue
            seen.add(layer)
            found = [(span, seeker) for seeker in seekers for span in seeker.find(layer)]
            runs = [] if in_hexadecimal else hexadecimal(layer)
            inner = [(seek(decoded, seekers, in_hexadecimal=True), places) for decoded, places in runs]
            if any(hits_there is None for hits_there, _ in inner):
                return None
            if found or any(hits_there for hits_there, _ in inner):
                starts, ends = origin(plain, level, wary=wary)
                # Of two readings of one layer the bold one comes first: it is right where an escape is one.
                rank = 2 * level + (not wary)
                hits += (Hit(starts[at], ends[to - 1], seeker.value or layer[at:to], seeker.treatment, rank) for (at, to), seeker in found)
                hits += (
                    Hit(
                        starts[places[hit.start][0]],
                        ends[places[hit.end - 1][1] - 1],
                        hit.value,
                        hit.treatment,
                        _HEXADECIMAL_RANK + hit.level,
                    )
                    for hits_there, places in inner
                    for hit in hits_there or ()
                )
            if len(hits) > MAX_HITS:
                return None
        if not any("\\" in layer for layer in layers):
            break
    return hits
