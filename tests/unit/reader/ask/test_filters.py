from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from fnmatch import fnmatchcase
from typing import Any

import duckdb
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.errors import ConfigError
from agent.events.catalog import UNCATALOGUED, Catalog
from agent.reader.ask.filters import ALL, Filter, Scope, matches_glob, services_where, where, within

COLUMNS = (
    "origin",
    "namespace",
    "service",
    "occurred_at",
    "event_id",
    "actor_type",
    "actor_id",
    "actor_session",
    "action",
    "target_type",
    "target_id",
    "outcome",
    "context",
)
NOON = datetime(2026, 4, 1, 12, tzinfo=UTC)
DATABASE = duckdb.connect()
DATABASE.execute(
    "CREATE TABLE events(origin VARCHAR, namespace VARCHAR, service VARCHAR, occurred_at TIMESTAMP, event_id VARCHAR, actor_type VARCHAR, "
    "actor_id VARCHAR, actor_session VARCHAR, action VARCHAR, target_type VARCHAR, target_id VARCHAR, outcome VARCHAR, context VARCHAR)"
)
CATALOG = Catalog.from_mapping(
    {
        "format": 1,
        "actions": {
            "auth.*": {"category": "authentication", "sensitivity": "low"},
            "auth.mfa.*": {"category": "security", "sensitivity": "low"},
            "auth.mfa.reset": {"category": "administration", "sensitivity": "high"},
            "role.grant": {"category": "authorization", "sensitivity": "high"},
            "role.*": {"category": "administration", "sensitivity": "high"},
        },
    },
    "catalog.yaml",
)
# Any text that UTF-8 can hold, with the characters that globs, SQL and regular expressions give a meaning to.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.text(
    st.sampled_from("ab-]![*?\\^$.|(){}'\"%_;/x0\n\x00é🎈"), max_size=10
)
GLOBS = TEXTS.filter(bool)


def event(**values: object) -> dict[str, object]:
    usual: dict[str, object] = {
        "origin": "demo/payments/e/i",
        "namespace": "demo",
        "service": "payments",
        "occurred_at": NOON.replace(tzinfo=None),
        "event_id": "e-1",
        "actor_type": "user",
        "actor_id": "alice",
        "actor_session": None,
        "action": "role.grant",
        "target_type": "account",
        "target_id": "bob",
        "outcome": "success",
        "context": None,
    }
    return usual | values


def found(filter_: Filter, *events: dict[str, object], scope: Scope = ALL, catalog: Catalog | None = None) -> list[Any]:
    DATABASE.execute("DELETE FROM events")
    for number, values in enumerate(events):
        row = values | {"event_id": f"e-{number}"} if values["event_id"] == "e-1" else values
        DATABASE.execute(f"INSERT INTO events VALUES ({', '.join('?' * len(COLUMNS))})", [row[column] for column in COLUMNS])  # noqa: S608 -- constants
    condition = where(filter_, scope, catalog)
    return [
        row[0]
        for row in DATABASE.execute(f"SELECT event_id FROM events WHERE {condition.sql} ORDER BY event_id", condition.parameters).fetchall()  # noqa: S608 -- a condition under test
    ]


