"""The page of a pack: one file that shows the records and checks them in the browser, without a network.

Invariants: whatever a record, a query or a pack holds becomes text, never markup and never script; the policy allows one script and
one style, by their hashes, and nothing from anywhere; the data is ASCII without ``<``, so it cannot end the element it is in. The
page is made piece by piece, so that its size is no matter of memory. This module must not check proofs: the page does.
"""

from __future__ import annotations

import base64
import json
import re
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import IO, TYPE_CHECKING, Final, Self

from ..report import printable
from .checking import describe

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from .proven import Proven

MAX_RECORDS: Final = 10_000
"""How many records a page shows; a browser gets slow with more."""
_POLICY: Final = "img-src data:; base-uri 'none'; form-action 'none'"
_PLACE: Final = re.compile(r"\{\{([a-z]+)\}\}")
_SUSPECT: Final = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


@dataclass(frozen=True, slots=True)
class PageTrail:
    """A trail of which the page shows records.

    Attributes:
        origin: Its name.
        size: The leaves that its checkpoint signs.
        note: The signed checkpoint.
        key: The epoch's key (C2SP vkey).
        opening: The opening seal.
    """

    origin: str
    size: int
    note: str
    key: str
    opening: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What the page says besides the records.

    Attributes:
        title: A few words.
        summary: One or two sentences.
        statement: Names and values of the exporter's statement.
        caption: What the table of records holds, and what it does not.
        footer: Who made it, when.
        total: How many records the pack holds, on the page or not.
    """

    title: str
    summary: str
    statement: Sequence[tuple[str, str]]
    caption: str
    footer: str
    total: int


def html_text(text: str) -> str:
    """Return a text for HTML: what is not printable as escapes, and nothing of it markup."""
    return escape(printable(text))


def json_text(document: object) -> str:
    """Return JSON that can stand in a script element: ASCII, and no character that HTML or JavaScript could take for its own."""
    return json.dumps(document, ensure_ascii=True, separators=(",", ":")).translate(_SUSPECT)


def row(origin: str, proven: Proven) -> str:
    """Return a record's row, for readers without scripts; the page replaces it by what it checked itself."""
    event = describe(proven.leaf).get("event")
    said = event if isinstance(event, dict) else {}
    actor, target = (part if isinstance(part, dict) else {} for part in (said.get("actor"), said.get("target")))
    service = "/".join(origin.split("/")[:2])
    shown = (said.get("occurred_at"), actor.get("id"), said.get("action"), target.get("id"), said.get("outcome"), service, proven.seq)
    cells = "".join(f"<td>{html_text('' if value is None else str(value))}</td>" for value in shown)
    return f'<tr><td><span class="mark open">? not checked</span></td>{cells}<td></td></tr>\n'


def datum(trail: int, proven: Proven) -> str:
    """Return what the page checks of a record, as JSON text.

    Args:
        trail: The trail's place among the page's trails, from 0.
        proven: The record; its leaf is UTF-8, as every record of the format is.
    """
    hashes = [base64.b64encode(hashed).decode() for hashed in proven.proof.hashes]
    return json_text({"trail": trail, "seq": proven.seq, "leaf": proven.leaf.decode(), "proof": hashes})


class PageParts:
    """Collects rows and data of records in temporary files, as they come; a context manager."""

    def __init__(self, folder: Path | None = None) -> None:
        """Begin empty.

        Args:
            folder: Where the temporary files lie, which have no names there; the system's folder for such files if None.
        """
        self._rows: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 -- closed by __exit__
        self._data: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 -- closed by __exit__
        self._count = 0

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Throw the files away."""
        self._rows.close()
        self._data.close()

    def add(self, trail: int, origin: str, proven: Proven) -> None:
        """Take the next record, if there is room for it on the page; see `datum`."""
        if self._count < MAX_RECORDS:
            self._rows.write(row(origin, proven).encode())
            self._data.write(((",\n" if self._count else "") + datum(trail, proven)).encode())
        self._count += 1

    def page(self, trails: Sequence[PageTrail], facts: Facts) -> Iterator[bytes]:
        """Yield the page of what was taken; see `page`."""
        return page(trails, facts, _lines(self._rows), _lines(self._data))


def _lines(file: IO[bytes]) -> Iterator[str]:
    file.seek(0)
    for line in file:
        yield line.decode()


def page(trails: Sequence[PageTrail], facts: Facts, rows: Iterable[str], data: Iterable[str]) -> Iterator[bytes]:
    """Yield the page, piece by piece.

    Args:
        trails: The trails.
        facts: What is said besides.
        rows: The rows of `row`, in any pieces.
        data: The records of `datum`, joined by commas, in any pieces.
    """
    style, script = (files(__package__).joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    policy = f"default-src 'none'; script-src '{_source(script)}'; style-src '{_source(style)}'; {_POLICY}"
    known = [{"origin": trail.origin, "note": trail.note, "key": trail.key, "opening": trail.opening} for trail in trails]
    values: dict[str, Iterable[str]] = {
        "policy": (policy,),
        "style": (style,),
        "script": (script,),
        "title": (html_text(facts.title),),
        "summary": (html_text(facts.summary),),
        "caption": (html_text(facts.caption),),
        "footer": (html_text(facts.footer),),
        "trails": (_trail_row(trail) for trail in trails),
        "statement": _statement(facts.statement),
        "rows": rows,
        "data": _data(known, facts.total, data),
    }
    template = files(__package__).joinpath("page.html").read_text("utf-8")
    for at, part in enumerate(_PLACE.split(template)):
        for piece in values[part] if at % 2 else (part,):
            yield piece.encode()


def _source(text: str) -> str:
    return f"sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}"


def _data(trails: object, total: int, records: Iterable[str]) -> Iterator[str]:
    yield f'{{"format":1,"total":{total},"trails":{json_text(trails)},"records":['
    yield from records
    yield "]}"


def _trail_row(trail: PageTrail) -> str:
    cells = "".join(f"<td>{html_text(value)}</td>" for value in (trail.origin, f"{trail.size:,}", trail.key))
    return f'<tr><td><span class="mark open">? not checked</span></td>{cells}</tr>\n'


def _statement(facts: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield "<dl>\n"
    for name, value in facts:
        yield f"<dt>{html_text(name)}</dt><dd>{html_text(value)}</dd>\n"
    yield "</dl>\n"
