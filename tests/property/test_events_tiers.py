"""Any line, however it was bent, is read alike by both tiers and by a reader written only for this test."""

from __future__ import annotations

import json
import math
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from agent.events import Accepted, AllRule, Catalog, FieldRule, Rejection, Validator

if TYPE_CHECKING:
    import random

REQUIRED = {"role.grant": ["granted_role"], "config.change": ["change.old", "change.new"]}
CATALOG = Catalog.from_mapping(
    {
        "format": 1,
        "actions": {name: {"category": "security", "sensitivity": "low", "required_context": keys} for name, keys in REQUIRED.items()},
    },
    "c.yaml",
)
VALIDATOR = Validator(FieldRule(), CATALOG)

texts = st.one_of(
    st.sampled_from(
        ["admin", "audit", "stream", '"stream":"audit"', "{", "}", "null", "a\\b", "/x", "\u2028", "ü", "😀", "\x7f", "\x1f", " "]
    ),
    st.text(alphabet=st.characters(codec="utf-8"), max_size=8),
)
keys = st.one_of(st.sampled_from(["granted_role", "Granted_Role", "change", "old", "new", "ip", "IP", "k", "\N{KELVIN SIGN}"]), texts)
numbers = st.one_of(
    st.integers(-(2**54), 2**54),
    st.sampled_from([2**53 - 1, 2**53, -(2**53), 2**63, 2**64, 10**30]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, -0.0, 1e22, 1e-7, 5e-324]),
)
scalars = st.one_of(texts, numbers, st.booleans(), st.none())
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=8)
contexts = st.one_of(
    st.dictionaries(keys, scalars, max_size=5),
    st.dictionaries(keys, values, max_size=4),
    st.fixed_dictionaries({"granted_role": scalars}),
    st.fixed_dictionaries({"change": st.fixed_dictionaries({"old": scalars}, optional={"new": scalars})}),
)
names = st.one_of(st.sampled_from(["u-1", "x", "é" * 512, "n" * 513, ""]), texts)
times = st.one_of(
    st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(lambda moment: moment.isoformat() + "Z"),  # noqa: DTZ001 - the zone is written by hand
    st.from_regex(
        r"[0-9]{4}-[01][0-9]-[0-3][0-9][Tt ][0-2][0-9]:[0-5][0-9]:[0-6][0-9](\.[0-9]{1,11})?(Z|z|[+-]0[01]:?00|)", fullmatch=True
    ),
    st.sampled_from(["2026-01-08T14:32:07.1234567891Z", "2026-01-08T14:32:07Z", "2026-01-08T14:32:07+00:00"]),
)
good_times = st.sampled_from(["2026-01-08T14:32:07.123456Z", "2026-01-08T14:32:07+00:00"])
events = st.fixed_dictionaries(
    {
        "stream": st.just("audit"),
        "event_id": st.sampled_from(["e-1", "e" * 128]),
        "occurred_at": good_times,
        "actor": st.fixed_dictionaries({"type": st.just("user"), "id": st.just("u-1")}, optional={"session": st.sampled_from(["s", None])}),
        "action": st.sampled_from(["auth.login", *REQUIRED]),
        "target": st.just({"type": "account", "id": "a"}),
        "outcome": st.sampled_from(["success", "failure", "denied", "unknown"]),
    },
    optional={"context": contexts},
)


@st.composite
def damaged_events(draw: st.DrawFn) -> dict[str, object]:
    """Bend a valid event in one or two fields."""
    value: dict[str, object] = dict(draw(events))
    for _ in range(draw(st.integers(0, 2))):
        field = draw(st.sampled_from([*value, "extra", "Actor", "context"]))
        change = draw(st.sampled_from(["drop", "value", "name", "time", "inner"]))
        if change == "drop":
            value.pop(field, None)
        elif change == "time":
            value["occurred_at"] = draw(times)
        elif change == "inner" and isinstance(value.get("actor"), dict):
            value["actor"] = {**value["actor"], draw(st.sampled_from(["id", "type", "session", "ID"])): draw(names | scalars)}  # type: ignore[dict-item]
        else:
            value[field] = draw(names) if change == "name" else draw(values)
    return value


