"""Every kind of malformed line, audit-tagged and not, over a pipe and a file: kept byte for byte or passed on, and the agent lives.

The kinds follow those of the public JSON parsing test suites (y_ must be accepted, n_ must be refused, i_ is the parser's choice);
the lines are our own.
"""

from __future__ import annotations

import base64
import hashlib
import subprocess
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support.agent_process import Site

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

EVENT: Final = (
    b'"event_id":"%s","occurred_at":"2026-01-08T14:32:07Z","actor":{"type":"user","id":"ada"},"action":"data.export",'
    b'"target":{"type":"file","id":"f"},"outcome":"success","context":{"x":%s}}'
)
DEEP: Final = 10_000

# Each makes the value of one context field.
VALUES: Final = {
    "y_plain": b'"plain"',
    "y_escapes": rb'"\"\\\/\b\f\n\r\t\u00e9"',
    "y_surrogate_pair": rb'"\ud83d\ude00"',
    "y_line_separators": '"\u2028\u2029\u0085"'.encode(),
    "y_empty_containers": b'[{},[],""]',
    "y_crlf_after_the_line": b'"crlf"',
    "i_invalid_utf8": b'"\xff\xfe"',
    "i_overlong_utf8": b'"\xc0\xaf"',
    "i_utf8_surrogate": b'"\xed\xa0\x80"',
    "i_lone_high_surrogate": rb'"\ud800"',
    "i_lone_low_surrogate": rb'"\udc00 tail"',
    "i_escaped_nul": rb'"\u0000"',
    "i_raw_nul": b'"\x00"',
    "i_huge_exponent": b"1e400",
    "i_tiny_exponent": b"1e-400",
    "i_huge_integer": b"9" * 400,
    "i_deep_arrays": b"[" * DEEP + b"]" * DEEP,
    "i_deep_objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "i_duplicate_key": b'{"k":1,"k":2}',
    "i_duplicate_by_case": b'{"k":1,"K":2}',
    "n_unclosed_array": b"[" * DEEP,
    "n_nan": b"NaN",
    "n_infinity": b"-Infinity",
    "n_leading_zero": b"012",
    "n_plus": b"+1",
    "n_hexadecimal": b"0x1F",
    "n_single_quotes": b"'x'",
    "n_trailing_comma": b"[1,]",
    "n_comment": b"1 /* no */",
    "n_bad_escape": rb'"\x41"',
    "n_short_unicode_escape": rb'"\u12"',
    "n_raw_tab": b'"\t"',
    "n_raw_carriage_return": b'"a\rb"',
    "n_unterminated_string": b'"abc',
    "n_nothing": b"",
}
BEFORE: Final = {
    "y_crlf_after_the_line": (b"", b"\r"),
    "i_bom": (b"\xef\xbb\xbf", b""),
    "n_utf16_bom": (b"\xff\xfe", b""),
    "n_garbage": (b"", b"]]"),
}


def cases(*, audit: bool) -> dict[str, bytes]:
    """Return one line of every kind, without its newline."""
    made = {}
    for name in [*VALUES, *(name for name in BEFORE if name not in VALUES)]:
        before, after = BEFORE.get(name, (b"", b""))
        tag = b'"stream":"audit",' if audit else b'"stream":"debug",'
        made[name] = before + b"{" + tag + EVENT % (name.encode(), VALUES.get(name, b"1")) + after
    return made


def original(record: dict[str, Any]) -> bytes:
    """Return the exact line that a quarantine record keeps."""
    return base64.b64decode(record["raw_base64"]) if "raw_base64" in record else record["raw"].encode()


