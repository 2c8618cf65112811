"""A leaf with its proof: the value that is made of a store, goes into packs, and comes out of them.

This module must not check anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ...trail.proof import TlogProof


class Proven(NamedTuple):
    """A leaf, its number in the trail, and its proof."""

    seq: int
    leaf: bytes
    proof: TlogProof
