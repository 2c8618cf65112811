"""What comes out of the envelopes of container runtimes, odd ones included, and what waits."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from agent.events.classify import AllRule, FieldRule, PrefixRule
from agent.sources.container.envelope import ContainerEnvelope
from agent.sources.container.formats import bare, full_until, unwrap_full, unwrap_line
from agent.sources.container.origin import read_names
from agent.sources.envelope import Ending
from agent.sources.lines import Overlong, Passed, Whole
from tests.support.container_logs import CONTAINER_ID, UID, envelope, pieces

if TYPE_CHECKING:
    from agent.events.classify import Rule
    from agent.sources.envelope import Rest, Taken

TAGGED = b'{"stream":"audit","x":"' + b"y" * 80


def wrap(rule: Rule | None = None, limit: int = 1000, **options: Any) -> ContainerEnvelope:
    return ContainerEnvelope({"pod": "p"}, (rule or FieldRule()).is_audit, limit, 10, **options)


def take(raw: bytes, *, ending: Ending = Ending.WAIT, token: str = "", before: Rest | None = None, start: int = 0, **options: Any) -> Taken:
    return wrap(**options).take([Whole(start, raw)] if raw else [], start, token, before, ending)


def lines(taken: Taken) -> list[bytes]:
    """Return the lines that came out, however they did."""
    out: list[bytes] = []
    for piece in taken.pieces:
        out += [b"TOO LONG"] if isinstance(piece, Overlong) else piece.data.splitlines()
    return out


def located(taken: Taken) -> list[tuple[tuple[int, int], bytes]]:
    """Return where each line that came out lies, and what its record says of the container."""
    found: list[tuple[tuple[int, int], bytes]] = []
    for piece in taken.pieces:
        if isinstance(piece, Overlong):
            found.append(((piece.offset, piece.extent or 0), piece.member))
        elif isinstance(piece, Whole):
            assert piece.places is not None
            found += zip(*piece.places.of(AllRule().candidates(piece.data)), strict=True)
    return found


def placed(taken: Taken) -> list[tuple[int, int]]:
    return [at for at, _ in located(taken)]


def whose(taken: Taken) -> list[bytes]:
    return [member for _, member in located(taken)]


@pytest.mark.parametrize(
    ("raw", "content", "partial"),
    [
        (b"2016-10-06T00:17:09.669794202Z stdout F The content", b"The content", False),
        (b"2016-10-06T00:17:09.669794202Z stderr P part", b"part", True),
        (b"2016-10-06T00:17:09Z stdout F ", b"", False),
        (b"2016-10-06T00:17:09.1+02:00 stdout P:tag:other  two", b" two", True),
        (b"2016-10-06T00:17:09.1-07:30 stdout F:x \xff\x00\r", b"\xff\x00\r", False),
        (b'{"log":"a \\"b\\"\\n","stream":"stderr","time":"2016-10-06T00:17:09Z"}', b'a "b"', False),
        (b'{"log":"a","stream":"stdout","time":"x","attrs":{"k":"v"}}', b"a", True),
        (b'{"log":"\\u20ac\\r\\n","stream":"stdout","time":"x"}', "€\r".encode(), False),
    ],
)
def test_an_envelope_is_taken_off_and_nothing_else(raw: bytes, content: bytes, partial: bool):
    found = unwrap_line(raw)
    assert found is not None
    assert (found.content, found.partial) == (content, partial)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"plain text",
        b"2016-10-06T00:17:09Z stdout F",
        b"2016-10-06T00:17:09Z stdout X content",
        b"2016-10-06T00:17:09Z stdin F content",
        b"2016-10-06 00:17:09Z stdout F content",
        b" 2016-10-06T00:17:09Z stdout F content",
        b"\x002016-10-06T00:17:09Z stdout F content",
        b"{",
        b'{"stream":"audit","event_id":"e1"}',
        b'{"log":"a\\n","stream":"stdin","time":"x"}',
        b'{"log":"a\\nb\\n","stream":"stdout","time":"x"}',
        b'{"log":1,"stream":"stdout","time":"x"}',
        b'{"log":"\\ud800\\n","stream":"stdout","time":"x"}',
        b'{"log":"\xff\\n","stream":"stdout","time":"x"}',
        b'{"log":' + b"[" * 100_000,
    ],
)
def test_what_is_no_envelope_is_said_to_be_none_and_comes_out_as_it_stands(raw: bytes):
    assert unwrap_line(raw) is None
    taken = take(envelope(b"before") + raw + b"\n" + envelope(b"behind"))
    assert b"\n".join(lines(taken)) == b"before\n" + raw + b"\nbehind"
    assert taken.odd == 1


@pytest.mark.parametrize("form", ["cri", "json"])
def test_full_lines_are_taken_in_bulk_as_they_are_one_by_one(form: Any):
    raw = b"".join(envelope(b"line %d" % n, "stderr" if n % 3 else "stdout", form=form) for n in range(20))
    bulk = unwrap_full(raw)
    assert bulk is not None
    assert bulk.data == b"".join(b"line %d\n" % n for n in range(20))
    in_bulk, one_by_one = take(raw), take(raw, in_bulk=False)
    assert lines(in_bulk) == lines(one_by_one)
    assert placed(in_bulk) == placed(one_by_one)
    for at, line in zip(placed(in_bulk), raw.splitlines(), strict=True):
        assert raw[at[0] : sum(at)] == line
    members = [whose(taken) for taken in (in_bulk, one_by_one)]
    assert members[0] == members[1]
    assert json.loads(b"{" + members[0][1].rstrip(b",") + b"}") == {"container": {"pod": "p", "stream": "stderr"}}


def test_the_first_line_that_is_not_full_is_found():
    full, piece = envelope(b"x"), envelope(b"x", partial=True)
    assert full_until(full + full, 0) == 2 * len(full)
    assert full_until(full + piece + full, 0) == len(full)
    assert full_until(piece + full, 0) == 0
    assert full_until(full + b"\n" + full, len(full)) == len(full)
    assert full_until(full + piece + full, len(full + piece)) == len(full + piece + full)


def test_pieces_are_joined_for_each_stream_by_itself():
    raw = [
        envelope(b"ou", "stdout", partial=True),
        envelope(b"er", "stderr", partial=True),
        envelope(b"t\xc3", "stdout", partial=True),
        envelope(b"r", "stderr"),
        envelope(b"between", "stderr"),
        envelope(b"\xbc", "stdout"),
    ]
    taken = take(b"".join(raw))
    assert lines(taken) == [b"err", b"between", b"out\xc3\xbc"]
    starts = [sum(map(len, raw[:n])) for n in range(len(raw))]
    assert [start for start, _ in placed(taken)] == [starts[3], starts[4], starts[5]]
    assert taken.settled == sum(map(len, raw))
    assert taken.rest is None


def test_a_line_that_is_joined_lies_where_its_pieces_lie_in_a_row():
    raw = b"".join(pieces(b"abcdef", 2))
    taken = take(raw, start=500)
    assert lines(taken) == [b"abcdef"]
    assert placed(taken) == [(500, len(raw) - 1)]


def test_everything_waits_behind_an_unfinished_line():
    first = envelope(b"first")
    raw = first + envelope(b"un", partial=True) + envelope(b"error", "stderr")
    taken = take(raw)
    assert lines(taken) == [b"first"]
    assert taken.settled == len(first)
    assert taken.rest is not None
    assert taken.rest.begun["stdout"].content == (b"un",)
    assert [piece.data for piece in taken.rest.waiting if isinstance(piece, Whole)] == [b"error\n"]


def test_a_line_goes_on_in_the_next_file():
    before = take(envelope(b"un", partial=True) + envelope(b"error", "stderr")).rest
    nothing = take(envelope(b"other", "stderr"), before=before)
    assert (nothing.pieces, nothing.settled) == ((), 0)
    taken = take(envelope(b"fin", partial=True) + envelope(b"ished"), before=nothing.rest)
    assert lines(taken) == [b"unfinished"]
    assert placed(taken)[0][0] == 0


def test_at_the_end_of_everything_what_there_is_counts_as_a_line():
    raw = envelope(b"un", partial=True) + envelope(b"error", "stderr")
    taken = take(raw, ending=Ending.FINAL)
    assert lines(taken) == [b"un", b"error"]
    assert placed(taken) == sorted(placed(taken))
    assert (taken.settled, taken.rest, taken.token) == (len(raw), None, "")


def test_a_line_over_the_limit_is_stated_with_its_length_and_hash():
    line = TAGGED + b"z" * 2000
    taken = take(b"".join(pieces(line, 300)))
    (stated,) = taken.pieces
    assert isinstance(stated, Overlong)
    assert (stated.length, stated.sha256, stated.head) == (len(line), hashlib.sha256(line).hexdigest(), line[:10])
    other = b"o" * 2000
    assert take(b"".join(pieces(other, 300))).pieces == (Passed(0, other + b"\n", last=True),)


def test_a_line_that_is_cut_comes_out_in_parts_and_stays_audit_until_its_end():
    first = envelope(TAGGED, partial=True) + envelope(b"error", "stderr")
    cut = take(first, ending=Ending.CUT)
    assert lines(cut) == [b"TOO LONG", b"error"]
    assert cut.settled == len(first)
    assert cut.token == "+stdout"
    rest = take(
        envelope(b"no tag", partial=True) + envelope(b" here") + envelope(b"next") + envelope(b"more", "stderr"), token=cut.token, start=900
    )
    assert lines(rest) == [b"TOO LONG", b"next", b"more"]
    assert isinstance(rest.pieces[0], Overlong)
    assert rest.pieces[0].head == b"no tag here"
    assert (rest.token, rest.rest) == ("", None)


def test_a_line_that_was_cut_before_its_tag_is_not_passed_on_where_the_tag_stands():
    cut = take(envelope(b'{"a":1,', partial=True), ending=Ending.CUT)
    assert lines(cut) == [b'{"a":1,']
    rest = take(envelope(b'"stream":"audit"}'), token=cut.token)
    assert lines(rest) == [b"TOO LONG"]


def test_a_file_hands_a_cut_line_to_its_successor():
    cut = take(envelope(TAGGED, partial=True), ending=Ending.CUT)
    assert cut.rest is not None
    taken = take(envelope(b"tail") + envelope(b"next"), before=cut.rest)
    assert lines(taken) == [b"TOO LONG", b"next"]
    assert taken.token == ""


def test_the_beginning_of_a_raw_line_that_is_too_long_can_be_judged():
    assert FieldRule().is_audit(bare(envelope(TAGGED)[:-1]))
    assert FieldRule().is_audit(bare(envelope(TAGGED, form="json")[:-1]))
    assert PrefixRule("AUDIT ").is_audit(bare(envelope(b"AUDIT {}")))
    assert not FieldRule().is_audit(bare(b"nothing"))


def test_names_say_whose_log_it_is():
    pods = f"/var/log/pods/shop_web-1_{UID}/app/3.log"
    assert read_names([pods]) == {"namespace": "shop", "pod": "web-1", "uid": UID, "container": "app", "restart_count": 3}
    link = f"/var/log/containers/web-1_shop_my-app-{CONTAINER_ID}.log"
    assert read_names([link]) == {"namespace": "shop", "pod": "web-1", "container": "my-app", "id": CONTAINER_ID}
    assert read_names([f"/var/lib/docker/containers/{CONTAINER_ID}/{CONTAINER_ID}-json.log"]) == {"id": CONTAINER_ID}
    assert list(read_names([link, pods])) == ["namespace", "pod", "uid", "container", "restart_count", "id"]
    assert read_names(["/var/log/app.log", "/pods/a_b/app/0.log", f"{pods}.20260108-000001"]) == {}
