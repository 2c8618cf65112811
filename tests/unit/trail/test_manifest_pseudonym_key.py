"""The id of the pseudonym key in a manifest: there only where there is one, and no change to any manifest without it."""

from __future__ import annotations

import json

import msgspec
import pytest

from agent.errors import FormatError
from agent.trail.manifest import Manifest, decode_manifest, encode_manifest
from tests.unit.trail.samples import opening

PLAIN = opening()[0].manifest
LINE = encode_manifest(PLAIN)


def with_key(ids: str) -> Manifest:
    return msgspec.structs.replace(PLAIN, agent=msgspec.structs.replace(PLAIN.agent, pseudonym_key=ids))


def test_a_manifest_without_it_is_byte_for_byte_what_it_was():
    assert b"pseudonym_key" not in LINE
    assert decode_manifest(LINE) == PLAIN
    assert encode_manifest(decode_manifest(LINE)) == LINE


@pytest.mark.parametrize("ids", ["860fae4c", "00000000,860fae4c"])
def test_it_stands_last_in_the_agent(ids):
    line = encode_manifest(with_key(ids))
    agent = json.loads(line)["agent"]
    assert list(agent)[-1] == "pseudonym_key"
    assert agent["pseudonym_key"] == ids
    assert decode_manifest(line) == with_key(ids)


@pytest.mark.parametrize(
    "ids",
    [
        "",
        "860FAE4C",
        "860fae4",
        "860fae4c0",
        "860fae4c,",
        "860fae4c\n",
        "860fae4c,860fae4c",
        "860fae4c,00000000",
        ",".join(["0" * 8] * 200),
    ],
)
def test_anything_else_is_no_list_of_ids(ids):
    with pytest.raises(FormatError):
        encode_manifest(with_key(ids))


def test_null_is_not_the_same_as_absent():
    line = encode_manifest(with_key("860fae4c")).replace(b'"860fae4c"', b"null")
    with pytest.raises(FormatError):
        decode_manifest(line)