class TestGlobs:
    @given(text=TEXTS, glob=GLOBS)
    @example(text="]", glob="[]]")
    @example(text="a", glob="[!]]")
    @example(text="-", glob="[a-]")
    @example(text="b", glob="[a-c-e]")
    @example(text="-", glob="[z-a]")
    @example(text="q", glob="[!z-a]")
    @example(text="[", glob="[")
    @example(text="a\nb", glob="a?b")
    @example(text="a\nb", glob="*b")
    @example(text="\\x{41}", glob="\\x{41}")
    @example(text="A", glob="\\x{41}")
    @example(text="%", glob="_")
    @example(text="ab", glob="a%")
    def test_a_glob_matches_what_a_shell_would_match_and_nothing_else(self, text: str, glob: str) -> None:
        expected = fnmatchcase(text, glob)
        assert matches_glob(text, glob) is expected
        assert bool(found(Filter(actor=(glob,)), event(actor_id=text))) is expected

    @given(
        parts=st.lists(st.sampled_from(["a", "b", "-", "]", "[", "!", "^", "*", "?", "c"]), min_size=1, max_size=9),
        text=st.text("abc-]![^", max_size=5),
    )
    def test_sets_are_those_of_a_shell(self, parts: list[str], text: str) -> None:
        glob = "".join(parts)
        assert bool(found(Filter(action=(glob,)), event(action=text))) is fnmatchcase(text, glob)

    def test_case_matters(self) -> None:
        assert found(Filter(actor=("Alice", "AL*")), event()) == []

    @pytest.mark.parametrize("hostile", ["' OR TRUE --", "alice' OR '1'='1", "$f_0", "?", "'; DROP TABLE events; --", ")", "\\"])
    def test_text_is_never_sql(self, hostile: str) -> None:
        for part in ("actor", "action", "target", "service"):
            values: Any = {part: (hostile.replace("?", "[?]"),)}
            assert found(Filter(**values), event()) == []
        assert found(Filter(text=hostile), event()) == []
        assert DATABASE.execute("SELECT count(*) FROM events").fetchall() == [(1,)]

    @given(text=TEXTS.filter(lambda text: text and not set(text) & set("*?[/")))
    def test_the_sql_is_the_same_whatever_the_text(self, text: str) -> None:
        scope = Scope(("a/b",))
        asked, other = (
            Filter(actor=(value,), action=(value,), target=(value,), service=(value,), text=f"{value}x") for value in (text, "plain")
        )
        assert '"' in text or where(asked, scope).sql == where(other, scope).sql
        assert text in where(asked, scope).parameters.values()

    def test_a_pattern_that_is_no_text_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="Unicode"):
            Filter(actor=("\ud800",))
        with pytest.raises(ConfigError, match="1 to 1024"):
            Filter(actor=("",))
        with pytest.raises(ConfigError, match="1 to 1024"):
            Filter(actor=("a" * 1025,))

    def test_the_longest_pattern_is_answered(self) -> None:
        assert found(Filter(actor=("?" * 1023 + "b",)), event(actor_id="é" * 1023 + "b")) == ["e-0"]
        assert found(Filter(actor=("*a" * 512,)), event(actor_id="a" * 4000)) == ["e-0"]


