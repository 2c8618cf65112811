"""Original lines: what a rule names is nowhere in what is kept of them, or nothing is kept."""

from __future__ import annotations

import base64
import json

import pytest

from agent.events.redaction import BUILT_IN, PathRule, PatternRule, PseudonymKey, RedactedText, Redactor, Treatment

KEY = PseudonymKey(bytes(range(32)))
MASK, HASH = Treatment("mask"), Treatment("hash", key=KEY)
ALICE = "alice@example.com"
GIVEN_UP = RedactedText(None, ("raw",))
EMAIL = Redactor((), [PatternRule.of("email", HASH)], KEY)
EVERYTHING = Redactor((), [PatternRule.of(name, MASK) for name in BUILT_IN], KEY)


def by_path(*paths: str, treatment: Treatment = HASH) -> Redactor:
    return Redactor([PathRule.of(path, treatment) for path in paths], (), KEY)


def mapped(actor: str = ALICE, **context: object) -> bytes:
    made = {
        "event_id": "e-1",
        "occurred_at": "2026-01-08T14:32:07Z",
        "actor": {"type": "user", "id": actor},
        "action": "role.grant",
        "target": {"type": "user", "id": "u-2"},
        "outcome": "success",
        "context": context,
    }
    return json.dumps(made).encode()


class TestPatterns:
    def test_a_line_in_which_nothing_is_found_is_the_same_object(self):
        line = rb'{"a":"b\nc \"quoted\" ","n":1.10}  100% \xff'
        assert EVERYTHING.redact_text(line).raw is line
        assert EVERYTHING.redact_text(line).names == ()

    def test_without_rules_nothing_is_looked_at(self):
        line = f"{ALICE} \\u0040".encode()
        assert Redactor().redact_text(line) == RedactedText(line)

    @pytest.mark.parametrize(
        "spelled",
        [
            b"alice@example.com",
            rb"alice\u0040example.com",
            rb"\u0061lice\x40example\u002ecom",
            rb"alice\\u0040example.com",
            b"alice%40example.com",
            b"alice%2540example.com",
            b"alice&#64;example.com",
            "alice\uff20example.com".encode(),
            "al\u200bice@example.com".encode(),
            b"a\0l\0i\0c\0e\0@\0e\0x\0a\0m\0p\0l\0e\0.\0c\0o\0m",
            b"alice\xff@example.com",
            b"\xc3alice@example.com",
        ],
    )
    def test_every_spelling_is_cut_out_where_it_stands(self, spelled):
        kept = EMAIL.redact_text(b"from <" + spelled + b"> to all\xfe")
        assert kept.raw is not None
        assert kept.raw.replace(b"\xc3", b"") == f"from <{KEY.pseudonym(ALICE)}> to all".encode() + b"\xfe"
        assert kept.names == ("raw",)

    def test_an_escaped_slash_hides_no_password(self):
        assert EVERYTHING.redact_text(rb'{"u":"postgres:\/\/app:s3cr3t@db"}').raw == rb'{"u":"postgres:\/\/app:[redacted]@db"}'

    @pytest.mark.parametrize("number", [b"4111111111111111", b"4.111111111111111e15", b"4111111111111111.00", b"4.111111111111111E+15"])
    def test_a_card_number_is_found_in_a_number(self, number):
        assert EVERYTHING.redact_text(b'{"card":%b,"n":4.5e3}' % number).raw == b'{"card":[redacted],"n":4.5e3}'

    def test_an_order_number_that_fails_the_luhn_check_stays(self):
        line = b"order 4111111111111112 of 4.111111111111112e15"
        assert EVERYTHING.redact_text(line).raw is line

    def test_a_spelling_without_a_bottom_gives_the_line_up(self):
        text = "@"
        for number in range(9):
            text = "".join(f"\\u{ord(one):04x}" for one in text) if number % 2 else "".join(f"%{ord(one):02x}" for one in text)
        assert EMAIL.redact_text(text.encode()) == GIVEN_UP

    def test_a_line_full_of_secrets_is_given_up(self):
        assert EMAIL.redact_text(b"a@b.co " * 1000) == GIVEN_UP

    @pytest.mark.parametrize("before", [b"", b" ", b"a1=", b"=0x", b"'\\\\x", b",", b"arguments:41424344,"])
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
    def test_a_secret_in_hexadecimal_is_cut_out_where_it_stands(self, before, encoding):
        for written in (str.upper, str.lower):
            hexadecimal = written("<alice@example.com>".encode(encoding).hex()).encode()
            kept = EMAIL.redact_text(before + hexadecimal + b" end")
            assert kept.raw is not None
            assert "alice".encode(encoding).hex() not in kept.raw.decode().lower()
            assert KEY.pseudonym(ALICE).encode() in kept.raw
            assert kept.raw.startswith(before)
            assert kept.raw.endswith(b" end")

    def test_arguments_in_hexadecimal_are_separate_texts(self):
        kept = EMAIL.redact_text(b"proctitle=" + b"pay\0alice@example.com\0--now".hex().encode())
        assert kept.raw == b"proctitle=%b%b%b" % (b"pay\0".hex().encode(), KEY.pseudonym(ALICE).encode(), b"\0--now".hex().encode())

    def test_a_spelling_within_hexadecimal_is_seen_too(self):
        kept = EMAIL.redact_text(rb'{"a1":"%b"}' % b"alice%40example.com".hex().encode())
        assert kept.raw == b'{"a1":"%b"}' % KEY.pseudonym(ALICE).encode()

    @pytest.mark.parametrize(
        "line",
        [
            b"id=0190a5f27c1e70009b1d3f6a2c4e8d10 sum " + b"9f" * 32,
            b"x616c696365406578616d706c652e636f6d",
            b"616c696365406578616d706c652e636f6dz",
            b"7265616461626c6520627574206e6f20736563726574",
        ],
    )
    def test_other_hexadecimal_digits_stay(self, line):
        assert EVERYTHING.redact_text(line).raw is line

    def test_a_card_number_is_no_less_one_because_its_digits_could_be_hexadecimal(self):
        assert EVERYTHING.redact_text(rb"card 411111111111\u00201111.").raw == b"card [redacted]."


