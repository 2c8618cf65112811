"""Show what an index holds: its trails, and what did not verify.

Invariants: everything that came from a store is printable; the list is bounded, its length is said. This module must not judge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ..findings import Severity
from ..report import printable

if TYPE_CHECKING:
    from .build import Refreshed
    from .reading import Index

_SHOWN: Final = 50
_FINDINGS: Final = """SELECT origin, batch, code, severity, message FROM findings WHERE severity != 'notice'
    ORDER BY severity = 'tampered' DESC, origin, batch LIMIT ?"""


def worst(done: Refreshed) -> Severity:
    """Return the worst that the index knows of its store."""
    return max((severity for severity, count in done.findings.items() if count), default=Severity.NOTICE)


def as_document(index: Index, done: Refreshed) -> dict[str, Any]:
    """Return what there is to say, for JSON."""
    findings = [dict(zip(("origin", "batch", "code", "severity", "message"), row, strict=True)) for row in index.rows(_FINDINGS, [2**31])]
    return {
        "index": str(index.path),
        "store": index.store,
        "refreshed_at": index.refreshed_at.isoformat(),
        "verdict": worst(done).verdict,
        "added": {"batches": done.batches, "records": done.records},
        "trails": [
            {
                "origin": trail.origin,
                "size": trail.size,
                "batches": trail.batches,
                "root": trail.root and trail.root.hex(),
                "head_sealed_at": trail.head_sealed_at and trail.head_sealed_at.isoformat(),
                "trusted_by": trail.trusted_by,
            }
            for trail in index.trails()
        ],
        "findings": findings,
    }


def show(index: Index, done: Refreshed) -> None:
    """Print what there is to say, for a person."""
    from rich import box  # noqa: PLC0415 -- as below
    from rich.console import Console  # noqa: PLC0415 -- so that the JSON form does not wait for it
    from rich.table import Table  # noqa: PLC0415 -- as above
    from rich.text import Text  # noqa: PLC0415 -- as above

    console = Console(soft_wrap=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("Trail", overflow="fold")
    table.add_column("Epoch", no_wrap=True)
    for name in ("Batches", "Leaves", "Newest seal (UTC)"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Key", no_wrap=True)
    for trail in index.trails():
        sealed = "" if trail.head_sealed_at is None else f"{trail.head_sealed_at:%Y-%m-%d %H:%M}"
        place = Text(f"{trail.namespace}/{trail.service}/{trail.instance}", style="bold")
        vouched = "trusted" if trail.trusted_by else "unknown"
        table.add_row(place, f"…{trail.epoch[-8:]}", f"{trail.batches:,}", f"{trail.size:,}", sealed, vouched)
    console.print(table)
    count = sum(number for severity, number in done.findings.items() if severity is not Severity.NOTICE)
    for origin, batch, code, severity, message in index.rows(_FINDINGS, [_SHOWN]):
        where = printable(origin or "the store") + ("" if batch is None else f", batch {batch}")
        console.print(Text(f"{Severity[severity.upper()].verdict}: {where}: {code}: {printable(message)}"), soft_wrap=True)
    if count > _SHOWN:
        console.print(f"… and {count - _SHOWN:,} more; --json has all of them")
    added = f"{done.records:,} records in {done.batches:,} batches were added" if done.batches else "nothing is new"
    console.print(Text(f"{worst(done).verdict}: {added}; {printable(str(index.path))}"), soft_wrap=True)