class TestParts:
    def test_one_value_of_each_part_is_enough_and_every_part_has_to_hold(self) -> None:
        events = (event(), event(actor_id="carol"), event(actor_id="dave", outcome="denied"))
        assert found(Filter(actor=("alice", "da*"), outcome=("success", "denied")), *events) == ["e-0", "e-2"]

    def test_a_target_with_a_slash_is_a_type_and_an_id_or_an_id_that_holds_one(self) -> None:
        events = (event(), event(target_type="file", target_id="account/bob"), event(target_type="account", target_id="carol"))
        assert found(Filter(target=("account/bob",)), *events) == ["e-0", "e-1"]
        assert found(Filter(target=("account/*",)), *events) == ["e-0", "e-1", "e-2"]
        assert found(Filter(target=("bob",)), *events) == ["e-0"]

    def test_a_service_with_a_slash_is_matched_part_by_part(self) -> None:
        events = (event(), event(namespace="other"), event(service="logins"))
        assert found(Filter(service=("payments",)), *events) == ["e-0", "e-1"]
        assert found(Filter(service=("demo/p*",)), *events) == ["e-0"]
        assert found(Filter(service=("*/payments",)), *events) == ["e-0", "e-1"]
        with pytest.raises(ConfigError, match="no service"):
            Filter(service=("a/b/c",))

    def test_the_end_of_a_range_is_not_in_it_and_any_zone_is_understood(self) -> None:
        events = (event(), event(occurred_at=datetime(2026, 4, 1, 13)))  # noqa: DTZ001 -- as the index holds times
        assert found(Filter(since=NOON, until=NOON + timedelta(hours=1)), *events) == ["e-0"]
        assert found(Filter(since=datetime(2026, 4, 1, 14, 30, tzinfo=timezone(timedelta(hours=2)))), *events) == ["e-1"]

    def test_a_time_without_a_zone_and_an_empty_range_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="no zone"):
            Filter(since=datetime(2026, 4, 1))  # noqa: DTZ001 -- that is the mistake
        with pytest.raises(ConfigError, match="no such time"):
            Scope(since=datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))))
        with pytest.raises(ConfigError, match="ends before"):
            Filter(since=NOON, until=NOON)

    def test_an_unknown_outcome_or_category_is_refused_not_answered_with_nothing(self) -> None:
        with pytest.raises(ConfigError, match="not one of success"):
            Filter(outcome=("Success",))
        with pytest.raises(ConfigError, match="uncatalogued"):
            Filter(category=("authorisation",))
        with pytest.raises(ConfigError, match="no catalog"):
            where(Filter(category=("security",)))

    @given(
        action=st.sampled_from(["auth.login", "auth.mfa.reset", "auth.mfa.add", "role.grant", "role.list", "role.", "x", "auth", "auth."])
    )
    def test_a_category_is_the_one_the_catalog_gives(self, action: str) -> None:
        entry = CATALOG.entry(action)
        right = entry.category.value if entry else UNCATALOGUED
        for category in ("authentication", "security", "administration", "authorization", UNCATALOGUED, "billing"):
            assert bool(found(Filter(category=(category,)), event(action=action), catalog=CATALOG)) is (category == right)
        assert found(Filter(category=("billing", right)), event(action=action), catalog=CATALOG) == ["e-0"]

    def test_with_an_empty_catalog_everything_is_uncatalogued(self) -> None:
        assert found(Filter(category=(UNCATALOGUED,)), event(), catalog=Catalog()) == ["e-0"]
        assert found(Filter(category=("security",)), event(), catalog=Catalog()) == []


class TestText:
    def test_it_is_looked_for_in_every_text_whatever_its_case(self) -> None:
        for column in ("event_id", "actor_type", "actor_id", "actor_session", "action", "target_type", "target_id"):
            assert len(found(Filter(text="nEEdle"), event(**{column: "a Needle b"}))) == 1, column
        assert found(Filter(text="needle"), event(context='{"note": "a NEEDLE"}'), event()) == ["e-0"]

    def test_a_word_that_hides_behind_escapes_is_found(self) -> None:
        hidden = r'{"role":"\u0061dmi\u006E","path":"a\/b","\u006Bey":1}'
        for text in ("admin", "a/b", '"key"', '"role":"admin"'):
            assert found(Filter(text=text), event(context=hidden)) == ["e-0"], text

    @given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), ascii_only=st.booleans())
    @example(text='"', ascii_only=False)
    @example(text="\\", ascii_only=True)
    @example(text="\x1f\x7f\u2028\x08\x0c", ascii_only=True)
    @example(text="🎈é", ascii_only=True)
    def test_any_text_of_the_context_is_found_however_it_is_spelled(self, text: str, ascii_only: bool) -> None:
        context = json.dumps({"deep": [{"er": text}]}, ensure_ascii=ascii_only)
        assert found(Filter(text=text), event(context=context)) == ["e-0"]

    def test_a_context_that_is_no_json_is_looked_through_as_it_is(self) -> None:
        assert found(Filter(text="needle"), event(context=r'{"a":"\ud800 needle"'), event(context="\\u0061")) == ["e-0"]

    def test_wildcards_of_sql_mean_nothing(self) -> None:
        assert found(Filter(text="a%e"), event()) == []
        assert found(Filter(text="_"), event()) == []


