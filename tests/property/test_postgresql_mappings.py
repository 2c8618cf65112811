"""Whatever clients choose to write: a record begins where PostgreSQL began it; who it was, and a grant, are read right or not at all."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.mappings import load_mapping
from agent.events.mappings import Mapped, Moment
from agent.events.verdict import Rejection

CSV: Final = load_mapping("postgresql-csv")
JSON: Final = load_mapping("postgresql-json")
TEXT: Final = load_mapping("postgresql-stderr")
MOMENT: Final = Moment(datetime(2026, 6, 30, 12, tzinfo=UTC))

TIME: Final = "2026-01-01 00:00:00.000 UTC"
TEXTS: Final = st.lists(
    st.sampled_from([TIME, f"\n{TIME},", "\n", ",", '"', '""', "a", ",,,,", '"x"', "4242,", "[local]", "\t"]), max_size=20
).map("".join)
NAMES: Final = TEXTS.map(lambda text: text.replace("\n", "")[:40])


def quoted(text: str) -> str:
    """Write a text as PostgreSQL does in CSV: nothing for none, and quotation marks doubled."""
    return '"' + text.replace('"', '""') + '"' if text else ""


@st.composite
def csv_records(draw: st.DrawFn) -> bytes:
    """Return one record, of any texts; with the columns of version 12, or of later ones."""
    head = [
        TIME,
        quoted(draw(NAMES)),
        quoted(draw(NAMES)),
        "4242",
        '"192.0.2.14:51742"',
        "6a43af8f.1092",
        "3",
        '"SELECT"',
        TIME,
        "3/12",
        "0",
    ]
    message, detail, statement = quoted(draw(TEXTS) or "x"), quoted(draw(TEXTS)), quoted(draw(TEXTS))
    later = draw(st.booleans())
    tail = [quoted(draw(NAMES)) or '""', *(['"client backend"', "", "0"] if later else [])]
    return ",".join([*head, "LOG", "00000", message, detail, "", "", "", "", statement, "", "", *tail]).encode()


@settings(max_examples=400, deadline=None)
@given(st.lists(csv_records(), min_size=1, max_size=4))
def test_a_csv_record_is_one_unit_whatever_its_texts_hold(records: list[bytes]) -> None:
    block = b"".join(record + b"\n" for record in records)

    assert CSV.joining is not None
    assert [block[start:end] for start, end in CSV.joining.units(block)] == records


PREFIXES: Final = (
    "2026-06-30 11:58:07 UTC [4242]: [2-1] user={user},db=shop,app={application},client=192.0.2.14 ",
    "2026-06-30 11:58:07.120 UTC [4242] {user}@shop ",
    "2026-06-30 11:58:07 UTC:192.0.2.14(51742):{user}@shop:[4242]:",
)
PIECES: Final = st.sampled_from(
    [
        "LOG:  ",
        "STATEMENT:  ",
        "DETAIL:  ",
        "FATAL:  ",
        "AUDIT: SESSION,1,1,ROLE,GRANT ROLE,,,GRANT a TO b,<none>",
        ",client=192.0.2.1 ",
        "client=x ",
        "user=root",
        "@",
        "db=x",
        "app=",
        "x",
        " ",
        ":",
        ",",
        "a@b ",
        ":[4242]:",
        "2026-01-01 00:00:00 UTC [1]: [1-1] ",
        "connection authorized: ",
    ]
)
"""What may stand in a prefix, before it and behind it; no line break, which PostgreSQL writes as it is sent, and nobody can tell."""
CHOSEN: Final = st.lists(PIECES, max_size=6).map(lambda pieces: "".join(pieces)[:63])


@settings(max_examples=1500, deadline=None)
@given(st.sampled_from(PREFIXES), CHOSEN, CHOSEN, CHOSEN, st.booleans())
def test_who_stands_in_text_is_read_right_or_the_line_is_kept_aside(
    prefix: str, name: str, application: str, said: str, login: bool
) -> None:
    """A refused login has any user name, a statement is of a user that exists; neither is ever anybody else's, nor passes."""
    user = f"m{name}" if login else "mallory"
    written = quoted(f"SELECT '{said}'")
    what = (
        f'FATAL:  password authentication failed for user "{user}"' if login else f"LOG:  AUDIT: SESSION,1,1,READ,SELECT,,,{written},<none>"
    )
    before = prefix.format(user="[unknown]", application="[unknown]") + "LOG:  connection received: host=192.0.2.14"
    block = f"{before}\n{prefix.format(user=user, application=application)}{what}\n".encode()

    assert TEXT.joining is not None
    units = [block[start:end] for start, end in TEXT.joining.units(block)]
    outcomes = [TEXT.map(unit, MOMENT) for unit in units]
    events = [json.loads(outcome.event) for outcome in outcomes if isinstance(outcome, Mapped)]
    if events:
        assert [(event["action"], event["actor"]["id"]) for event in events] == [
            ("auth.login", user) if login else ("data.read", "mallory")
        ]
    else:
        assert [outcome for outcome in outcomes if isinstance(outcome, Rejection)], units


