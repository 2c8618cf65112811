"""Whatever a block holds, every byte of it is in a record or passes on, in order, exactly once; and the tag decides alone."""

from __future__ import annotations

import base64
import json
import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.events import AllRule, FieldRule, PrefixRule, Rule, Validator
from agent.separator import Separated, Separator

OBSERVED = "2026-01-08T14:32:08.000000Z"
EVENT = (
    b'{"stream":"audit","event_id":"e-1","occurred_at":"2026-01-08T14:32:07Z","actor":{"type":"user","id":"u-1"},'
    b'"action":"auth.login","target":{"type":"account","id":"a-1"},"outcome":"denied"}'
)
PIECES = [
    EVENT,
    EVENT.replace(b'":', b'": ').replace(b",", b", "),
    EVENT.replace(b'"actor"', b'"actr"'),
    EVENT.replace(b"u-1", b"\xff"),
    EVENT[:-1],
    EVENT[30:],
    b'{"stream":"audit"}',
    b'{"stream":"other","stream":"audit"}',
    b'{"stream":"audit","stream":"other"}',
    rb'{"\u0073tream":"audit"}',
    rb'{"stream":"\u0061\u0075dit"}',
    rb'{"strea\u006D":"audit","a":"\ud800"}',
    b'{"a":{"stream":"audit"}}',
    b'[{"stream":"audit"}]',
    rb'{"msg":"\"stream\":\"audit\""}',
    rb'{"msg":"\u003cstream\u003e \u0061udit"}',
    b'{"stream" :\t"audit" , "n" : NaN}',
    b'{"stream":\n"audit"}',
    b'{"level":"audit","stream":"stdout"}',
    b'"stream":"audit"',
    b'"audit"',
    b'{"stream":"aud',
    b"AUDIT ",
    b"AUDIT",
    b"\xef\xbb\xbf",
    b"\x00\x00",
    b"\r",
    b" ",
    b"plain text",
    b"{",
    b"}",
    b'"',
    b"\\",
    b"\\u00",
    b"\n",
    b"\n",
    b"\n\n",
]
blocks = st.lists(
    st.one_of(st.sampled_from(PIECES), st.sampled_from([b"\n", b"\n" + EVENT + b"\n"]), st.binary(max_size=6)), max_size=40
).map(b"".join)
rules = st.sampled_from([FieldRule(), PrefixRule("AUDIT "), AllRule()])


def reads_tag(line: bytes) -> bool:
    """Decide independently whether a line is audit by its tag, with the standard library's reader."""
    text = line.decode("utf-8", "surrogateescape")
    plain = re.sub(
        r"\\u00([2-7][0-9a-fA-F])", lambda found: character if (character := chr(int(found[1], 16))) not in '"\\' else found[0], text
    )
    if not re.search(r'"stream"[ \t\r\f\v]*:[ \t\r\f\v]*"audit"', plain):
        return False
    tops: list[list[tuple[str, object]]] = []

    def remember(pairs: list[tuple[str, object]]) -> int:
        tops.append(pairs)
        return len(tops)

    try:
        root = json.loads(line.decode("utf-8"), object_pairs_hook=remember, strict=False)
    except ValueError:
        return True
    return type(root) is int and root == len(tops) and ("stream", "audit") in tops[-1]


def is_audit(line: bytes, rule: Rule) -> bool:
    if isinstance(rule, FieldRule):
        return reads_tag(line)
    if isinstance(rule, PrefixRule):
        return re.match(rb"[\x00\xef\xbb\xbf]*AUDIT ", line) is not None
    return bool(line.strip())


def exact_bytes(body: bytes, rule: Rule) -> bytes:
    """Take a line's own bytes out of a record body, from its text rather than from the program's knowledge."""
    record = json.loads((b'{"seq":0' + body).decode("utf-8"))
    if record["kind"] == "event":
        begin = body.index(b'"event":') + len(b'"event":')
        return (b"AUDIT " if isinstance(rule, PrefixRule) else b"") + body[begin:-1]
    return base64.b64decode(record["raw_base64"]) if "raw_base64" in record else str(record["raw"]).encode("utf-8")


def separate(block: bytes, rule: Rule, offset: int = 0) -> Separated:
    return Separator("app", rule, Validator(rule), keep_observability=True, has_offsets=True).separate(block, offset, OBSERVED)


@settings(max_examples=500, deadline=None)
@given(blocks, rules, st.integers(0, 2**40))
@example(b"\n".join(PIECES), FieldRule(), 0)
@example(b"\n".join(PIECES) + b"\n", AllRule(), 0)
@example(b"AUDIT " + b"\nAUDIT ".join(PIECES), PrefixRule("AUDIT "), 0)
def test_every_byte_is_in_a_record_or_passes_on(block: bytes, rule: Rule, offset: int) -> None:
    result = separate(block, rule, offset)
    lines = [part for part in re.split(rb"(?<=\n)", block) if part]
    audit = [line for line in lines if is_audit(line.removesuffix(b"\n"), rule)]
    rest = [line for line in lines if not is_audit(line.removesuffix(b"\n"), rule)]
    bodies = result.bodies.split(b"\n")
    assert bodies.pop() == b""
    assert [exact_bytes(body, rule) for body in bodies] == [line.removesuffix(b"\n") for line in audit]
    assert result.observability == b"".join(rest)
    assert (result.lines, result.records, result.observability_lines) == (len(lines), len(audit), len(rest))
    assert result.events + result.quarantined == result.records
    assert sum(result.reasons.values()) == result.quarantined
    assert sum(result.outcomes.values()) == result.events
    for body in bodies:
        start, length = json.loads(b'{"seq":0' + body)["at"]
        assert block[start - offset : start - offset + length] == exact_bytes(body, rule)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from([piece for piece in PIECES if b"\n" not in piece]), max_size=30), rules, st.data())
def test_the_cut_between_blocks_changes_nothing(lines: list[bytes], rule: Rule, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(lines)))
    first, second = (b"".join(line + b"\n" for line in part) for part in (lines[:at], lines[at:]))
    whole, head, tail = separate(first + second, rule), separate(first, rule), separate(second, rule, len(first))
    assert whole.bodies == head.bodies + tail.bodies
    assert whole.observability == head.observability + tail.observability
    assert whole.lines == head.lines + tail.lines


@settings(max_examples=300, deadline=None)
@given(
    st.text(st.sampled_from("streamud"), min_size=1, max_size=3), st.lists(st.sampled_from("xXp"), min_size=12, max_size=12), st.booleans()
)
def test_every_spelling_of_the_tag_is_found(value: str, forms: list[str], last: bool) -> None:
    choice = iter(forms)

    def spell(word: str) -> str:
        return "".join(character if (form := next(choice)) == "p" else f"\\u{ord(character):04{form}}" for character in word)

    members = [f'"{spell("stream")}":"{spell(value)}"', '"b":1']
    line = ("{" + ",".join(members[::-1] if last else members) + "}").encode()
    rule = FieldRule("stream", value)
    assert rule.is_audit(line)
    assert rule.candidates(b"x\n" + line + b"\ny\n") == [(2, 2 + len(line))]
