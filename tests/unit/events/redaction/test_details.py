"""Details: why a line is no event is said without the keys that may be secrets."""

from __future__ import annotations

import pytest

from agent.events.redaction import BUILT_IN, PathRule, PatternRule, Redactor, Treatment
from agent.events.verdict import MAX_DETAIL_CHARS, Reason, rejection

MASK = Treatment("mask")
EVERYTHING = Redactor((), [PatternRule.of(name, MASK) for name in BUILT_IN])


def by_path(*paths: str) -> Redactor:
    return Redactor([PathRule.of(path, MASK) for path in paths])


@pytest.mark.parametrize("secret", ["4111 1111 1111 1111", "AKIAIOSFODNN7EXAMPLE", "alice.smith@example.com", "postgres://a:s3c:r.e t@db"])
@pytest.mark.parametrize("reader", ["", "kubernetes-audit: ", "test/grant: "])
def test_no_part_of_a_key_that_was_cut_off_is_shown(secret, reader):
    shown = ""
    for length in range(MAX_DETAIL_CHARS):
        whole = f"{reader}context.{'x' * length} {secret}"
        detail = rejection(Reason.DUPLICATE_KEY, whole).detail
        shown = EVERYTHING.redact_detail(detail)
        assert secret[:4] not in shown or len(whole) <= MAX_DETAIL_CHARS
        assert shown.startswith(reader)
    assert shown == f"{reader}…"


def test_a_place_is_shown_whole_where_no_rule_is_about_it():
    for detail in (
        "context.granted",
        "test/grant: context.granted",
        "test: requestObject.name",
        "byte order mark",
        "test: regex into x",
        "",
    ):
        assert EVERYTHING.redact_detail(detail) == detail
    long = "x" * MAX_DETAIL_CHARS + "…"
    assert Redactor().redact_detail(long) == long


@pytest.mark.parametrize(
    ("path", "detail", "shown"),
    [
        ("context.users.*", "context.users.alice@example.com.n", "context.users.*"),
        ("context.users.*", "context.users", "context.users"),
        ("context.users.*", "context.Users.alice", "context.Users.*"),
        ("context.users.*.email", "test/grant: context.users.alice.email", "test/grant: context.users.*"),
        ("context.users.*.email", "context.groups.admins", "context.groups.admins"),
        ("context.*", "context.alice@example.com", "context.*"),
        ("context.*.email", "context.alice", "context.*"),
        ("context.people", "context.people", "context.people"),
        ("context.people", "context.people.alice.age", "context.people.*"),
        ("actor.id", "actor.id", "actor.id"),
        ("actor.id", "actor.alice@example.com", "actor.*"),
        ("actor.id", "alice@example.com", "*"),
        ("context.email", "test: users.alice", "test: users.*"),
        ("context.email", "test: alice@example.com", "test: *"),
        ("context.email", "test: no rule", "test: no rule"),
        ("context.email", "test: regex into parts", "test: regex into parts"),
        ("context.email", "byte order mark", "byte order mark"),
        ("context.email", "test", "test"),
        ("context.email", "test/grant", "test/grant"),
        ("context.email", "", ""),
        ("context.email", "test: " + "x" * MAX_DETAIL_CHARS + "…", "test: …"),
        ("context.email", "x" * MAX_DETAIL_CHARS + "…", "…"),
    ],
)
def test_no_key_is_shown_that_a_path_rule_is_about(path, detail, shown):
    assert by_path(path).redact_detail(detail) == shown
