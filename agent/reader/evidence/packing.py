"""What a pack is made of: the names of its files, how records become lines of CSV, how a zip is written the same way each time.

Invariants: the same records and the same answer make the same bytes; a spreadsheet takes no cell of the CSV for a formula. This module
must not read an index or a store; who writes packs and who checks them share it.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from typing import TYPE_CHECKING, Any, Final

from .checking import describe

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FORMAT: Final = 1
EVENTS: Final = "events.ndjson"
TABLE: Final = "events.csv"
PAIRS: Final = "pairs.csv"
KEYS: Final = "keys.txt"
QUERY: Final = "query.json"
COMPLETENESS: Final = "completeness.json"
PAGE: Final = "index.html"
README: Final = "README.md"
MANIFEST: Final = "MANIFEST.sha256"
DEFAULT_EVENTS: Final = 10_000
MAX_EVENTS: Final = 100_000
COLUMNS: Final = (
    "occurred_at",
    "service",
    "actor_type",
    "actor_id",
    "actor_session",
    "action",
    "target_type",
    "target_id",
    "outcome",
    "context",
    "event_id",
    "observed_at",
    "source",
    "origin",
    "seq",
)
_TIME: Final = (1980, 1, 1, 0, 0, 0)
_MODE: Final = 0o100644
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
_CHUNK_BYTES: Final = 1 << 20


def folder_of(origin: str, taken: Iterable[str] = ()) -> str:
    """Return a trail's folder: its origin with dots for slashes; a number behind it where that is taken."""
    name, used, number = origin.replace("/", "."), set(taken), 1
    while name in used:
        number += 1
        name = f"{origin.replace('/', '.')}-{number}"
    return name


def proof_name(folder: str, seq: int) -> str:
    """Return the name of a record's proof."""
    return f"proofs/{folder}/{seq}.tlog-proof"


def opening_name(folder: str) -> str:
    """Return the name of a trail's opening seal."""
    return f"seals/{folder}/opening.seal"


def head_name(folder: str) -> str:
    """Return the name of the seal whose checkpoint the proofs lead to."""
    return f"seals/{folder}/head.seal"


def csv_line(values: Sequence[object]) -> str:
    """Return one line of CSV (RFC 4180); what a spreadsheet would run as a formula gets a ``'`` before it."""
    line = io.StringIO()
    csv.writer(line).writerow([_cell(value) for value in values])
    return line.getvalue()


def _cell(value: object) -> str:
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    # Python's csv quotes neither NUL nor lone surrogates; neither is in a record, but a pack may come from anywhere.
    text = text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
    return f"'{text}" if text.startswith(_FORMULA) else text


def table_line(origin: str, seq: int, leaf: bytes) -> str:
    """Return a record's line in the CSV.

    Args:
        origin: Its trail.
        seq: Its number.
        leaf: Its exact bytes.
    """
    said = describe(leaf)
    event = _part(said, "event")
    actor, target = _part(event, "actor"), _part(event, "target")
    values = (
        event.get("occurred_at"),
        "/".join(origin.split("/")[:2]),
        actor.get("type"),
        actor.get("id"),
        actor.get("session"),
        event.get("action"),
        target.get("type"),
        target.get("id"),
        event.get("outcome"),
        event.get("context"),
        event.get("event_id"),
        said.get("observed_at"),
        said.get("source"),
        origin,
    )
    return csv_line((*values, str(seq)))


def _part(whole: dict[str, Any], name: str) -> dict[str, Any]:
    part = whole.get(name)
    return part if isinstance(part, dict) else {}


def json_bytes(document: object) -> bytes:
    """Return a document as JSON for a person to read, ASCII, with a newline at its end."""
    return json.dumps(document, ensure_ascii=True, indent=2).encode() + b"\n"


def entry(name: str) -> zipfile.ZipInfo:
    """Return an entry of a zip: always the same time, rights and compression, whenever and wherever it is written."""
    made = zipfile.ZipInfo(name, _TIME)
    made.compress_type = zipfile.ZIP_DEFLATED
    made.external_attr = _MODE << 16
    made.create_system = 3
    return made
