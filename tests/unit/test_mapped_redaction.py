"""Blocks whose events are redacted: what must go is in no part of any record, and that it went is said."""

from __future__ import annotations

import json

import pytest

from agent.config.mappings import load_mapping
from agent.events.classify import AllRule, FieldRule, PrefixRule
from agent.events.mappings.selection import Selection
from agent.events.redaction import PathRule, PatternRule, Redactor, Treatment
from agent.events.validate import Validator
from agent.mapped import AsItIs, MappedSeparator, RedactingSeparator
from agent.separator import Separator
from agent.sources.base import UnitSeparator
from agent.trail.record_lines import number_lines
from agent.trail.records import QuarantineReason
from tests.support.mapped import KEY, SECRET, TIME, records, separator
from tests.unit.events.mappings.making import EVENT

CARD = PatternRule.of("card_number", Treatment("mask", 4))
EMAIL = PathRule.of("context.email", Treatment("hash", key=KEY))


def everything(done):
    return done.bodies


def test_what_looks_like_a_secret_is_in_no_part_of_a_mapped_record():
    done = separator(redactor=Redactor([], [CARD])).separate(b'{"do":"x","card":"%b"}\n' % SECRET.encode(), 0, TIME)
    [record] = records(done)
    assert SECRET.encode() not in everything(done)
    assert record["event"]["context"]["card"] == "[redacted]1111"
    assert record["redacted"] == ["raw", "context.card"]
    assert record["raw"] == '{"do":"x","card":"[redacted]1111"}'


def test_what_is_removed_by_its_place_is_in_no_part_of_a_mapped_record():
    redactor = Redactor([EMAIL], [], KEY)
    done = separator(redactor=redactor).separate(b'{"do":"x","email":"a@example.com","other":"a@example.com"}\n', 0, TIME)
    [record] = records(done)
    assert b"a@example.com" not in everything(done)
    assert record["event"]["context"]["email"].startswith(f"hmac-sha256:{KEY.id}:")
    assert record["redacted"][0] == "raw"


def test_a_quarantined_line_of_which_nobody_can_say_where_the_secret_stands_is_given_up_but_stated():
    line = b'{"do":"grant","mail":"a@example.com"'
    done = separator(redactor=Redactor([EMAIL], [], KEY)).separate(line + b"\n", 0, TIME)
    [record] = records(done)
    assert b"a@example.com" not in everything(done)
    assert record["reason"] == "not_json"
    assert (record["length"], record["hmac_sha256"], record["redacted"]) == (len(line), KEY.digest(line), ["raw"])
    assert "raw" not in record


def test_a_quarantined_line_is_kept_where_only_looks_matter():
    done = separator(redactor=Redactor([], [CARD])).separate(b'{"do":"%b' % SECRET.encode() + b"\n", 0, TIME)
    [record] = records(done)
    assert SECRET.encode() not in everything(done)
    assert (record["raw"], record["redacted"]) == ('{"do":"[redacted]1111', ["raw"])