class TestScopes:
    MINE, OTHER = event(), event(namespace="other", service="logins")

    @pytest.mark.parametrize(
        "asked",
        [
            Filter(),
            Filter(service=("*",)),
            Filter(service=("*/*",)),
            Filter(service=("other/logins",)),
            Filter(service=("logins", "payments")),
            Filter(text="a"),
            Filter(since=NOON - timedelta(days=9), until=NOON + timedelta(days=9)),
            Filter(category=("authorization", "uncatalogued")),
            Filter(actor=("*", "x' OR TRUE OR 'x'='"), target=("a/*", "*"), outcome=("success", "denied")),
        ],
    )
    def test_no_filter_widens_a_scope(self, asked: Filter) -> None:
        scope = Scope(("demo/payments",), since=NOON - timedelta(hours=1), until=NOON + timedelta(hours=1))
        outside = event(occurred_at=datetime(2026, 4, 1, 13))  # noqa: DTZ001 -- as the index holds times
        before = event(occurred_at=datetime(2026, 4, 1, 10, 59))  # noqa: DTZ001 -- as the index holds times
        assert set(found(asked, self.MINE, self.OTHER, outside, before, scope=scope, catalog=CATALOG)) <= {"e-0"}

    @given(
        actor=st.lists(GLOBS, max_size=2),
        action=st.lists(GLOBS, max_size=2),
        target=st.lists(GLOBS, max_size=2),
        service=st.lists(GLOBS.filter(lambda glob: glob.count("/") < 2), max_size=3),
        outcome=st.lists(st.sampled_from(["success", "denied"]), max_size=2),
        text=st.none() | GLOBS,
    )
    def test_no_filter_there_is_widens_a_scope(self, actor, action, target, service, outcome, text) -> None:
        asked = Filter(
            actor=tuple(actor), action=tuple(action), target=tuple(target), service=tuple(service), outcome=tuple(outcome), text=text
        )
        others = (self.OTHER, event(namespace="demo", service="payments2"), event(namespace="demo2"), event(namespace="", service=""))
        assert set(found(asked, self.MINE, *others, scope=Scope(("demo/payments",)))) <= {"e-0"}

    def test_a_star_of_a_scope_stays_within_its_part(self) -> None:
        assert found(Filter(), self.MINE, self.OTHER, scope=Scope(("demo/*",))) == ["e-0"]
        assert found(Filter(), self.MINE, self.OTHER, scope=Scope(("*/logins", "demo/x"))) == ["e-1"]
        assert Scope(("demo/*",)).allows("demo", "payments")
        assert not Scope(("demo/*",)).allows("other", "payments")
        assert ALL.allows("any", "thing")

    @pytest.mark.parametrize("pattern", ["payments", "*", "a/b/c", "/b", "a/", "", "/"])
    def test_a_scope_that_cannot_be_read_is_refused(self, pattern: str) -> None:
        with pytest.raises(ConfigError):
            Scope((pattern,))

    def test_trails_are_chosen_by_the_same_rule(self) -> None:
        condition = services_where(("*",), Scope(("demo/p*",), since=NOON))
        DATABASE.execute(
            "CREATE OR REPLACE TEMP TABLE trails AS SELECT * FROM "
            "(VALUES ('demo', 'payments'), ('other', 'payments')) t(namespace, service)"
        )
        assert DATABASE.execute(f"SELECT namespace FROM trails WHERE {condition.sql}", condition.parameters).fetchall() == [("demo",)]  # noqa: S608 -- a condition under test


def test_two_conditions_in_one_statement_need_different_prefixes() -> None:
    first = where(Filter(actor=("a",)))
    assert (first & within("occurred_at", NOON, None)).parameters == {"f_0": "a", "t_0": NOON.replace(tzinfo=None)}
    with pytest.raises(ValueError, match="prefixes"):
        first & first
    with pytest.raises(ValueError, match="parameter"):
        where(Filter(actor=("a",)), prefix="f; DROP")
