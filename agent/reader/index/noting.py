"""Write findings into an index.

Invariants: a finding is lasting if it is about a batch that is not looked at again, and else is judged anew at every refresh.
This module must not judge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..findings import Finding, FindingLog

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    import duckdb


class Collected(FindingLog):
    """Keeps every finding until it is taken, where a report keeps a bounded number.

    Attributes:
        new: What was found since somebody took it.
    """

    def __init__(self) -> None:
        """Begin with nothing found."""
        super().__init__()
        self.new: list[Finding] = []

    def add(self, finding: Finding) -> None:
        """Keep a finding."""
        self.new.append(finding)


def write(connection: duckdb.DuckDBPyConnection, found: Iterable[Finding], now: datetime, *, lasting: bool) -> None:
    """Insert findings.

    Args:
        connection: To the index, within a transaction.
        found: The findings.
        now: The clock, aware, UTC.
        lasting: Whether they stay until their batch is looked at anew.

    Raises:
        duckdb.Error: They cannot be written.
    """
    at = now.replace(tzinfo=None)
    rows = [
        (one.origin, one.batch, one.key, one.code.value, one.severity.name.lower(), one.message, one.first_seq, one.last_seq, at, lasting)
        for one in found
    ]
    if rows:
        connection.executemany("INSERT INTO findings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