@pytest.mark.parametrize("rule", [FieldRule(), PrefixRule("AUDIT "), AllRule()])
def test_a_service_s_own_events_are_redacted_and_nothing_else_of_the_block_changes(rule):
    event = json.dumps({"stream": "audit", **EVENT, "action": "a", "context": {"card": SECRET, "n": 1.50}}).encode()
    clean = json.dumps({"stream": "audit", **EVENT, "action": "a", "context": {"n": 1.50}}).encode()
    prefix = b"AUDIT " if isinstance(rule, PrefixRule) else b""
    ordinary = b"" if isinstance(rule, AllRule) else b'plain %b\n{"a":{"stream":"audit"}}\n' % SECRET.encode()
    block = prefix + event + b"\n" + ordinary + prefix + clean + b"\n" + prefix + b'{"stream":"audit","card":"%b"' % SECRET.encode() + b"\n"
    validator = Validator(rule)
    redacting = RedactingSeparator(
        "s", AsItIs(rule, validator), validator, keep_observability=True, has_offsets=True, redactor=Redactor([], [CARD])
    )
    done, plain = (
        one.separate(block, 5, TIME)
        for one in (redacting, Separator("s", rule, Validator(rule), keep_observability=True, has_offsets=True))
    )
    assert SECRET.encode() not in everything(done)
    assert done.observability == plain.observability
    for name in ("records", "events", "quarantined", "lines", "observability_lines", "reasons", "outcomes", "occurred_min"):
        assert getattr(done, name) == getattr(plain, name)
    assert not isinstance(redacting, UnitSeparator), "what a service wrote itself is one line"
    first, second, third = records(done)
    assert first["redacted"] == ["context.card"]
    assert second == records(plain)[1], "an event of which nothing was removed is the service's own bytes"
    assert third["redacted"] == ["raw"]
    assert "mapping" not in first
    assert "raw" not in first


@pytest.mark.parametrize("redactor", [Redactor([], [CARD]), Redactor([EMAIL], [], KEY)])
@pytest.mark.parametrize(
    "head", [b'{"do":"x","email":"a@example.com","card":"4111', b"x postgres://app:s3cr3t,Pass(", b'"john;smith"@exam']
)
def test_the_beginning_of_a_line_that_is_too_long_is_not_kept(redactor, head):
    """It may end within a secret, and a part of one looks like none."""
    body = separator(redactor=redactor).overlong(TIME, head, 300_000, "ab" * 32, (0, 300_000), b"")
    record = json.loads(number_lines([body], 0)[0])
    assert (record["reason"], record["length"], record["head"], record["redacted"]) == ("too_long", 300_000, "", ["raw"])
    assert "sha256" not in record, "it would let guesses be checked"


def test_a_message_that_can_be_no_event_is_redacted_too():
    body = separator(redactor=Redactor([], [CARD])).quarantined(TIME, QuarantineReason.MULTI_LINE, "", b"a\n%b" % SECRET.encode())
    assert json.loads(number_lines([body], 0)[0])["raw"] == "a\n[redacted]1111"


def test_a_prefix_does_not_keep_a_quarantined_line_from_being_read_as_what_it_is():
    rule = PrefixRule("AUDIT ")
    validator = Validator(rule)
    redacting = RedactingSeparator(
        "s", AsItIs(rule, validator), validator, keep_observability=True, has_offsets=True, redactor=Redactor([EMAIL], [], KEY)
    )
    [record] = records(redacting.separate(b'AUDIT {"context":{"email":"a@example.com"},"note":"kept"}\n', 0, TIME))
    assert record["reason"] == "missing_field"
    assert record["raw"].startswith("AUDIT {")
    assert "kept" in record["raw"]
    assert "a@example.com" not in record["raw"]


@pytest.mark.parametrize("messages", [False, True])
def test_no_hash_is_left_by_which_a_guess_at_what_was_removed_could_be_checked(messages):
    """An id of ours is made of the line, and a shortened name ends in a digest: neither may tell one secret from another."""
    long = "n" * 2000
    changes = {"event": EVENT | {"event_id": "{id}", "target": {"type": "url", "id": "{url}"}}, "has_offsets": not messages}

    def record(secret, offset=7):
        line = b'{"do":"x","url":"%b?card=%b"}' % (long.encode(), secret)
        one = separator(redactor=Redactor([], [PatternRule.of("card_number", Treatment("mask"))]), **changes)
        done = one.separate_units([line], None, offset, TIME) if messages else one.separate(line + b"\n", offset, TIME)
        [found] = records(done)
        return found

    same = [record(secret) for secret in (b"4111111111111111", b"4012888888881881")]
    assert same[0] == same[1]
    assert same[0]["event"]["target"]["id"] == "n" * 511 + "…"
    assert same[0]["event"]["event_id"] != record(b"4111111111111111", 8)["event"]["event_id"]
    assert len(same[0]["event"]["event_id"]) == 32