class TestPathsWithoutAnEvent:
    @pytest.mark.parametrize(
        "line",
        [
            b"plain text",
            b"",
            b'{"email":"a"',
            b'{"a":1} trailing',
            b'{"a" 1}',
            b'{"email":1,"x":' + b"[" * 65 + b"]" * 65 + b"}",
            b'{"\\q":"a"}',
        ],
    )
    def test_a_line_that_is_no_json_is_given_up(self, line):
        assert by_path("context.email").redact_text(line) == GIVEN_UP

    @pytest.mark.parametrize(
        "line", [b'{"a":1,"b":["x",null,true]}', b' {"a" : {} } ', b"[]", b"{}", b"3", b'{"a":1,"a":NaN}', b'{"a":"\xff"}']
    )
    def test_json_without_the_rules_names_is_the_same_object(self, line):
        assert by_path("context.email", "actor.id").redact_text(line).raw is line

    @pytest.mark.parametrize(
        ("line", "kept"),
        [
            ('{"context":{"email":"S"}}', '{"context":{"email":"#"}}'),
            ('{"email":"S"}', '{"email":"#"}'),
            ('{"Context":{"EMAIL":"S"}}', '{"Context":{"EMAIL":"#"}}'),
            (r'{"\u0065mail":"S"}', r'{"\u0065mail":"#"}'),
            ('{"email":"a","email":"S"}', '{"email":"$a","email":"#"}'),
            ('{"email":{"home":"S"}}', '{"email":"$"}'),
            ('{"email":["S"],"x":1}', '{"email":"$","x":1}'),
            ('{"email":{"home":["S"]},"note":"S","S":[]}', '{"email":"$","note":"#","#":[]}'),
            ('{"context":"S"}', '{"context":"#"}'),
            ('{"deep":[{"event":{"context":{"email":"S"}}}]}', '{"deep":[{"event":{"context":{"email":"#"}}}]}'),
            ('{"email":"S","note":"by S, S.","S":1}', '{"email":"#","note":"by #, #.","#":1}'),
            ('{"email":"S","note":"by s%53"}'.replace("s%53", "%53"), '{"email":"#","note":"by #"}'),
        ],
    )
    def test_values_under_the_rules_names_go_and_wherever_they_stand(self, line, kept):
        secret = "SECRET-7"
        result = by_path("context.email").redact_text(
            line.replace("%53", "%53ECRET-7").replace("S", secret).replace("%5SECRET-7", "%5").encode()
        )
        assert result.raw is not None
        expected = kept.replace("$a", KEY.pseudonym("a")).replace("$", KEY.pseudonym("")).replace("#", KEY.pseudonym(secret))
        assert result.raw.decode() == expected
        assert result.names == ("raw",)

    @pytest.mark.parametrize(
        "line",
        [
            '{"actor":"SECRET-7"}',
            '{"actor":{"id":"SECRET-7"}}',
            '{"actor":{"type":"user","name":"SECRET-7"}}',
            '{"actor":{"user":{"login":["SECRET-7"]}}}',
            '{"actor":["SECRET-7"]}',
            '{"e":{"Actor":{"ID":"SECRET-7"}},"text":"secret-7 did it"}',
        ],
    )
    def test_anything_below_the_actor_is_the_actor(self, line):
        kept = by_path("actor.id").redact_text(line.encode())
        assert kept.raw is not None
        assert "secret-7" not in kept.raw.decode().lower()
        assert KEY.pseudonym("SECRET-7") in kept.raw.decode()

    def test_the_type_of_an_actor_stays(self):
        kept = by_path("actor.id", treatment=MASK).redact_text(b'{"actor":{"type":"user","id":"u-77"},"target":{"id":"t-1"}}')
        assert kept.raw == b'{"actor":{"type":"user","id":"[redacted]"},"target":{"id":"t-1"}}'

    def test_numbers_and_booleans_go_too(self):
        kept = by_path("context.pin", treatment=MASK).redact_text(b'{"pin":123456,"o":[123456,1234567],"x":{"pin":true},"y":{"pin":null}}')
        assert kept.raw == b'{"pin":"[redacted]","o":[[redacted],[redacted]7],"x":{"pin":"[redacted]"},"y":{"pin":null}}'

    def test_a_short_value_goes_only_where_it_is_a_word(self):
        kept = by_path("context.pin", treatment=MASK).redact_text(b'{"pin":"x1","o":"x1 ax1 x12 (x1)"}')
        assert kept.raw == b'{"pin":"[redacted]","o":"[redacted] ax1 x12 ([redacted])"}'

    def test_everything_in_a_context_goes_at_once(self):
        kept = by_path("context.*", treatment=MASK).redact_text(b'{"action":"a","context":{"k":"SECRET-7","l":[1]},"detail":"SECRET-7"}')
        assert kept.raw is not None
        assert kept.raw.startswith(b'{"action":"a","context":"[redacted]"')


