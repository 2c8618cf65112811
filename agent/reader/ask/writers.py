"""CSV, NDJSON and Parquet.

CSV follows RFC 4180: CRLF, quotes where they are needed, UTF-8; no cell of it is a formula (`spreadsheet`).

Invariants: nothing is cut; memory does not grow with the answer. This module must not decide what is written.
"""

from __future__ import annotations

import csv
import json
import math
import tempfile
from contextlib import closing
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from ..report import printable
from .spreadsheet import cell_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .rows import Column, Rows

_SHORTEST_BUFFER_BYTES: Final = 1 << 20


def write_csv(rows: Rows, stream: IO[str], *, terminal: bool = False) -> int:
    """Write rows as CSV; return how many.

    Args:
        rows: The rows.
        stream: Where to; opened with ``newline=""``.
        terminal: Whether a terminal shows it, so that what drives terminals has to be escaped.
    """
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow([_cell(column.name, terminal=terminal) for column in rows.columns])
    count = 0
    for row in rows.rows:
        writer.writerow([_cell(value, terminal=terminal) for value in row])
        count += 1
    return count


def write_ndjson(documents: Iterable[dict[str, Any]], stream: IO[str]) -> int:
    """Write documents as JSON, one a line, in ASCII (no encoding can refuse it, no terminal is driven by it); return how many."""
    count = 0
    for document in documents:
        stream.write(json.dumps(document, default=plain) + "\n")
        count += 1
    return count


def write_parquet(rows: Rows, path: Path) -> int:
    """Write rows as Parquet, with the columns' types; return how many.

    Raises:
        OSError: The disk is full, or cannot be written.
    """
    import duckdb  # noqa: PLC0415 -- a heavy import, and an extra

    names = [column.name for column in rows.columns]
    with tempfile.TemporaryDirectory(prefix=".trailseal-", dir=path.parent) as folder:
        lines = Path(folder) / "rows.ndjson"
        longest = _SHORTEST_BUFFER_BYTES
        count = 0
        with lines.open("w", encoding="ascii") as stream:
            for row in rows.rows:
                document = dict(zip(names, map(_kept, row, rows.columns), strict=True))
                longest = max(longest, stream.write(json.dumps(document, default=plain) + "\n"))
                count += 1
        types = ", ".join(f"{_quoted(column.name)}: {_quoted(column.type)}" for column in rows.columns)
        source = f"read_json($lines, format='newline_delimited', maximum_object_size={longest}, columns={{{types}}})"
        with closing(duckdb.connect(config={"temp_directory": folder, "preserve_insertion_order": "true"})) as connection:
            try:
                relation = connection.sql(f"SELECT * FROM {source}", params={"lines": str(lines)})  # noqa: S608 -- quoted above
                # The folder is nobody else's, while the database would make a file that others may read.
                made = Path(folder) / "rows.parquet"
                relation.write_parquet(str(made), compression="zstd")
                made.chmod(0o600)
                made.replace(path)
            except duckdb.IOException as error:
                raise OSError(str(error).partition("\n")[0]) from error
    return count


def plain(value: object) -> object:
    """Return a value of the database as JSON can hold it."""
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    return str(value)


def jsonable(value: object) -> object:
    """Return a value with everything in it as JSON can hold it: also numbers that are none, and maps with any keys."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): jsonable(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, (str, int)) else plain(value)


def _cell(value: object, *, terminal: bool) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return {True: "true", False: "false"}[value] if isinstance(value, bool) else value
    text = value if isinstance(value, str) else str(plain(value))
    if terminal:
        text = printable(text)
    return cell_text(text)


def _kept(value: object, column: Column) -> object:
    """Return a value as its column is to be read back from JSON."""
    value = jsonable(value)
    if value is None or column.type != "VARCHAR" or isinstance(value, str):
        return value
    return json.dumps(value)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