WORDS: Final = st.sampled_from(
    ["TO", "GRANT", "WITH ADMIN OPTION", "nobody", "CREATE ROLE", "PASSWORD", "/*", "*/", "--", '"', "'", ";", ",", "x", "\n", "$$"]
)
COMMENTS: Final = st.lists(WORDS, max_size=6).map(" ".join)
QUOTED: Final = st.lists(WORDS, min_size=1, max_size=4).map(" ".join).filter(lambda text: text.strip() == text and "\n" not in text)
PLAIN: Final = st.sampled_from(["admin", "Reporting", "carol", "Dave", "eve_2"])


@st.composite
def blanks(draw: st.DrawFn) -> str:
    """Return what PostgreSQL takes for a blank: white space, and comments, which may hold others."""
    text = draw(COMMENTS)
    depth = text.count("/*") - text.count("*/")
    kind = draw(st.sampled_from([" ", " ", "\n\t", "line", "block"]))
    if kind == "line":
        return " --" + text.replace("\n", " ") + "\n"
    if kind == "block" and depth == 0 and _is_balanced(text):
        return f"/*{text}*/"
    return kind if kind not in {"block", "line"} else " "


def _is_balanced(text: str) -> bool:
    depth = 0
    for word in text.split():
        depth += (word == "/*") - (word == "*/")
        if depth < 0:
            return False
    return depth == 0


@st.composite
def names(draw: st.DrawFn) -> tuple[str, str]:
    """Return a role as a statement has it, and as PostgreSQL knows it."""
    if draw(st.booleans()):
        name = draw(PLAIN)
        return name, name.lower()
    name = draw(QUOTED)
    return '"' + name.replace('"', '""') + '"', name


@settings(max_examples=300, deadline=None)
@given(st.lists(names(), min_size=1, max_size=2), st.lists(names(), min_size=1, max_size=3), st.lists(blanks(), min_size=16, max_size=16))
def test_a_grant_is_read_right_or_not_at_all(roles: list[tuple[str, str]], receivers: list[tuple[str, str]], gaps: list[str]) -> None:
    gap = iter(gaps)
    lists = [f",{next(gap)}".join(f"{written}{next(gap)}" for written, _ in some) for some in (roles, receivers)]
    event, rule = _mapped(f"GRANT{next(gap)}{lists[0]}{next(gap)}TO{next(gap)}{lists[1]}{next(gap)};")

    assert event["action"] == "role.grant"
    if rule == "postgresql-json/role-grant":
        assert event["context"]["granted_role"] == ", ".join(name for _, name in roles)
        assert event["target"]["id"] == ", ".join(name for _, name in receivers)
    else:
        assert (rule, event["target"]["type"]) == ("postgresql-json/role-grant-unread", "statement")


@pytest.mark.parametrize(
    "statement",
    [
        "GRANT admin /* /* */ TO nobody */ TO eve",
        "GRANT admin /* /* */ TO nobody -- */ TO eve",
        "GRANT admin TO nobody; GRANT admin TO eve",
        "SELECT 1; GRANT admin TO eve",
        'GRANT admin TO U&"ev\\0065"',
        'GRANT admin TO "nobody, eve"',
        "GRANT admin TO \N{LATIN CAPITAL LETTER E WITH ACUTE}ve",
        "GRANT admin TO eve BY nobody",
    ],
)
def test_a_grant_that_is_not_understood_is_a_grant_of_something_not_read(statement: str) -> None:
    event, rule = _mapped(statement)

    assert rule == "postgresql-json/role-grant-unread"
    assert (event["action"], event["target"]) == ("role.grant", {"type": "statement", "id": statement})


def test_a_plain_grant_is_read() -> None:
    """So that the property above is not kept by reading nothing."""
    event, rule = _mapped('GRANT admin, "Month End" TO carol, "O""Hara";')

    assert rule == "postgresql-json/role-grant"
    assert (event["context"]["granted_role"], event["target"]["id"]) == ("admin, Month End", 'carol, O"Hara')


def _mapped(statement: str) -> tuple[dict[str, Any], str]:
    written = '"' + statement.replace('"', '""') + '"'
    record = {
        "timestamp": TIME,
        "user": "deploy",
        "dbname": "shop",
        "session_id": "6a43af8f.1092",
        "line_num": 3,
        "ps": "GRANT ROLE",
        "error_severity": "LOG",
        "message": f"AUDIT: SESSION,1,1,ROLE,GRANT ROLE,,,{written},<not logged>",
    }
    outcome = JSON.map(json.dumps(record).encode(), MOMENT)
    assert isinstance(outcome, Mapped), outcome
    return json.loads(outcome.event), outcome.rule