class TestPathsWithAnEvent:
    def test_what_was_taken_out_of_the_event_goes_out_of_the_line(self):
        made = by_path("actor.id", "context.email").redact_mapping(
            mapped(email="bob@example.com"),
            rb'{"user":{"username":"alice\u0040example.com"},"mail":"BOB@example.com","q":"u=alice%40example.com&m=bob@example.com"}',
        )
        alice, bob = KEY.pseudonym(ALICE), KEY.pseudonym("bob@example.com")
        assert made.raw is not None
        assert made.raw.decode() == f'{{"user":{{"username":"{alice}"}},"mail":"{bob}","q":"u={alice}&m={bob}"}}'
        assert made.names == ("raw", "actor.id", "context.email")
        assert json.loads(made.event)["actor"]["id"] == alice

    def test_a_value_that_the_mapping_changed_gives_the_line_up(self):
        made = by_path("actor.id").redact_mapping(mapped("arn:user/alice"), b'{"user":"alice"}')
        assert made.raw is None
        assert made.names == ("raw", "actor.id")

    def test_a_line_that_is_no_json_is_given_up(self):
        made = by_path("actor.id").redact_mapping(mapped("alice"), b"Accepted password for alice from 192.0.2.1")
        assert (made.raw, made.names) == (None, ("raw", "actor.id"))

    def test_a_boolean_that_was_masked_is_found_by_its_name_or_the_line_is_given_up(self):
        redactor = by_path("context.mfa", treatment=MASK)
        assert redactor.redact_mapping(mapped(mfa=True), b'{"MFA":true}').raw == b'{"MFA":"[redacted]"}'
        assert redactor.redact_mapping(mapped(mfa=True), b'{"secondFactor":true}').raw is None

    def test_every_value_of_a_list_goes(self):
        made = by_path("context.to", treatment=MASK).redact_mapping(mapped(to=["u-100", 77001]), b'{"rcpt":["u-100","u-200",77001]}')
        assert made.raw == b'{"rcpt":["[redacted]","u-200",[redacted]]}'

    def test_patterns_apply_to_event_and_line(self):
        made = EMAIL.redact_mapping(mapped(), rb"login of alice\u0040example.com")
        assert made.raw == b"login of " + KEY.pseudonym(ALICE).encode()
        assert made.names == ("raw", "actor.id")

    def test_a_path_without_a_value_in_the_event_keeps_json(self):
        line = b'{"user":"alice"}'
        made = by_path("context.email").redact_mapping(mapped("alice"), line)
        assert made.raw is line
        assert made.names == ()

    def test_line_and_event_may_both_stay_as_they_are(self):
        line, event = b"login of alice", mapped("alice")
        made = EMAIL.redact_mapping(event, line)
        assert made.raw is line
        assert made.event is event
        assert made.names == ()

    def test_the_same_value_has_the_same_pseudonym_by_path_and_by_pattern(self):
        redactor = Redactor([PathRule.of("actor.id", HASH)], [PatternRule.of("email", HASH)], KEY)
        made = redactor.redact_mapping(mapped(note=f"by {ALICE}"), b'{"who":"alice@example.com","cc":"bob@example.com"}')
        assert json.loads(made.event)["context"]["note"] == f"by {KEY.pseudonym(ALICE)}"
        assert made.raw is not None
        assert json.loads(made.raw) == {"who": KEY.pseudonym(ALICE), "cc": KEY.pseudonym("bob@example.com")}