def run(site: Site, data: bytes, source: str) -> bytes:
    """Bring bytes in through a pipe or a file, to their end; return what passed through."""
    if source == "pipe":
        with site.run("pipe", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as agent:
            out, _ = agent.process.communicate(data, timeout=50)
            assert agent.process.returncode == 0, agent.log
        assert "the worker ended" not in agent.log
        return bytes(out)
    site.log.write_bytes(data)
    path = site.folder / "out"
    with path.open("wb") as stdout, site.run(stdout=stdout) as agent:
        site.wait_drained(len(data))
        assert agent.stop() == 0, agent.log
    return path.read_bytes()


def site_for(folder: Path, source: str) -> Site:
    return Site(folder, observability="stdout", **({"sources": None} if source == "pipe" else {}))


@pytest.mark.parametrize("source", ["pipe", "file"])
def test_every_kind_of_audit_line_is_in_the_trail_byte_for_byte(tmp_path: Path, source: str) -> None:
    site, lines = site_for(tmp_path, source), cases(audit=True)
    passed = run(site, b"".join(line + b"\n" for line in lines.values()), source)
    assert passed == b""
    kept = {line: name for name, line in lines.items()}
    quarantined = {kept.pop(original(record)): record["reason"] for record in site.trails.kind("quarantine")}
    events = {event["event_id"] for event in site.trails.events()}
    assert set(kept.values()) == events
    # Every line is where it belongs: what a parser must refuse is never an event.
    assert {name for name in lines if name.startswith("n_")} <= set(quarantined)
    assert {name for name in lines if name.startswith("y_")} - {"y_crlf_after_the_line"} <= events
    for name, reason in {
        "i_invalid_utf8": "invalid_utf8",
        "i_lone_high_surrogate": "invalid_unicode",
        "i_escaped_nul": "invalid_unicode",
        "i_huge_exponent": "number_out_of_range",
        "i_duplicate_key": "duplicate_key",
        "i_deep_arrays": "too_deep",
    }.items():
        assert quarantined[name] == reason
    verdict = site.verify()
    assert verdict.code == 0, verdict.findings()


@pytest.mark.parametrize("source", ["pipe", "file"])
def test_every_kind_of_other_line_passes_through_byte_for_byte(tmp_path: Path, source: str) -> None:
    site, lines = site_for(tmp_path, source), cases(audit=False)
    data = b"".join(line + b"\n" for line in lines.values()) + b"\xff\x00\r\n\n \n" + bytes(range(256)).replace(b"\n", b"")
    passed = run(site, data + b"\n", source)
    assert passed == data + b"\n"
    assert site.trails.records() == []
    assert site.verify().code == 0


@pytest.mark.parametrize("audit", [True, False])
@pytest.mark.parametrize("source", ["pipe", "file"])
def test_a_line_of_fifty_mebibytes_is_quarantined_by_its_hash_or_passes_through(tmp_path: Path, source: str, *, audit: bool) -> None:
    site = site_for(tmp_path, source)
    tag = b"audit" if audit else b"debug"
    head = b'{"stream":"%s",' % tag
    line = head + b'"context":"' + b"0123456789abcdef" * (50 << 16) + b'"}'
    after = b'{"stream":"audit",' + EVENT % (b"after", b"1")
    passed = run(site, line + b"\n" + after + b"\n", source)
    assert [event["event_id"] for event in site.trails.events()] == ["after"]
    records = site.trails.kind("quarantine")
    if audit:
        (record,) = records
        assert (record["reason"], record["length"], record["sha256"]) == ("too_long", len(line), hashlib.sha256(line).hexdigest())
        assert line.startswith(record["head"].encode())
        assert len(record["head"]) == 2048
        assert passed == b""
    else:
        assert records == []
        # The way out may shed under pressure, but whole pieces of this one line and nothing of the audit path.
        assert passed == line + b"\n" or len(passed) < len(line)
    assert site.verify().code == 0


@pytest.mark.parametrize("source", ["pipe", "file"])
def test_a_flood_of_invalid_audit_lines_is_quarantined_to_the_last_one(tmp_path: Path, source: str) -> None:
    site, count = site_for(tmp_path, source), 100_000
    data = b"".join(b'{"stream":"audit","n":%d,}\n' % number for number in range(count))
    assert run(site, data, source) == b""
    records = site.trails.kind("quarantine")
    assert [original(record) for record in records] == data.splitlines()
    assert {record["reason"] for record in records} == {"not_json"}
    assert site.verify().code == 0
