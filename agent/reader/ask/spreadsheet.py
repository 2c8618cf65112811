"""Text for cells of a table that somebody opens in a spreadsheet.

A spreadsheet runs a cell that begins like a formula, so a text that begins with ``=``, ``+``, ``-``, ``@`` (also full-width, also behind
blanks), with a tab, a line break or an apostrophe gets an apostrophe in front. Taking one leading apostrophe away from each text that
has one gives back exactly what was there.

Invariants: no cell is taken for a formula, nothing is lost; there is no other place in which this is decided. This module is pure.
"""

from __future__ import annotations

import re
from typing import Final

_FORMULA: Final = re.compile(r"['\t\r\n]|[\s\x00-\x1f\u200b-\u200f\u2060\ufeff]*[=+\-@＝＋－＠]")  # noqa: RUF001 -- the full-width signs are meant


def cell_text(text: str) -> str:
    """Return a text as a cell that no spreadsheet takes for a formula."""
    return f"'{text}" if _FORMULA.match(text) else text