def test_a_pattern_that_finds_something_in_an_id_of_ours_does_no_harm():
    hexadecimal = PatternRule.of("[0-9a-f]{4}", Treatment("mask"), "hexadecimal")
    one = separator(redactor=Redactor([], [hexadecimal]), event=EVENT | {"event_id": "{id}"})
    [record] = records(one.separate(b'{"do":"x"}\n', 0, TIME))
    assert len(record["event"]["event_id"]) == 32
    assert record["event"]["action"] == "thing.x"


SECRETS = {
    "card_number": "4111 1111 1111 1111",
    "aws_access_key_id": "AKIAIOSFODNN7EXAMPLE",
    "email": "alice.of.a.long.name@example.com",
}


@pytest.mark.parametrize("name", SECRETS)
def test_no_part_of_a_secret_is_left_where_a_long_name_is_shortened(name):
    secret, redactor = SECRETS[name], Redactor([], [PatternRule.of(name, Treatment("mask"))])
    for place in (*range(440, 520), 600):
        user = ("x" * place + f" {secret} " + "y" * 40).encode()
        changes = {"event": EVENT | {"event_id": "{id}", "actor": {"type": "user", "id": "{user}"}}}
        [record] = records(separator(redactor=redactor, **changes).separate(b'{"do":"x","user":"%b","id":"%b"}\n' % (user, user), 0, TIME))
        actor, event_id = record["event"]["actor"]["id"], record["event"]["event_id"]
        assert record["kind"] == "event"
        assert len(actor) <= 512
        assert len(event_id) <= 128
        assert actor.startswith("x" * min(place, 511))
        assert secret[:4] not in json.dumps(record)
        assert record["redacted"][0] == "raw"


def test_a_pseudonym_is_of_a_long_name_as_a_whole():
    name = "n" * 600
    redactor = Redactor([PathRule.of("actor.id", Treatment("hash", key=KEY))], [], KEY)
    [record] = records(
        separator(redactor=redactor, event=EVENT | {"actor": {"type": "user", "id": "{user}"}}).separate(
            b'{"do":"x","user":"%b"}\n' % name.encode(), 0, TIME
        )
    )
    assert record["event"]["actor"]["id"] == KEY.pseudonym(name)
    assert name[:50] not in json.dumps(record)


def test_without_redaction_long_names_stay_different():
    def target(end):
        line = b'{"do":"x","url":"%b%b"}\n' % (b"n" * 600, end)
        [record] = records(separator(event=EVENT | {"target": {"type": "url", "id": "{url}"}}).separate(line, 0, TIME))
        return record["event"]["target"]["id"]

    assert len(target(b"a")) == len(target(b"b")) == 512
    assert target(b"a") != target(b"b")


def test_what_the_client_chose_and_redaction_dropped_is_not_named():
    drop = Redactor([PathRule.of("context.agent", Treatment("drop"))], [])
    line = b'{"do":"grant","what":"admin","agent":"x-agent"}\n'
    [record] = records(separator(redactor=drop).separate(line, 0, TIME))
    assert "agent" not in record["event"]["context"]
    assert "client" not in record
    for other in (
        Redactor([PathRule.of("context.agent", Treatment("mask"))], []),
        Redactor([PathRule.of("context.granted", Treatment("mask"))], []),
    ):
        [record] = records(separator(redactor=other).separate(line, 0, TIME))
        assert record["client"] == ["context.agent"]


def shipped(name, *rules, has_offsets=True):
    selection = Selection((load_mapping(name),))
    redactor = Redactor([], rules, KEY)
    return MappedSeparator("s", selection, Validator(selection), keep_observability=True, has_offsets=has_offsets, redactor=redactor)


