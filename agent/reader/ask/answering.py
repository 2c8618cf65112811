"""Answer a question: look, state, and hand over in the form asked for.

Invariants: every answer is accompanied by its statement; what was left out by a limit is said; files appear whole, the
statement before the answer it is about. This module must not decide what matches.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import shlex
import sys
from contextlib import contextmanager
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, Final

import duckdb

from ...errors import TrailsealError
from ..writing import new_pair, new_path, refuse_existing
from . import rows as flat
from .correlation import each_pair
from .filters import ALL, Filter
from .options import given_catalog
from .question import RENDERED
from .search import count, each
from .statement import statement
from .writers import jsonable, plain, write_csv, write_ndjson, write_parquet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

    from rich.console import RenderableType

    from ..index.cli import OpenedStore
    from .correlation import Pair
    from .found import Found
    from .question import Question
    from .rows import Rows
    from .stated import Statement

FORMAT: Final = 1
_WIDTH_OF_A_FILE: Final = 140


def answer(opened: OpenedStore, question: Question, now: datetime) -> int:
    """Answer a question, and return the exit code.

    Args:
        opened: What is asked. Its index is closed afterwards if SQL was asked.
        question: The question.
        now: The clock, aware, UTC.

    Raises:
        ConfigError: The question, or a file that it names, is wrong.
        TrailsealError: The database cannot answer.
    """
    if question.output is not None:
        refuse_existing(question.output, force=question.force)
        if not question.as_json:
            refuse_existing(_beside(question.output), force=question.force)
    try:
        stated = _answer_sql(opened, question, now) if question.sql is not None else _answer_filter(opened, question, now)
    except duckdb.Error as error:
        what = str(error).partition("\n")[0]
        raise TrailsealError(f"the index cannot answer: {what}", hint="Ask for less, or make the index anew.") from error
    return stated.exit_code if question.strict else 0


def _answer_filter(opened: OpenedStore, question: Question, now: datetime) -> Statement:
    index, catalog = opened.index, given_catalog(question.catalog)
    matched = count(index, question.filter, ALL, catalog)
    stated = statement(
        index,
        question.filter,
        ALL,
        now,
        catalog=catalog,
        matched=matched,
        everywhere=question.correlate is not None,
        more=question.more,
    )
    handing = _Handing(question, stated)
    if question.correlate is None:
        handing.events(each(index, question.filter, ALL, catalog, limit=question.limit))
    else:
        counterpart, limit = question.counterpart, question.limit
        handing.pairs(each_pair(index, question.filter, question.correlate, ALL, catalog, counterpart=counterpart, limit=limit))
    return stated


def _answer_sql(opened: OpenedStore, question: Question, now: datetime) -> Statement:
    from .sql import asking  # noqa: PLC0415 -- it is wanted for SQL only

    text = str(question.sql)
    stated = statement(opened.index, Filter(), ALL, now)
    words = shlex.join(["trailseal", "query", opened.index.store, "--sql", text])
    stated = dataclasses.replace(stated, query=f"SQL: {text}", command=words)
    path = opened.index.path
    # The database takes one set of settings for a file in a process.
    opened.index.close()
    with asking(path, text, question.seconds) as found:
        _Handing(question, stated).values(found)
    return stated


class _Handing:
    """Hands an answer over, in the form asked for."""

    def __init__(self, question: Question, stated: Statement) -> None:
        self.question, self.stated = question, stated

    def events(self, events: Iterator[Found]) -> None:
        if self._is_shown():
            from .show import events_table  # noqa: PLC0415 -- rich is for people only

            shown = list(events)
            self._show(events_table(shown), self.stated.matched - len(shown))
        elif self.question.form == "ndjson" or self.question.as_json:
            self._documents((event.as_json() for event in events), "events")
        elif self.question.form in RENDERED:
            from ..renderings import RENDERINGS, Stored  # noqa: PLC0415 -- they are wanted for these forms only

            render = RENDERINGS[self.question.form]
            self._documents((render(Stored.of(event.as_json())) for event in events), "events")
        else:
            self._rows(flat.of_events(events))

    def pairs(self, pairs: Iterator[Pair]) -> None:
        if self._is_shown():
            from .show import findings_line, pairs_table  # noqa: PLC0415 -- rich is for people only

            shown = list(pairs)
            table = pairs_table(shown, str(self.question.correlate), self.question.counterpart)
            self._show(table, self.stated.matched - len(shown), findings_line(shown))
        elif self.question.form == "ndjson" or self.question.as_json:
            self._documents((pair.as_json() for pair in pairs), "events")
        else:
            self._rows(flat.of_pairs(pairs))

    def values(self, found: Rows) -> None:
        names = [column.name for column in found.columns]
        rows = found.rows if self.question.limit is None else islice(found.rows, self.question.limit)
        if self._is_shown():
            from .show import values_table  # noqa: PLC0415 -- rich is for people only

            shown = list(rows)
            self._show(values_table(found.columns, shown), None if next(found.rows, None) is not None else 0)
        elif self.question.form == "ndjson" or self.question.as_json:
            self._documents((dict(zip(names, map(jsonable, row), strict=True)) for row in rows), "rows")
        else:
            self._rows(flat.Rows(found.columns, rows))

    def _is_shown(self) -> bool:
        return self.question.form == "table" and not self.question.as_json

    def _show(self, table: Any, left: int | None, summary: RenderableType | None = None) -> None:
        from rich.console import Console  # noqa: PLC0415 -- rich is for people only
        from rich.text import Text  # noqa: PLC0415

        from .show import statement_parts  # noqa: PLC0415

        if isinstance(sys.stdout, io.TextIOWrapper):
            # What the terminal's encoding cannot show is escaped; the verdict must not depend on it.
            sys.stdout.reconfigure(errors="backslashreplace")
        console = Console(width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE)
        if table.row_count:
            console.print(table, highlight=False)
        else:
            console.print(Text("No event matches." if self.question.sql is None else "No rows."))
        if summary is not None and table.row_count:
            console.print(summary)
        if left is None or left > 0:
            how_many = "More rows" if left is None else f"{left:,} more event{'s' if left != 1 else ''}"
            console.print(Text(f"\n{how_many} not shown: --limit N shows more, --format csv --output FILE writes all.", style="bold"))
        console.print()
        for part in statement_parts(self.stated):
            console.print(part, highlight=False)

    def _documents(self, documents: Iterable[dict[str, Any]], name: str) -> None:
        with self._stream() as stream:
            if not self.question.as_json:
                write_ndjson(documents, stream)
                return
            shown = list(documents)
            whole = {"format": FORMAT, name: shown, "statement": self.stated.as_json()}
            if name == "events":
                whole["events_omitted"] = self.stated.matched - len(shown)
            # ASCII only, so that no encoding of a terminal or a pipe can refuse it, and no character of it can drive a terminal.
            stream.write(json.dumps(whole, indent=2, default=plain) + "\n")

    def _rows(self, rows: Rows) -> None:
        if self.question.form == "parquet" and self.question.output is not None:
            with self._files(self.question.output) as path:
                write_parquet(rows, path)
            return
        with self._stream() as stream:
            write_csv(rows, stream, terminal=self.question.output is None and sys.stdout.isatty())

    @contextmanager
    def _stream(self) -> Iterator[IO[str]]:
        """Yield where text goes; afterwards the statement goes where it belongs."""
        if self.question.output is not None:
            with self._files(self.question.output) as path, path.open("w", encoding="utf-8", newline="") as stream:
                yield stream
            return
        stream = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", newline="")
        try:
            yield stream
            stream.flush()
        finally:
            stream.detach()
        if not self.question.as_json:
            self._state_on_stderr()

    @contextmanager
    def _files(self, path: Path) -> Iterator[Path]:
        """Yield a temporary file for the answer; the statement, which names its SHA-256, is published before it."""
        force = self.question.force
        if self.question.as_json:
            with new_path(path, force=force) as made:
                yield made
        else:
            with new_pair(path, _beside(path), self._told, force=force) as made:
                yield made
        self._state_on_stderr()

    def _told(self, answer: Path) -> bytes:
        """Return the statement's file: whoever has both can see that they belong together."""
        with answer.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return json.dumps({"answer_sha256": digest, **self.stated.as_json()}, indent=2).encode("ascii") + b"\n"

    def _state_on_stderr(self) -> None:
        from rich.console import Console  # noqa: PLC0415 -- rich is for people only

        from .show import statement_parts  # noqa: PLC0415

        if isinstance(sys.stderr, io.TextIOWrapper):
            sys.stderr.reconfigure(errors="backslashreplace")
        console = Console(stderr=True, width=None if sys.stderr.isatty() else _WIDTH_OF_A_FILE)
        for part in statement_parts(self.stated):
            console.print(part, highlight=False)


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.statement.json")
