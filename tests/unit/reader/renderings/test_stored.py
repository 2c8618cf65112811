"""What a store holds may be of any shape: a rendering takes it as it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.reader.renderings import RENDERINGS, Stored
from agent.reader.renderings.stored import Context, epoch_milliseconds, verb

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
KNOWN = st.sampled_from(
    ("source_ip", "source_port", "method", "user_agent", "error", "error_code", "granted_role", "permission", "member", "on", "status")
)
ACTIONS = st.sampled_from(
    (
        "auth.login",
        "role.grant",
        "permission.revoke",
        "group.member.add",
        "data.read",
        "http.request",
        "privilege.use",
        "aws.s3.GetObject",
        "x",
    )
)


class TestAnythingAtAll:
    @pytest.mark.parametrize("form", sorted(RENDERINGS))
    @given(event=JSON, more=st.dictionaries(st.sampled_from(("origin", "seq", "client", "container", "host", "raw", "observed_at")), JSON))
    def test_a_document_of_any_shape_is_rendered_without_an_error(self, form: str, event: Any, more: dict[str, Any]) -> None:
        rendered = RENDERINGS[form](Stored.of({**more, "event": event}))
        assert json.loads(json.dumps(rendered)) == rendered

    @pytest.mark.parametrize("form", sorted(RENDERINGS))
    @given(
        action=ACTIONS,
        kind=st.sampled_from(("user", "group", "table", "thing")),
        context=st.dictionaries(KNOWN | st.text(max_size=6), JSON),
    )
    def test_no_context_makes_an_error_and_no_text_of_it_is_lost(self, form: str, action: str, kind: str, context: dict[str, Any]) -> None:
        event = {
            "event_id": "e-1",
            "occurred_at": "2026-03-01T08:00:00Z",
            "actor": {"type": "user", "id": "alice"},
            "action": action,
            "target": {"type": kind, "id": "bob"},
            "outcome": "denied",
            "context": context,
        }
        rendered = RENDERINGS[form](Stored.of({"event": event, "origin": "prod/pay/e/i", "seq": 1}))
        texts = set(_texts(rendered))
        assert [value for value in context.values() if isinstance(value, str) and value and value not in texts] == []


class TestContext:
    def test_a_value_is_taken_once_and_what_is_of_another_kind_stays(self) -> None:
        context = Context({"error": {"code": 7}, "source_ip": "192.0.2.1%eth0", "status": True, "port": "70000"})
        assert context.take_text("error") is None
        assert context.take_address("source_ip") is None
        assert context.take_whole("status", 999) is None
        assert context.take_whole("port", 65_535) is None
        assert context.rest == {"error": {"code": 7}, "source_ip": "192.0.2.1%eth0", "status": True, "port": "70000"}

    def test_numbers_written_as_text_are_numbers_but_only_ascii_ones(self) -> None:
        context = Context({"status": "403", "port": "٤٤٣"})
        assert context.take_whole("status", 999) == 403
        assert context.take_whole("port", 65_535) is None
        assert context.rest == {"port": "٤٤٣"}


@pytest.mark.parametrize(
    ("action", "expected"),
    [("team.update", "update"), ("aws.s3.GetObject", "get"), ("user.update_role", "update"), ("x", "x"), ("", ""), ("a.", "")],
)
def test_the_verb_is_the_first_word_of_the_last_part(action: str, expected: str) -> None:
    assert verb(action) == expected


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("2026-03-01T08:00:00.123999Z", 1_772_352_000_123),
        ("1969-12-31T23:59:59.9995Z", -1),
        ("2026-03-01T08:00:00", None),
        ("yesterday", None),
        (None, None),
    ],
)
def test_times_are_rounded_down_to_milliseconds(time: str | None, expected: int | None) -> None:
    assert epoch_milliseconds(time) == expected


def test_an_origin_that_is_none_gives_no_parts() -> None:
    stored = Stored.of({"event": {}, "origin": "only/three/parts"})
    assert (stored.namespace, stored.service, stored.instance) == ("", "", "")


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for one in value.values() for text in _texts(one)]
    return [text for one in value for text in _texts(one)] if isinstance(value, list) else []