def test_arguments_that_the_audit_log_writes_in_hexadecimal_are_redacted_in_event_and_line():
    at = "msg=audit(1782820000.123:42):"
    unit = "\n".join(
        [
            f'type=SYSCALL {at} arch=c000003e syscall=59 success=yes exit=0 ppid=1 pid=2 auid=1000 uid=0 tty=pts0 ses=3 exe="/usr/bin/pay"',
            f'type=EXECVE {at} argc=2 a0="pay" a1={f"alice smith {SECRET}".encode().hex().upper()}',
            f"type=PROCTITLE {at} proctitle={f'pay{chr(0)}alice smith {SECRET}'.encode().hex().upper()}",
        ]
    )
    done = shipped("linux-auditd", PatternRule.of("card_number", Treatment("mask"))).separate(unit.encode() + b"\n", 0, TIME)
    [record] = records(done)
    assert record["event"]["context"]["command"] == "pay alice smith [redacted]"
    assert record["redacted"] == ["raw", "context.command"]
    assert SECRET.encode().hex().encode() not in done.bodies.lower()
    assert b"argc=2" in done.bodies


def test_a_line_in_hexadecimal_that_became_no_event_is_redacted_too():
    mail = b"alice@example.com".hex().upper()
    line = f"type=USER_CMD msg=audit(x:43): cmd={mail}"
    done = shipped("linux-auditd", PatternRule.of("email", Treatment("mask"))).separate(line.encode() + b"\n", 0, TIME)
    [record] = records(done)
    assert record["kind"] == "quarantine"
    assert record["raw"] == line.replace(mail, "[redacted]")


@pytest.mark.parametrize(
    ("rule", "first", "second"),
    [
        (PatternRule.of("card_number", Treatment("mask")), "4111 1111", " 1111 1111"),
        (PatternRule.of("email", Treatment("hash", key=KEY)), "alice@exam", "ple.com"),
    ],
)
def test_a_secret_that_the_mapping_joined_of_two_lines_takes_the_original_with_it(rule, first, second):
    begin = "Jun 30 11:58:07 db01 postgres[4242]: "
    asked = "user=mallory,db=shop,app=psql,client=192.0.2.14 "
    unit = "\n".join(
        [
            f"{begin}[7-1] {asked}ERROR:  permission denied for table salaries",
            f"{begin}[7-2] {asked}STATEMENT:  select pay('{first}",
            f"{begin}[7-3] {second}')",
        ]
    )
    [record] = records(shipped("postgresql-stderr", rule).separate(unit.encode() + b"\n", 0, TIME))
    assert record["kind"] == "event"
    assert record["redacted"] == ["raw", "context.statement"]
    assert "raw" not in record
    assert first not in json.dumps(record)


def test_a_detail_shows_no_part_of_a_key_that_is_a_secret_and_was_cut_off():
    redactor = Redactor([], [PatternRule.of("card_number", Treatment("mask"))])
    for length in range(150, 210):
        key = f"{'x' * length} {SECRET}"
        [record] = records(separator(redactor=redactor).separate(f'{{"do":"x","{key}":1,"{key}":2}}\n'.encode(), 0, TIME))
        assert record["reason"] == "duplicate_key"
        assert "411" not in record["detail"]


@pytest.mark.parametrize("number", ["1e400", "18014398509481984"])
def test_a_detail_shows_no_key_that_a_path_rule_is_about(number):
    rule = FieldRule()
    validator = Validator(rule)
    redactor = Redactor([PathRule.of("context.users.*", Treatment("drop"))], [])
    redacting = RedactingSeparator("s", AsItIs(rule, validator), validator, keep_observability=True, has_offsets=True, redactor=redactor)
    event = json.dumps({"stream": "audit", **EVENT, "action": "a", "context": {"users": {"alice@example.com": {"n": 77}}}})
    [record] = records(redacting.separate(event.replace("77", number).encode() + b"\n", 0, TIME))
    assert record["kind"] == "quarantine"
    assert record["detail"] == "context.users.*"
    assert "alice@" not in json.dumps(record)
