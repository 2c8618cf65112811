"""OCSF: the class follows the action, what a class demands is there, and nothing is said that the event does not say."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from agent.reader.renderings import to_ocsf
from agent.reader.renderings.activities import CAPTIONS, CLASSES
from tests.unit.reader.renderings.example import ORIGIN, stored

# What OCSF 1.8.0 demands of each class, beside what it demands of all; and of which attributes one must be there.
REQUIRED = {
    3001: ({"user"}, set[str]()),
    3002: ({"user"}, {"service", "dst_endpoint"}),
    3003: ({"user"}, {"privileges", "group"}),
    3004: ({"entity"}, set[str]()),
    3005: ({"user", "privileges"}, set[str]()),
    3006: ({"group"}, set[str]()),
    6003: ({"actor", "api", "src_endpoint"}, set[str]()),
    6005: ({"actor", "src_endpoint"}, {"database", "databucket", "table"}),
}
REQUIRED_OF_ALL = {"metadata", "time", "category_uid", "class_uid", "activity_id", "type_uid", "severity_id"}
ACTIONS = (
    "auth.login", "auth.logout", "auth.mfa.enroll", "auth.mfa.verify", "auth.password.reset", "session.create", "session.revoke",
    "role.grant", "role.revoke", "role.create", "permission.grant", "permission.revoke", "permission.check", "user.create", "user.update",
    "group.create", "group.update", "group.member.add", "key.rotate", "key.use", "secret.read", "data.read", "data.export", "schema.drop",
    "command.run", "privilege.use", "config.change", "policy.delete", "audit.disable", "http.request", "kubernetes.get",
    "aws.s3.GetObject", "review.complete",
)  # fmt: skip
TARGETS = (("user", "bob"), ("group", "staff"), ("table", "public.cards"), ("bucket", "backups"), ("database", "shop"), ("thing", "x"))
FULL: dict[str, Any] = {
    "method": "password", "factor": "totp", "granted_role": "admin", "revoked_role": "admin", "permission": ["read"], "member": "carol",
    "source_ip": "192.0.2.7", "source_port": 4711, "user_agent": "curl/8.5", "error": "no", "error_code": 42, "statement": "SELECT 1",
}  # fmt: skip


class TestDenials:
    def test_a_denied_grant_is_a_failure_that_names_the_denial(self) -> None:
        rendered = to_ocsf(stored("role.grant", outcome="denied", context={"granted_role": "admin"}))
        assert (rendered["class_uid"], rendered["activity_id"]) == (3005, 1)
        assert (rendered["status_id"], rendered["action_id"], rendered["disposition_id"]) == (2, 2, 26)
        assert rendered["metadata"]["profiles"] == ["datetime", "security_control"]
        assert rendered["unmapped"]["trailseal"]["outcome"] == "denied"

    def test_a_failure_is_not_called_a_denial(self) -> None:
        rendered = to_ocsf(stored("role.grant", outcome="failure", context={"granted_role": "admin"}))
        assert (rendered["status_id"], "action_id" in rendered) == (2, False)

    def test_an_outcome_nobody_knows_is_unknown(self) -> None:
        assert to_ocsf(stored("data.read", outcome="unknown"))["status_id"] == 0


@pytest.mark.parametrize(
    ("action", "target", "context", "expected"),
    [
        ("auth.login", ("service", "shop"), {}, (3002, 1)),
        ("auth.mfa.verify", ("user", "bob"), {}, (3002, 99)),
        ("auth.mfa.enroll", ("user", "bob"), {}, (3001, 10)),
        ("user.disable", ("user", "bob"), {}, (3001, 5)),
        ("role.grant", ("user", "bob"), {"granted_role": "admin"}, (3005, 1)),
        ("role.grant", ("group", "staff"), {"granted_role": "admin"}, (3006, 1)),
        ("role.grant", ("user", "bob"), {}, (3004, 3)),
        ("group.member.add", ("group", "staff"), {"member": "bob"}, (3006, 3)),
        ("data.read", ("table", "cards"), {}, (6005, 1)),
        ("data.read", ("account", "7"), {}, (6003, 2)),
        ("privilege.use", ("user", "root"), {"command": "id"}, (3003, 1)),
        ("privilege.use", ("user", "root"), {}, (6003, 99)),
        ("http.request", ("url", "/x"), {"method": "DELETE"}, (6003, 4)),
        ("aws.s3.GetObject", ("object", "k"), {}, (6003, 2)),
        ("no.such.thing", ("x", "y"), {}, (6003, 99)),
    ],
)
def test_the_class_and_activity_follow_the_action(
    action: str, target: tuple[str, str], context: dict[str, Any], expected: tuple[int, int]
) -> None:
    rendered = to_ocsf(stored(action, target, context=context))
    assert (rendered["class_uid"], rendered["activity_id"]) == expected
    assert rendered["type_uid"] == expected[0] * 100 + expected[1]


def test_the_category_decides_where_the_action_says_nothing() -> None:
    assert to_ocsf(stored("shop.token.verify", category="authentication"))["class_uid"] == 3002
    assert to_ocsf(stored("shop.limit.update", ("limit", "7"), category="configuration"))["class_uid"] == 3004
    assert to_ocsf(stored("shop.cards.read", ("table", "cards"), category="data_access"))["class_uid"] == 6005


CONTEXTS: dict[str, dict[str, Any]] = {
    "bare": {},
    "full": FULL,
    "odd": {"granted_role": {"odd": 1}, "source_ip": "gone", "method": 7},
}


@pytest.mark.parametrize("action", ACTIONS)
def test_what_a_class_demands_is_there(action: str) -> None:
    for target, context in itertools.product(TARGETS, CONTEXTS):
        case = (action, target, context)
        rendered = to_ocsf(stored(action, target, context=CONTEXTS[context], category="data_change"))
        required, one_of = REQUIRED[rendered["class_uid"]]
        assert (REQUIRED_OF_ALL | required) - set(rendered) == set(), case
        assert not one_of or one_of & set(rendered), case
        assert rendered["metadata"]["product"]["name"] == "payments", case
        assert rendered["activity_id"] == 99 or rendered["activity_name"] == CAPTIONS[rendered["class_uid"]][rendered["activity_id"]], case
        assert rendered["category_uid"] == rendered["class_uid"] // 1000 == CLASSES[rendered["class_uid"]][1], case
        endpoint = rendered.get("src_endpoint")
        assert endpoint is None or {"ip", "hostname", "name", "svc_name"} & set(endpoint), case


def test_who_when_and_where_stand_in_their_places() -> None:
    rendered = to_ocsf(stored("user.create", context=FULL, mapping="okta-system-log/user-created", raw='{"uuid": "u-1"}'))
    assert rendered["actor"]["user"] == {
        "name": "alice@example.com", "uid": "alice@example.com", "email_addr": "alice@example.com", "type_id": 1, "type": "User",
    }  # fmt: skip
    assert rendered["actor"]["session"] == {"uid": "s-1"}
    assert (rendered["time"], rendered["time_dt"]) == (1_772_352_000_123, "2026-03-01T08:00:00.123456Z")
    assert rendered["src_endpoint"] == {"ip": "192.0.2.7", "port": 4711}
    assert (rendered["status_code"], rendered["status_detail"]) == ("42", "no")
    assert rendered["raw_data"] == '{"uuid": "u-1"}'
    metadata = rendered["metadata"]
    assert (metadata["uid"], metadata["original_event_uid"], metadata["sequence"]) == (f"{ORIGIN}#41", "e-1", 41)
    assert (metadata["event_code"], metadata["version"], metadata["log_format"]) == ("user.create", "1.8.0", "okta-system-log")


def test_what_has_no_home_is_unmapped_and_what_has_one_is_not_said_twice() -> None:
    rendered = to_ocsf(stored("role.grant", context={"granted_role": "admin", "on": "shop", "approval": {"id": "A-7"}}))
    assert rendered["unmapped"]["context"] == {"approval": {"id": "A-7"}}
    assert (rendered["privileges"], rendered["resources"]) == (["admin"], [{"name": "shop"}])


def test_how_somebody_signed_in_is_no_verb_of_http() -> None:
    rendered = to_ocsf(stored("auth.login", ("service", "shop"), context={"method": "saml"}))
    assert (rendered["auth_protocol_id"], rendered["auth_protocol"]) == (5, "SAML")
    assert "http_request" not in rendered


def test_ones_own_name_does_not_pass_for_another_service_if_the_address_is_unknown() -> None:
    person = to_ocsf(stored("data.read", ("table", "cards")))
    service = to_ocsf(stored("data.read", ("table", "cards"), actor=("service", "billing", None)))
    assert person["src_endpoint"] == {"name": "Unknown"}
    assert service["src_endpoint"] == {"svc_name": "billing"}
