"""Rules: what they may name, and what they may do to it."""

from __future__ import annotations

import pytest

from agent.errors import ConfigError
from agent.events.redaction import PathRule, PatternRule, PseudonymKey, Treatment

MASK, DROP = Treatment("mask"), Treatment("drop")
HASH = Treatment("hash", key=PseudonymKey(bytes(32)))


@pytest.mark.parametrize("path", ["actor.id", "actor.session", "target.id", "context.email", "context.a.*.b", "context.*", "context.l.0"])
def test_a_path_may_name_who_and_what_and_anything_in_the_context(path):
    assert PathRule.of(path, MASK).path == tuple(path.split("."))


@pytest.mark.parametrize(
    "path", ["event_id", "occurred_at", "action", "outcome", "actor", "actor.type", "target.type", "stream", "Actor.id"]
)
def test_a_path_may_not_name_what_orders_and_judges_events(path):
    with pytest.raises(ConfigError) as caught:
        PathRule.of(path, MASK)
    assert caught.value.key == "path"


@pytest.mark.parametrize("path", ["", "context.", ".context", "context..a", "context.a b", "context." + "a" * 129, "context" + ".a" * 16])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(ConfigError, match="is no path"):
        PathRule.of(path, MASK)


def test_the_whole_context_is_named_with_a_star():
    with pytest.raises(ConfigError) as caught:
        PathRule.of("context", DROP)
    assert "context.*" in caught.value.hint


@pytest.mark.parametrize("path", ["actor.id", "actor.session", "target.id"])
def test_what_the_schema_needs_cannot_be_dropped(path):
    with pytest.raises(ConfigError, match="cannot be dropped"):
        PathRule.of(path, DROP)


def test_what_a_pattern_finds_cannot_be_dropped():
    with pytest.raises(ConfigError):
        PatternRule.of("email", DROP)


def test_an_expression_needs_a_name_of_its_own():
    with pytest.raises(ConfigError, match="needs a name"):
        PatternRule.of(r"\bsk_[a-z]+", MASK)
    with pytest.raises(ConfigError, match="built-in"):
        PatternRule.of(r"\bsk_[a-z]+", MASK, "email")
    assert PatternRule.of(r"\bsk_[a-z]+", MASK, "stripe").find("a sk_x") == [(2, 6)]


def test_a_hash_needs_a_key():
    with pytest.raises(ConfigError, match="needs a key"):
        Treatment("hash")


@pytest.mark.parametrize("treatment", [("drop", 4), ("mask", 9), ("mask", -1), ("shred", 0)])
def test_a_treatment_that_makes_no_sense_is_refused(treatment):
    with pytest.raises(ConfigError):
        Treatment(*treatment)


def test_a_mask_keeps_the_end_of_long_values_only():
    assert Treatment("mask", 4).of("4111111111111111") == "[redacted]1111"
    assert Treatment("mask", 4).of("hunter2") == "[redacted]"
    assert MASK.of("4111111111111111") == "[redacted]"


def test_a_hash_is_the_pseudonym():
    assert HASH.of("alice") == PseudonymKey(bytes(32)).pseudonym("alice")
