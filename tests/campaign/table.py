"""Show a campaign: one row a kind of fault, the sums below, and every violation with how to repeat it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from .faults import KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from .run import Outcome

_COLUMNS = ("runs", "faults met", "events written", "lost", "lost, stated", "duplicated", "flagged", "gap records")


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the campaign's sums; faults that no run met are counted apart and never as faults."""
    met = [one for one in outcomes if one.met]
    return {
        "runs": len(outcomes),
        "faults": len(met),
        "calls_hit": sum(one.met for one in met),
        "not_met": len(outcomes) - len(met),
        "written": sum(one.written for one in met),
        "lost": sum(one.lost for one in met),
        "stated": sum(one.stated for one in met),
        "duplicated": sum(one.duplicated for one in met),
        "flagged": sum(one.flagged for one in met),
        "gaps": sum(one.gaps for one in met),
        "verify": dict(sorted(Counter(str(one.verify) for one in met).items())),
        "violations": sum(bool(one.problems) for one in outcomes),
    }


def render(outcomes: Sequence[Outcome], *, repeat: str = "python -m tests.campaign --repeat") -> RenderableType:
    """Return the table and what is to be said below it."""
    table = Table(title="Fault campaign", title_justify="left")
    table.add_column("fault")
    for name in _COLUMNS:
        table.add_column(name, justify="right")
    table.add_column("verify")
    table.add_column("exits")
    table.add_column("violations", justify="right")
    for letter, title in KINDS.items():
        of_letter = [one for one in outcomes if one.letter == letter]
        if not of_letter:
            continue
        table.add_section()
        table.add_row(f"[bold]{letter}: {title}[/bold]", *_cells(of_letter))
        for kind in sorted({one.kind for one in of_letter}):
            table.add_row(f"  {kind}", *_cells([one for one in of_letter if one.kind == kind]))
    table.add_section()
    table.add_row("[bold]all[/bold]", *_cells(outcomes))
    lines: list[RenderableType] = [table]
    for one in outcomes:
        if one.problems:
            lines.append(Text(f"violation: {one.id}: {'; '.join(one.problems)}"))
            lines.append(Text(f"  repeat:  {repeat} '{one.id}'" + (f"    site: {one.kept}" if one.kept else "")))
    sums = summary(outcomes)
    lines.append(
        Text(
            f"{sums['faults']} faults met ({sums['calls_hit']} calls hit; {sums['not_met']} runs met none and do not count), "
            f"{sums['written']} events written, {sums['lost']} lost, {sums['stated']} lost and stated, {sums['duplicated']} duplicated, "
            f"{sums['flagged']} repeated beyond a stated fork, {sums['gaps']} gap records, {sums['violations']} violations"
        )
    )
    return Group(*lines)


def _cells(outcomes: Sequence[Outcome]) -> list[str]:
    met = [one for one in outcomes if one.met]
    sums = [
        len(outcomes),
        len(met),
        sum(one.written for one in met),
        sum(one.lost for one in met),
        sum(one.stated for one in met),
        sum(one.duplicated for one in met),
        sum(one.flagged for one in met),
        sum(one.gaps for one in met),
    ]
    verify = Counter(one.verify for one in met)
    exits = Counter(code for one in met for code in one.exits)
    return [*map(str, sums), _counts(verify), _counts(exits), str(sum(bool(one.problems) for one in outcomes))]


def _counts(counter: Counter[int]) -> str:
    return " ".join(f"{code}:{count}" for code, count in sorted(counter.items()))
