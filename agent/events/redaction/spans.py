"""Say which parts of a text go, and put what stays for them in their place.

Invariants: hits that overlap are one part; what any rule wants gone is gone. This module must not know what a rule looks for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .rules import Treatment

Span: TypeAlias = tuple[int, int]
"""Where a part begins, and one past where it ends, in characters."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A part of a text that goes.

    Attributes:
        start: Where it begins.
        end: One past where it ends.
        value: What it means, all spellings undone.
        treatment: What is to be done with it.
        level: How far down in the layers of the spelling it was found.
    """

    start: int
    end: int
    value: str
    treatment: Treatment
    level: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """One or several hits that overlap, as one.

    Attributes:
        start: Where it begins.
        end: One past where it ends.
        treatment: What is to be done with it: a mask where any of the hits is masked, and a hash otherwise.
        value: What it means.
    """

    start: int
    end: int
    treatment: Treatment
    value: str


def parts(hits: Iterable[Hit]) -> list[Part]:
    """Return the parts of a text that go, in its order, none of which touches another."""
    clusters: list[list[Hit]] = []
    reach = -1
    for hit in sorted(hits, key=lambda hit: (hit.start, hit.end)):
        if hit.start < reach:
            clusters[-1].append(hit)
        else:
            clusters.append([hit])
        reach = max(reach, hit.end)
    return [_part(cluster) for cluster in clusters]


def _part(cluster: list[Hit]) -> Part:
    first = cluster[0]
    if len(cluster) == 1:
        return Part(first.start, first.end, first.treatment, first.value)
    # One secret is often found in several layers of its spelling. The innermost is what it means; what was seen before may be a part.
    plainest = max(cluster, key=lambda hit: (hit.level, len(hit.value)))
    end = max(hit.end for hit in cluster)
    if all(hit.treatment == first.treatment for hit in cluster):
        return Part(first.start, end, plainest.treatment, plainest.value)
    masking = next((hit.treatment for hit in cluster if hit.treatment.action != "hash"), None)
    return Part(first.start, end, plainest.treatment, plainest.value) if masking is None else Part(first.start, end, masking, "")


def replace(text: str, gone: Iterable[Part], stand_in: str | None = None) -> str:
    """Return the text with each part replaced by what its treatment leaves of it, or by the same stand-in."""
    pieces: list[str] = []
    place = 0
    for part in gone:
        pieces += (text[place : part.start], part.treatment.of(part.value) if stand_in is None else stand_in)
        place = part.end
    pieces.append(text[place:])
    return "".join(pieces)