def write(value: object, rng: random.Random, *, mess: bool) -> str:
    """Write JSON with any key order, white space, escapes and, where messy, duplicate keys and odd numbers."""
    gap = rng.choice(["", " ", "\t", "\r", "  "]) if mess and rng.random() < 0.1 else ""
    if isinstance(value, dict):
        members = list(value.items())
        if mess and rng.random() < 0.3:
            rng.shuffle(members)
        if mess and members and rng.random() < 0.05:
            members.insert(rng.randrange(len(members) + 1), rng.choice(members))
        if mess and members and rng.random() < 0.05:
            key, member = rng.choice(members)
            members.append((key.swapcase(), member))
        inside = ("," + gap).join(f"{string(key, rng, mess=mess)}{gap}:{gap}{write(member, rng, mess=mess)}" for key, member in members)
        return f"{{{gap}{inside}{gap}}}"
    if isinstance(value, list):
        return "[" + ",".join(write(member, rng, mess=mess) for member in value) + "]"
    if isinstance(value, str):
        return string(value, rng, mess=mess)
    if mess and isinstance(value, (int, float)) and not isinstance(value, bool) and rng.random() < 0.2:
        return rng.choice(["1e5", "1E400", "-0", "1.0", "01", "1e-400", "9" * 30, "9007199254740993.0", "+1", "NaN", "0.10"])
    return json.dumps(value)


def string(value: str, rng: random.Random, *, mess: bool) -> str:
    """Write a string, escaping characters at random."""
    if not mess or rng.random() < 0.5:
        return json.dumps(value, ensure_ascii=rng.random() < 0.5)
    out = []
    for character in value:
        plain = json.dumps(character, ensure_ascii=False)[1:-1]
        form = rng.random()
        if form < 0.2 and ord(character) < 0x10000:
            plain = f"\\u{ord(character):04{rng.choice('xX')}}"
        elif form < 0.25 and character == "/":
            plain = "\\/"
        elif form < 0.27:
            plain += rng.choice(["\\u0000", "\\ud800", "\\u00e9", "\\ud83d\\ude00", "\\\\u0041", "\\x", "\x01"])
        out.append(plain)
    return '"' + "".join(out) + '"'


def bend(line: bytes, rng: random.Random) -> bytes:
    """Damage bytes: cut, repeat, flip, prepend."""
    kind = rng.randrange(9)
    at = rng.randrange(len(line) + 1)
    if kind == 0:
        return line[:at]
    if kind == 1:
        return line[:at] + bytes((rng.randrange(256),)) + line[at:]
    if kind == 2:
        return line[:at] + bytes((rng.randrange(256),)) + line[at + 1 :]
    if kind == 3:
        return rng.choice([b"\xef\xbb\xbf", b"\x00", b" ", b"\xff\xfe", b"x"]) + line
    if kind == 4:
        return line + rng.choice([b"\r", b" ", b"\x00", line, b"," + line, b"]", b"}"])
    return line


class OracleError(Exception):
    """The oracle's only verdict besides acceptance."""


def refuse(condition: object) -> None:
    if condition:
        raise OracleError


def unlike_pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    refuse(len({key.casefold() for key, _ in pairs}) != len(pairs))
    return dict(pairs)


def walk(value: object, depth: int) -> None:
    if isinstance(value, str):
        refuse("\0" in value or any(0xD800 <= ord(character) <= 0xDFFF for character in value))
    elif isinstance(value, (int, float)):
        refuse(not math.isfinite(value) or (isinstance(value, int) and abs(value) > 2**53 - 1))
    elif isinstance(value, (dict, list)):
        refuse(depth > 32)
        for member in value:
            walk(member, depth + 1)
        for member in value.values() if isinstance(value, dict) else ():
            walk(member, depth + 1)


def moment_of(text: object) -> datetime:
    written = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.[0-9]{1,9})?(?:Z|\+00:00)", text if isinstance(text, str) else "", re.ASCII)
    if written is None:
        raise OracleError
    return datetime.fromisoformat(written[1] + "+00:00") + timedelta(microseconds=round(float("0" + (written[2] or ".0")) * 10**6))