class TestPatternsWithAnEvent:
    """What a pattern finds in an event is found in the line, too, or the line is given up."""

    def test_a_secret_that_the_mapping_joined_gives_the_line_up(self):
        line = b"[7-2] STATEMENT: select pay('alice@exam\n[7-3] ple.com')"
        made = EMAIL.redact_mapping(mapped("u-1", statement=f"select pay('{ALICE}')"), line)
        assert (made.raw, made.names) == (None, ("raw", "context.statement"))

    def test_a_secret_that_the_mapping_decoded_gives_the_line_up(self):
        made = EMAIL.redact_mapping(mapped("u-1", mail=ALICE), base64.b64encode(ALICE.encode()))
        assert (made.raw, made.names) == (None, ("raw", "context.mail"))

    def test_a_secret_in_a_key_or_a_number_that_the_line_does_not_hold_gives_it_up_too(self):
        assert EMAIL.redact_mapping(mapped("u-1", **{ALICE: 1}), b"alice at example.com").raw is None
        assert EVERYTHING.redact_mapping(mapped("u-1", card=4111111111111111), b"4111 - 1111 - 1111 - 1111").raw is None

    def test_a_number_is_found_however_the_line_writes_it(self):
        made = EVERYTHING.redact_mapping(mapped("u-1", card=4111111111111111), b'{"card":4.111111111111111e15}')
        assert made.raw == b'{"card":[redacted]}'

    def test_what_was_found_goes_from_the_line_even_where_it_does_not_look_like_a_secret(self):
        """Beside a letter the digits are no card number; the mapping cut them out, and there they are one."""
        made = EVERYTHING.redact_mapping(mapped("u-1", card="4111111111111111"), b"number=N4111111111111111N again 4111111111111111")
        assert made.raw == b"number=N[redacted]N again [redacted]"

    def test_one_of_two_that_is_missing_is_enough(self):
        made = EMAIL.redact_mapping(mapped("u-1", a=ALICE, b="bob@example.com"), b"alice@example.com and Ym9iQGV4YW1wbGUuY29t")
        assert made.raw is None

    def test_letter_case_and_spelling_do_not_matter(self):
        line = rb'{"a":"ALICE\u0040example.com","b":"616c696365406578616d706c652e636f6d"}'
        made = EMAIL.redact_mapping(mapped("u-1", a=ALICE), line)
        assert made.raw is not None
        assert json.loads(made.raw)["a"].startswith("hmac-sha256:")
        assert json.loads(made.raw)["b"].startswith("hmac-sha256:")

    def test_a_text_with_too_many_secrets_to_name_gives_the_line_up(self):
        made = EMAIL.redact_mapping(mapped("u-1", all="a@b.co " * 1000), b"none of them")
        assert (made.raw, made.names) == (None, ("raw", "context.all"))

    def test_a_part_that_grew_too_large_to_keep_gives_the_line_up(self):
        made = by_path("context.l.*").redact_mapping(mapped("u-1", l=list(range(5000))), b"{}")
        assert (made.raw, made.names) == (None, ("raw", "context"))

    def test_with_path_rules_both_have_to_be_found(self):
        redactor = Redactor([PathRule.of("context.user", MASK)], [PatternRule.of("email", HASH)], KEY)
        event = mapped("u-1", user="secret-7", mail=ALICE)
        kept = redactor.redact_mapping(event, b'{"user":"secret-7","mail":"alice@example.com"}')
        assert kept.raw == b'{"user":"[redacted]","mail":"%b"}' % KEY.pseudonym(ALICE).encode()
        assert redactor.redact_mapping(event, b'{"user":"secret-7","mail":["alice","example.com"]}').raw is None
        assert redactor.redact_mapping(event, b'{"user":["secret","7"],"mail":"alice@example.com"}').raw is None

    def test_what_is_found_in_an_id_that_was_made_of_the_line_is_not_looked_for_in_it(self):
        digits = Redactor((), [PatternRule.of("[0-9]{4}", MASK, "digits")], KEY)
        event = mapped("u-1").replace(b"e-1", b"a1234b")
        assert digits.redact_mapping(event, b"no digits", own_id=True).raw == b"no digits"
        assert digits.redact_mapping(event, b"no digits").raw is None
