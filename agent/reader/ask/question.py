"""What the command line of `query` asks for, checked before anything is opened or written.

Invariants: options that contradict each other are refused, never resolved silently. This module must not open anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from ...errors import ConfigError
from .correlation import json_pointer
from .filters import Filter
from .options import taken_filter
from .words import further_words

if TYPE_CHECKING:
    from pathlib import Path

Form = Literal["table", "csv", "ndjson", "parquet", "ocsf", "ecs"]
RENDERED: Final[tuple[Form, ...]] = ("ocsf", "ecs")
"""The formats that are events in the words of another schema."""
SHOWN: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked for, and in which form.

    Attributes:
        filter: The events.
        catalog: The catalog's file, if given.
        correlate: The path of the value that counterparts share, if they are wanted.
        counterpart: Globs over the actions that count as counterparts.
        sql: A query instead of a filter.
        seconds: How long that may run.
        limit: How many events or rows at most; None: all.
        form: The format.
        output: The file; None: standard output.
        force: Whether files may be replaced.
        as_json: Whether one JSON document is wanted instead of a format.
        strict: Whether the exit code is to be the verdict's.
    """

    filter: Filter
    catalog: Path | None
    correlate: str | None
    counterpart: tuple[str, ...]
    sql: str | None
    seconds: float
    limit: int | None
    form: Form
    output: Path | None
    force: bool
    as_json: bool
    strict: bool

    @classmethod
    def of(cls, *, limit: int | None, **options: Any) -> Self:
        """Make it of the command's options.

        Raises:
            ConfigError: Some of them make no sense together.
        """
        given = taken_filter(options)
        if options["sql"] is not None and (given != Filter() or options["correlate"]):
            raise _contradiction("sql", "--sql takes the place of filters", "Write the filter into the SQL.")
        shown = options["form"] == "table"
        made = cls(filter=given, limit=SHOWN if limit is None and shown else limit, **options)
        made._check()
        return made

    def _check(self) -> None:
        if self.correlate is not None:
            json_pointer(self.correlate)
        elif self.counterpart:
            raise _contradiction("counterpart", "--counterpart belongs to --correlate", "Give both, or neither.")
        if self.filter.category and self.catalog is None:
            raise _contradiction("category", "--category needs a catalog", "Name the file with --catalog.")
        if self.as_json and self.form != "table":
            raise _contradiction("json", "--json and --format are two forms", "Give one of them.")
        if self.form in RENDERED and (self.sql is not None or self.correlate is not None):
            raise _contradiction("format", f"{self.form} renders single events", "Ask with filters, without --correlate, or choose ndjson.")
        if self.output is not None and self.form == "table" and not self.as_json:
            raise _contradiction("output", "a table is for the screen", "Give another --format, or --json.")
        if self.output is None and self.form == "parquet":
            raise _contradiction("format", "Parquet needs a file", "Name it with --output.")
        if self.output is None and self.force:
            raise _contradiction("force", "there is no file to replace", "Name it with --output.")

    @property
    def more(self) -> tuple[str, ...]:
        """The words of the command line beside the filter."""
        return further_words(self.filter, self.catalog, self.correlate, self.counterpart)


def _contradiction(key: str, message: str, hint: str) -> ConfigError:
    return ConfigError(message, key=f"--{key}", hint=hint)
