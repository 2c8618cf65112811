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

from ..ask.spreadsheet import cell_text
from .checking import describe

if TYPE_CHECKING:
    from collections.abc import Sequence

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
FILES: Final = (EVENTS, TABLE, PAIRS, KEYS, QUERY, COMPLETENESS, PAGE, README, MANIFEST)
"""The files that a pack may hold whatever it is of; beside them there are proofs, seals and renderings."""
RENDERINGS: Final = ("ocsf", "ecs")
"""The renderings that a pack can hold. Named here as well, so that a command's help needs none of them."""
DEFAULT_EVENTS: Final = 10_000
MAX_EVENTS: Final = 100_000
MAX_PACK_BYTES: Final = 4 << 30
"""How much the files of a pack may have together, unpacked: no more is written, and no more is read."""
MAX_DOCUMENT_BYTES: Final = 64 << 20
"""How much one of the JSON documents may have: whoever checks a pack holds it in memory, which takes many times as much."""
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


def folder_of(origin: str) -> str:
    """Return a trail's folder: its origin with dots for slashes. Two trails may have the same."""
    return origin.replace("/", ".")


def proof_name(folder: str, seq: int) -> str:
    """Return the name of a record's proof."""
    return f"proofs/{folder}/{seq}.tlog-proof"


def opening_name(folder: str) -> str:
    """Return the name of a trail's opening seal."""
    return f"seals/{folder}/opening.seal"


def head_name(folder: str) -> str:
    """Return the name of the seal whose checkpoint the proofs lead to."""
    return f"seals/{folder}/head.seal"


def rendering_name(rendering: str) -> str:
    """Return the name of the file that holds a rendering."""
    return f"events.{rendering}.ndjson"


def csv_line(values: Sequence[object]) -> str:
    """Return one line of CSV (RFC 4180), no cell of which a spreadsheet takes for a formula (`agent.reader.ask.spreadsheet`)."""
    line = io.StringIO()
    csv.writer(line).writerow([_cell(value) for value in values])
    return line.getvalue()


def _cell(value: object) -> str:
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    # Python's csv quotes neither NUL nor lone surrogates; neither is in a record, but a pack may come from anywhere.
    text = text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
    return cell_text(text)


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
    # One of the two that `packzip` reads.
    made.compress_type = zipfile.ZIP_DEFLATED
    made.external_attr = _MODE << 16
    made.create_system = 3
    return made
