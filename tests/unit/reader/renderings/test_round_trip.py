"""Our event, rendered, and mapped back: who did what to what, when and how it ended come back, even from the schema alone."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from agent.config.mappings import load_mapping
from agent.events.mappings import Mapped, Mapping, Moment
from agent.reader.renderings import RENDERINGS, Stored
from tests.unit.reader.renderings.example import stored
from tests.unit.reader.renderings.test_ocsf import ACTIONS, FULL, TARGETS

MOMENT = Moment(datetime(2026, 6, 30, 12, tzinfo=UTC))
ACTORS = (("user", "alice@example.com", "s-1"), ("anonymous", "?", None), ("host", "web-1", None))
OUTCOMES = ("success", "failure", "denied", "unknown")


@pytest.fixture(scope="module", params=["ocsf", "ecs"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def mapping(form: str) -> Mapping:
    return load_mapping(form)


def mapped(mapping: Mapping, document: dict[str, Any]) -> tuple[dict[str, Any], str]:
    outcome = mapping.map(json.dumps(document).encode(), MOMENT)
    assert isinstance(outcome, Mapped), outcome
    return json.loads(outcome.event), outcome.rule


def test_an_event_comes_back_as_it_was(form: str, mapping: Mapping) -> None:
    for case in itertools.product(ACTIONS, TARGETS, OUTCOMES, ACTORS):
        action, target, outcome, actor = case
        before = stored(action, target, actor=actor, outcome=outcome, context=FULL, category="data_change")
        event, rule = mapped(mapping, RENDERINGS[form](before))
        assert rule == f"{form}/trailseal", case
        assert _core(event) == _core_of(before), case
        assert event["event_id"] == "e-1", case
        assert event["context"]["source_ip"] == "192.0.2.7", case
        assert (event["context"]["origin"], event["context"]["seq"]) == (before.origin, 41), case


@pytest.mark.parametrize("form", ["ocsf", "ecs"], scope="module")
def test_what_a_grant_gave_comes_back(form: str, mapping: Mapping) -> None:
    context = {"granted_role": "admin", "on": "shop", "approval": {"id": "A-7"}}
    event, _ = mapped(mapping, RENDERINGS[form](stored("role.grant", context=context, outcome="denied")))
    assert (event["context"]["granted_role"], event["context"]["on"]) == ("admin", "shop")
    assert event["context"]["more"]["approval"] == {"id": "A-7"}


# What is left if nothing but the schema's own attributes is kept; the action is the one the class and the activity stand for.
BY_CLASS = [
    ("auth.login", ("service", "shop"), "auth.login"),
    ("auth.logout", ("service", "shop"), "auth.logout"),
    ("session.create", ("service", "shop"), "auth.login"),
    ("user.create", ("user", "bob"), "user.create"),
    ("user.disable", ("user", "bob"), "user.disable"),
    ("user.update", ("user", "bob"), "user.update"),
    ("auth.password.reset", ("user", "bob"), "auth.password.reset"),
    ("auth.mfa.enroll", ("user", "bob"), "auth.mfa.enroll"),
    ("group.create", ("group", "staff"), "group.create"),
    ("group.member.add", ("group", "staff"), "group.member.add"),
    ("permission.grant", ("user", "bob"), "permission.grant"),
    # Without its own word a role is a privilege: class 3005 of OCSF 1.8 knows nothing else.
    ("role.grant", ("user", "bob"), "permission.grant"),
    ("role.revoke", ("group", "staff"), "permission.revoke"),
    ("policy.delete", ("policy", "passwords"), "policy.delete"),
    ("data.read", ("table", "public.cards"), "data.read"),
    ("data.write", ("bucket", "backups"), "data.write"),
]


@pytest.mark.parametrize(("action", "target", "expected"), BY_CLASS)
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_ocsf_alone_still_says_who_what_when_and_how_it_ended(action: str, target: tuple[str, str], expected: str, outcome: str) -> None:
    before = stored(
        action, target, outcome=outcome, context={"granted_role": "admin", "permission": "admin", "member": "carol", "factor": "totp"}
    )
    document = RENDERINGS["ocsf"](before)
    del document["unmapped"]
    for name in ("event_code", "log_provider", "original_time", "original_event_uid"):
        del document["metadata"][name]
    event, rule = mapped(load_mapping("ocsf"), document)
    assert rule != "ocsf/trailseal"
    # A sign-in that failed was refused: OCSF cannot tell the two apart.
    refused = outcome == "failure" and document["class_uid"] == 3002 and document["activity_id"] == 1
    assert _core(event) == _core_of(before) | {"action": expected, "outcome": "denied" if refused else outcome}


def test_ecs_alone_still_says_who_what_when_and_how_it_ended() -> None:
    for outcome, expected in (("success", "success"), ("failure", "failure"), ("denied", "failure"), ("unknown", "unknown")):
        before = stored("role.grant", outcome=outcome, context={"granted_role": "admin"})
        document = RENDERINGS["ecs"](before)
        del document["trailseal"], document["event"]["module"], document["event"]["dataset"]
        event, rule = mapped(load_mapping("ecs"), document)
        assert rule == "ecs/grant"
        assert event["context"]["granted_role"] == "admin"
        assert _core(event) == _core_of(before) | {"outcome": expected, "session": None}


@pytest.mark.parametrize("form", ["ocsf", "ecs"])
def test_a_record_of_another_format_can_be_rendered_with_its_line(form: str) -> None:
    raw = '{"action":"org.add_member","user":"=cmd|x"}'
    rendered = RENDERINGS[form](stored("group.member.add", ("organization", "example-org"), context={"member": "bob"}, raw=raw))
    assert raw in (rendered.get("raw_data"), rendered.get("event", {}).get("original"))


def _core(event: dict[str, Any]) -> dict[str, Any]:
    when = datetime.fromisoformat(event["occurred_at"])
    return {
        "when": when,
        "who": event["actor"]["id"],
        "kind": event["actor"]["type"],
        "session": event["actor"].get("session"),
        "action": event["action"],
        "what": (event["target"]["type"], event["target"]["id"]),
        "outcome": event["outcome"],
    }


def _core_of(before: Stored) -> dict[str, Any]:
    return {
        "when": datetime.fromisoformat(before.occurred_at),
        "who": before.actor_id,
        "kind": before.actor_type,
        "session": before.actor_session,
        "action": before.action,
        "what": (before.target_type, before.target_id),
        "outcome": before.outcome,
    }
