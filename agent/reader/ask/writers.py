"""CSV, NDJSON and Parquet.

CSV follows RFC 4180: CRLF, quotes where they are needed, UTF-8. A spreadsheet runs a cell that begins like a formula, so a text
that begins with ``=``, ``+``, ``-``, ``@`` (also full-width, also behind blanks), with a tab, a line break or an apostrophe gets an
apostrophe in front. Taking one leading apostrophe away from each text that has one gives back exactly what was there.

Invariants: nothing is cut; memory does not grow with the answer. This module must not decide what is written.
"""

from __future__ import annotations

import csv
import json
import math
import re
import tempfile
from contextlib import closing
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from ..report import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .rows import Column, Rows

_FORMULA: Final = re.compile(r"['\t\r\n]|\s*[=+\-@＝＋－＠]")  # noqa: RUF001 -- the full-width signs are meant
_LONGEST_LINE_BYTES: Final = 256 << 20


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
        with lines.open("w", encoding="ascii") as stream:
            count = write_ndjson((dict(zip(names, map(_kept, row, rows.columns), strict=True)) for row in rows.rows), stream)
        types = ", ".join(f"{_quoted(column.name)}: {_quoted(column.type)}" for column in rows.columns)
        source = f"read_json($lines, format='newline_delimited', maximum_object_size={_LONGEST_LINE_BYTES}, columns={{{types}}})"
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


def unique(columns: Sequence[Column]) -> tuple[str, ...]:
    """Return the columns' names, those that come again with a number."""
    names: list[str] = []
    for column in columns:
        name, number = column.name, 2
        while name in names:
            name, number = f"{column.name}_{number}", number + 1
        names.append(name)
    return tuple(names)


def _cell(value: object, *, terminal: bool) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return {True: "true", False: "false"}[value] if isinstance(value, bool) else value
    text = value if isinstance(value, str) else str(plain(value))
    if terminal:
        text = printable(text)
    return f"'{text}" if _FORMULA.match(text) else text


def _kept(value: object, column: Column) -> object:
    """Return a value as its column is to be read back from JSON."""
    value = jsonable(value)
    if value is None or column.type != "VARCHAR" or isinstance(value, str):
        return value
    return json.dumps(value)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
