"""ECS: categories and types as ECS pairs them, one home for each value, and bounded names of fields."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from agent.reader.renderings import to_ecs
from tests.unit.reader.renderings.example import stored
from tests.unit.reader.renderings.test_ocsf import ACTIONS, FULL, TARGETS

# The types that ECS 8.17.0 expects of each category.
EXPECTED = {
    "api": {"access", "admin", "allowed", "change", "creation", "deletion", "denied", "end", "info", "start", "user"},
    "authentication": {"start", "end", "info"},
    "configuration": {"access", "change", "creation", "deletion", "info"},
    "database": {"access", "change", "info", "error"},
    "file": {"access", "change", "creation", "deletion", "info"},
    "iam": {"admin", "change", "creation", "deletion", "group", "info", "user"},
    "process": {"access", "change", "end", "info", "start"},
    "session": {"start", "end", "info"},
    "web": {"access", "error", "info"},
}
# Every field of the top level is one of ECS, but for the one that is ours.
TOP_LEVEL = {
    "@timestamp", "ecs", "message", "event", "user", "group", "source", "user_agent", "http", "url", "process", "error", "service", "agent",
    "related", "trailseal", "host", "container", "orchestrator",
    "organization",
}  # fmt: skip


CATEGORIES = (None, "authentication", "authorization", "administration", "configuration", "billing")


@pytest.mark.parametrize("action", [*ACTIONS, "shop.thing.verify"])
def test_types_are_those_that_the_category_expects(action: str) -> None:
    for target, category, outcome in itertools.product((*TARGETS, ("file", "/etc/x")), CATEGORIES, ("success", "denied")):
        case = (action, target, category, outcome)
        rendered = to_ecs(stored(action, target, category=category, outcome=outcome, context=FULL))
        assert len(rendered["event"]["category"]) == 1, case
        assert set(rendered["event"]["type"]) <= EXPECTED[rendered["event"]["category"][0]], case
        assert set(rendered) <= TOP_LEVEL, case


class TestDenials:
    def test_a_denial_is_a_failure_and_keeps_its_own_word(self) -> None:
        rendered = to_ecs(stored("role.grant", outcome="denied", context={"granted_role": "admin"}))
        assert (rendered["event"]["outcome"], rendered["trailseal"]["outcome"]) == ("failure", "denied")

    def test_where_the_category_knows_the_type_denied_it_is_said(self) -> None:
        assert to_ecs(stored("kubernetes.get", ("secret", "x"), outcome="denied"))["event"]["type"] == ["access", "denied"]


def test_who_when_and_where_stand_in_their_places() -> None:
    rendered = to_ecs(stored("user.create", context=FULL, raw="the line"))
    assert rendered["@timestamp"] == "2026-03-01T08:00:00.123456Z"
    event = rendered["event"]
    assert (event["action"], event["id"], event["created"], event["original"]) == ("user.create", "e-1", "2026-03-01T08:00:01Z", "the line")
    assert rendered["user"]["name"] == "alice@example.com"
    assert rendered["user"]["target"] == {"id": "bob", "name": "bob"}
    assert rendered["source"] == {"ip": "192.0.2.7", "address": "192.0.2.7", "port": 4711}
    assert rendered["user_agent"] == {"original": "curl/8.5"}
    assert rendered["service"] == {"name": "payments", "node": {"name": "payments-0"}}
    assert rendered["related"] == {"user": ["alice@example.com", "bob"], "ip": ["192.0.2.7"]}
    assert rendered["error"] == {"code": "42", "message": "no"}


def test_the_pod_and_the_machine_stand_where_others_look_for_them() -> None:
    place = {"namespace": "shop", "pod": "payments-0", "container": "app", "id": "abc", "node": "node-1"}
    rendered = to_ecs(stored("user.create", host="node-1", container=place))
    assert rendered["host"] == {"name": "node-1"}
    assert rendered["container"] == {"id": "abc", "name": "app"}
    assert rendered["orchestrator"] == {"namespace": "shop", "resource": {"type": "pod", "name": "payments-0"}}
    assert rendered["trailseal"]["container"] == place


def test_a_granted_role_is_a_change_of_who_got_it() -> None:
    rendered = to_ecs(stored("role.grant", context={"granted_role": "admin"}))
    assert rendered["user"]["changes"] == {"roles": ["admin"]}
    taken = to_ecs(stored("role.revoke", context={"revoked_role": "admin"}))
    assert "changes" not in taken["user"]
    assert taken["trailseal"]["context"] == {"revoked_role": "admin"}


def test_a_member_is_the_user_that_the_group_got() -> None:
    rendered = to_ecs(stored("group.member.add", ("group", "staff"), context={"member": "carol"}))
    assert (rendered["group"]["name"], rendered["user"]["target"]["name"]) == ("staff", "carol")
    assert rendered["related"]["user"] == ["alice@example.com", "carol"]


def test_a_member_of_an_organization_is_found_by_both() -> None:
    rendered = to_ecs(stored("group.member.add", ("organization", "example-org"), context={"member": "carol"}))
    assert rendered["organization"] == {"name": "example-org", "id": "example-org"}
    assert rendered["user"]["target"]["name"] == "carol"


def test_a_name_that_is_no_address_is_no_ip() -> None:
    rendered = to_ecs(stored("data.read", context={"source_ip": "pod-7.shop"}))
    assert rendered["source"] == {"address": "pod-7.shop"}
    assert "ip" not in rendered["related"]


def test_names_that_a_service_chose_stay_below_one_field() -> None:
    context: dict[str, Any] = {f"field-{number}": number for number in range(500)}
    rendered = to_ecs(stored("data.read", context=context))
    assert rendered["trailseal"]["context"] == context
    assert set(rendered) <= TOP_LEVEL
