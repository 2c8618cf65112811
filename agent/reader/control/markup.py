"""What the HTML of a report is made of: escaping, tables, the style.

Invariants: whatever came from a store goes through `text`, which escapes markup and shows what cannot be seen; there is no style
attribute, script or address anywhere, so the policy `POLICY` lets everything through that is ours and nothing else.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..report import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

NEVER: Final = "-"

STYLE: Final = Path(__file__).with_name("report.css").read_text("utf-8")
"""Colours of the system's choice, light or dark; nothing is loaded from anywhere."""

_HASH: Final = b64encode(sha256(STYLE.encode()).digest()).decode()
POLICY: Final = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'"
"""The content security policy of a page that has `STYLE` as its only style."""


def text(value: object) -> str:
    """Return a value for the text of an element or the value of an attribute in quotes."""
    return escape(printable(str(value)), quote=True)


def moment(time: datetime | None) -> str:
    """Return a time to the second, or a dash."""
    return NEVER if time is None else f"{time:%Y-%m-%d %H:%M:%S}"


def number(value: int) -> str:
    """Return a whole number with its thousands set apart."""
    return f"{value:,}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], kinds: str = "") -> str:
    """Return a table.

    Args:
        heads: The columns' heads, plain text.
        rows: Cells, HTML already.
        kinds: A letter for each column: ``n`` number, ``t`` time, anything else text.
    """
    classes = {"n": ' class="number"', "t": ' class="time"'}
    marks = [classes.get(kind, "") for kind in kinds.ljust(len(heads))]
    head = "".join(f'<th scope="col"{mark}>{text(name)}</th>' for name, mark in zip(heads, marks, strict=True))
    body = "".join(f"<tr>{''.join(f'<td{mark}>{cell}</td>' for cell, mark in zip(row, marks, strict=True))}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def none(sentence: str) -> str:
    """Return a paragraph that says there is nothing."""
    return f'<p class="none">{text(sentence)}</p>'
