"""Pseudonym keys: equal values stay equal, and nothing tells the key."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from agent.errors import ConfigError
from agent.events.redaction import PseudonymKey

SECRET = bytes(range(32))
KEY = PseudonymKey(SECRET)


def test_a_pseudonym_is_the_documented_computation():
    mac = hmac.new(SECRET, b"alice@example.com", hashlib.sha256).digest()[:16]
    value = base64.b32encode(mac).decode().rstrip("=").lower()
    assert KEY.pseudonym("alice@example.com") == f"hmac-sha256:{KEY.id}:{value}"
    assert len(value) == 26


def test_a_key_id_is_the_documented_computation():
    assert KEY.id == hashlib.sha256(b"trailseal pseudonym key id\0" + SECRET).hexdigest()[:8]


def test_a_digest_is_the_plain_hmac_of_the_line():
    assert KEY.digest(b"a line") == hmac.new(SECRET, b"a line", hashlib.sha256).hexdigest()


def test_equal_values_have_equal_pseudonyms_and_other_keys_give_others():
    other = PseudonymKey(bytes(range(1, 33)))
    assert KEY.pseudonym("a") == KEY.pseudonym("a") != KEY.pseudonym("b")
    assert KEY.pseudonym("a").rpartition(":")[2] != other.pseudonym("a").rpartition(":")[2]
    assert KEY.id != other.id


def test_the_secret_stands_in_no_representation():
    shown = f"{KEY!r} {KEY}"
    assert "secret" not in shown
    assert "x1e" not in shown


def test_a_key_is_read_from_one_line_of_base64():
    assert PseudonymKey.parse(base64.b64encode(SECRET).decode() + "\n") == KEY


@pytest.mark.parametrize("text", ["", "not base64!", base64.b64encode(b"short").decode(), base64.b64encode(bytes(31)).decode(), "ü"])
def test_a_key_that_is_none_is_refused_and_not_shown(text):
    with pytest.raises(ConfigError) as caught:
        PseudonymKey.parse(text)
    assert not text or text not in str(caught.value)
    assert "keygen --pseudonym" in caught.value.hint


def test_a_lone_surrogate_has_a_pseudonym_too():
    assert KEY.pseudonym("\ud800") != KEY.pseudonym("\ud801")
