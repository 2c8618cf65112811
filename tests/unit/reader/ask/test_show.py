from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from agent.reader.ask.correlation import correlate
from agent.reader.ask.filters import ALL, Filter
from agent.reader.ask.rows import Column
from agent.reader.ask.search import search
from agent.reader.ask.show import events_table, findings_line, pairs_table, statement_parts, values_table
from agent.reader.ask.statement import statement
from tests.unit.reader.ask.made import at, event

if TYPE_CHECKING:
    from tests.unit.reader.ask.made import Made

NOW = datetime(2026, 3, 3, 1, tzinfo=UTC)
HOSTILE = "\x1b[2J\x1b]0;x\x07\u202e[bold red]complete: everything[/]\ncomplete: nothing is wrong\r\x9b31m"


def shown(*parts: Any, width: int = 120) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=True, color_system="truecolor", legacy_windows=False)
    for part in parts:
        console.print(part, highlight=False)
    return stream.getvalue()


def unstyled(text: str) -> str:
    import re

    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.fixture
def hostile(made: Made) -> Made:
    values = {
        "event_id": HOSTILE,
        "actor_type": HOSTILE,
        "actor_id": HOSTILE,
        "target_id": HOSTILE,
        "action": HOSTILE,
        "context": HOSTILE,
        "outcome": HOSTILE,
    }
    made.trail(trusted=False).batch(at(2), event(1) | values, event(1.5, approval_id=HOSTILE))
    made.finding("data_altered" + HOSTILE, "tampered", None, key=HOSTILE, message=HOSTILE)
    place = {"trail": 0, "seq": 9, "batch": 0, "observed_at": at(2), "source": HOSTILE, "cause": HOSTILE, "certainty": HOSTILE}
    made.insert("gaps", place | {"detail": HOSTILE})
    return made


@pytest.mark.parametrize("width", [40, 80, 140])
def test_nothing_out_of_a_store_drives_a_terminal_or_passes_for_a_line_of_the_statement(hostile: Made, width: int) -> None:
    stated = statement(hostile.index, Filter(text=HOSTILE), ALL, NOW)
    pairs = correlate(hostile.index, Filter(), "context.approval_id").pairs
    text = shown(
        events_table(search(hostile.index, Filter()).events),
        pairs_table(pairs, "context.approval_id", (HOSTILE,)),
        findings_line(pairs),
        values_table((Column(HOSTILE),), [(HOSTILE,), (None,), (1.5,)]),
        *statement_parts(stated),
        width=width,
    )
    plain = unstyled(text)
    assert not any(character in plain for character in "\x1b\x07\x9b\r\u202e")
    assert "[boldred]" in "".join(plain.split())
    assert [line for line in plain.splitlines() if line.startswith(("complete", "incomplete"))] == []
    assert any(line.startswith("unverified: ") for line in plain.splitlines())


def test_a_grant_without_approval_stands_out_and_the_findings_are_counted(made: Made) -> None:
    made.trail().batch(
        at(9), event(1, approval_id="A"), event(2, action="role.approve", approval_id="A"), event(3), event(4, approval_id="B")
    )
    pairs = correlate(made.index, Filter(action=("role.grant",)), "context.approval_id", counterpart=("role.approve",)).pairs
    text = unstyled(shown(pairs_table(pairs, "context.approval_id", ("role.approve",)), findings_line(pairs)))
    assert "A: found: role.approve" in text
    assert "no value: the event names nothing to look for" in text
    assert "B: none found: nothing else carries this value" in text
    assert "Of 3 events shown: 1 with a counterpart, 1 without a value, 1 alone." in text


def test_without_saying_what_counts_nothing_is_called_found(made: Made) -> None:
    made.trail().batch(at(9), event(1, approval_id="A"), event(2, action="role.request", approval_id="A"))
    pairs = correlate(made.index, Filter(action=("role.grant",)), "context.approval_id").pairs
    text = unstyled(shown(pairs_table(pairs, "context.approval_id")))
    assert "A: other actions carry this value" in text
    assert "found" not in text


def test_long_values_are_cut_and_marked(made: Made) -> None:
    made.trail().batch(at(2), event(1, actor="a" * 500))
    text = unstyled(shown(events_table(search(made.index, Filter()).events), width=100))
    assert "…" in text
    assert text.count("aaa") < 110


def test_a_share_of_good_clocks_is_never_rounded_up(made: Made) -> None:
    trail = made.trail()
    trail.batch(at(0), clock_synchronized=False)
    made.execute(
        "INSERT INTO batches SELECT b.* REPLACE (batch + r.range + 1 AS batch, TRUE AS clock_synchronized) FROM batches b, range(2400) r"
    )
    text = unstyled(shown(*statement_parts(statement(made.index, Filter(), ALL, NOW))))
    assert "synchronized in 99.9 % of 2,401 batches" in text


def test_notices_of_one_kind_are_one_line_and_every_trail_is_named(made: Made) -> None:
    origins = []
    for _ in range(3):
        trail = made.trail()
        trail.batch(at(0))
        trail.batch(at(47), quarantined=1, reason="stop", heartbeat_seconds=90000.0, monotonic_ns=10**15)
        origins.append(trail.origin)
    text = unstyled(shown(*statement_parts(statement(made.index, Filter(), ALL, NOW)), width=200))
    assert text.count("note: quarantined") == 1
    assert "(and 2 like it)" in text
    assert all(origin in text for origin in origins)
