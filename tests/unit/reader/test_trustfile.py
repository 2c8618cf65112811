from __future__ import annotations

import pytest

from agent.errors import ConfigError
from agent.reader.fetch import MemoryReader
from agent.reader.trustfile import TrustFile, fingerprint, matches_origin, trust_lines
from agent.trail.layout import seal_key
from agent.trail.note import SigningKey, VerifierKey
from tests.support.trail_factory import TrailFactory

KEY = SigningKey.from_seed("somebody", bytes(32)).verifier
ORIGIN = "demo/payments/01kef0b7s2my9qps5rsajry0vj/web-1"


def test_comments_and_blank_lines_are_allowed():
    text = f"# whom to believe\n\n  demo/*/*/* {KEY}  # the owner said so\n"
    assert TrustFile.parse(text, "t").keys_for(ORIGIN) == (KEY,)


def test_a_key_counts_only_where_its_pattern_matches():
    trust = TrustFile.parse(f"demo/orders/*/* {KEY}\n", "t")
    assert trust.keys_for(ORIGIN) == ()


def test_a_key_bound_twice_is_one_key():
    assert TrustFile.parse(f"demo/*/*/* {KEY}\n{ORIGIN} {KEY}\n", "t").keys_for(ORIGIN) == (KEY,)


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [(ORIGIN, True), ("*/*/*/*", True), ("demo/pay*/*/web-[0-9]", True), ("*", False), ("*/*/*", False), ("Demo/*/*/*", False)],
)
def test_stars_do_not_cross_slashes(pattern, matches):
    assert matches_origin(pattern, ORIGIN) is matches


@pytest.mark.parametrize(
    "line",
    [
        f"demo {KEY}",
        f"demo/payments//* {KEY}",
        "demo/*/*/*",
        f"demo/*/*/* {KEY} more",
        f"demo/*/*/* {str(KEY)[:-4]}AAA=",
        "demo/*/*/* somebody+00000000+AA==",
    ],
)
def test_a_line_of_another_form_is_an_error_with_file_and_line(line):
    with pytest.raises(ConfigError, match=r"^trust\.txt:2: ") as caught:
        TrustFile.parse(f"# first\n{line}\n", "trust.txt")
    assert caught.value.exit_code == 2


def test_a_file_that_is_not_text_is_an_error(tmp_path):
    (tmp_path / "trust").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        TrustFile.load(tmp_path / "trust")


def test_the_printed_lines_name_every_key_with_a_fingerprint_and_parse_back():
    enrolment = SigningKey.from_seed("demo/payments", bytes(range(32)))
    trail = TrailFactory(enrolment=enrolment)
    broken = TrailFactory(seed=b"broken", instance="web-2")
    broken.heartbeat()
    del broken.objects[seal_key(broken.origin, 0)]
    spoiled = TrailFactory(seed=b"spoiled", instance="web-3")
    spoiled.objects[seal_key(spoiled.origin, 0)] = b"?"
    lines = list(trust_lines(MemoryReader(trail.objects | broken.objects | spoiled.objects)))
    text = "\n".join(lines)
    assert TrustFile.parse(text, "t").keys_for(str(trail.origin)) == (VerifierKey.parse(trail.vkey),)
    assert fingerprint(trail.signer.verifier) in text
    assert enrolment.verifier.key_id.hex() in text
    assert f"# {broken.origin}: the first seal is missing" in text
    assert f"# {spoiled.origin}: " in text