def context_path(context: object, path: str) -> object:
    for key in path.split("."):
        context = context.get(key) if isinstance(context, dict) else None
    return context


def oracle(line: bytes) -> tuple[datetime, str, str] | None:
    """Judge a line independently: the standard library's reader, then plain conditions. None is quarantine."""
    try:
        root = json.loads(line.decode("utf-8"), object_pairs_hook=unlike_pairs)
        walk(root, 1)
        refuse(not isinstance(root, dict))
        context = root.pop("context", {})
        refuse(set(root) != {"stream", "event_id", "occurred_at", "actor", "action", "target", "outcome"})
        actor, target = root["actor"], root["target"]
        refuse(not all(isinstance(each, dict) for each in (actor, target, context)))
        refuse(actor.get("session") is not None and not named(actor["session"]))
        refuse(set(actor) - {"session"} != {"type", "id"} or set(target) != {"type", "id"})
        refuse(not all(map(named, (actor["type"], actor["id"], target["type"], target["id"], root["action"]))))
        refuse(not named(root["event_id"], 128) or root["stream"] != "audit")
        refuse(root["outcome"] not in ("success", "failure", "denied", "unknown"))
        moment = moment_of(root["occurred_at"])
        refuse(any(context_path(context, path) is None for path in REQUIRED.get(root["action"], [])))
    except (OracleError, ValueError, RecursionError, OverflowError):
        return None
    return moment, root["action"], root["outcome"]


def named(value: object, longest: int = 512) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= longest


def check_line(line: bytes) -> None:
    expected = oracle(line)
    verdict = VALIDATOR.judge_line(line)
    if expected is None:
        assert isinstance(verdict, Rejection), line
    else:
        assert isinstance(verdict, Accepted), (line, verdict)
        assert (verdict.action, verdict.outcome) == expected[1:]
        assert abs(verdict.occurred_at - expected[0]) <= timedelta(microseconds=1)


def check_together(lines: list[bytes]) -> None:
    verdicts = [VALIDATOR.judge_line(line) for line in lines]
    summary = VALIDATOR.judge_lines(lines)
    assert summary.rejected == {index: verdict for index, verdict in enumerate(verdicts) if isinstance(verdict, Rejection)}
    accepted = [verdict for verdict in verdicts if isinstance(verdict, Accepted)]
    assert summary.accepted == len(accepted) == sum(summary.outcomes.values())
    assert summary.occurred_min == min((verdict.occurred_at for verdict in accepted), default=None)
    assert summary.occurred_max == max((verdict.occurred_at for verdict in accepted), default=None)


@settings(max_examples=600, deadline=None)
@given(damaged_events(), st.randoms(use_true_random=False), st.booleans(), st.booleans())
def test_both_tiers_agree_with_the_oracle_on_bent_events(value: dict[str, object], rng: random.Random, mess: bool, damage: bool) -> None:
    line = write(value, rng, mess=mess).encode("utf-8", "surrogatepass").replace(b"\n", b" ")
    if damage:
        line = bend(line, rng).replace(b"\n", b" ")
    event("accepted" if oracle(line) else "quarantined")
    check_line(line)
    check_together([line])


@settings(max_examples=80, deadline=None)
@given(st.lists(damaged_events(), max_size=30), st.randoms(use_true_random=False), st.booleans())
def test_many_bent_lines_are_judged_as_each_alone(values: list[dict[str, object]], rng: random.Random, mess: bool) -> None:
    lines = [write(value, rng, mess=mess).encode("utf-8", "surrogatepass").replace(b"\n", b" ") for value in values]
    check_together([bend(line, rng).replace(b"\n", b" ") if rng.random() < 0.1 else line for line in lines])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
@example(b'"\\')
def test_any_bytes_get_an_answer(line: bytes) -> None:
    line = line.replace(b"\n", b"")
    for validator in (VALIDATOR, Validator(AllRule())):
        assert isinstance(validator.judge_line(line), Rejection)
        assert set(validator.judge_lines([line]).rejected) == {0}
