"""Patterns: each finds its kind, and leaves alone what only looks like it."""

from __future__ import annotations

import pytest

from agent.errors import ConfigError
from agent.events.redaction.patterns import BUILT_IN, built_in, own

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"
KEY_TEXT = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----"
FOUND = {
    "card_number": [
        "4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111", "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", "4111+1111+1111+1111",
        "5555555555554444", "2223003122003222", "378282246310005", "3782 822463 10005", "30569309025904", "6011111111111117",
        "3530111333300000", "6200000000000005", "4222222222222", "6304000000000000",
    ],
    "iban": [
        "DE89370400440532013000", "DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432", "gb82west12345698765432", "NO9386011117947",
        "MT84MALT011000012345MTLCAST001S", "FR14 2004 1010 0505 0001 3M02 606", "CH93-0076-2011-6238-5295-7",
    ],
    "email": [
        "alice@example.com", "a.b+c_d%e-f@mail.example.co.uk", "ALICE@EXAMPLE.COM", "o'brien@example.com", '"john doe"@example.com',
        "jürgen@example.com", "anna@münchen.example", "x@xn--mnchen-3ya.example", "root@[192.0.2.7]", "alice@my_host.example.com",
    ],
    "jwt": [JWT, JWT.rpartition(".")[0] + ".", "eyAiYWxnIjoibm9uZSJ9.eyJzdWIiOiIxIn0"],
    "aws_access_key_id": ["AKIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE"],
    "github_token": ["ghp_" + "a1" * 18, "ghs_" + "Z" * 36, "github_pat_" + "11AAAAAAA0" * 8],
    "private_key": [
        KEY_TEXT, KEY_TEXT.replace("RSA ", ""), KEY_TEXT.replace("RSA", "OPENSSH"), KEY_TEXT.partition("\n-----END")[0],
        "-----BEGIN PGP PRIVATE KEY BLOCK-----\nlQ\n-----END PGP PRIVATE KEY BLOCK-----",
    ],
    "us_ssn": ["123-45-6789", "123 45 6789"],
}  # fmt: skip
IN_PART = {
    "bearer_token": [
        ("Authorization: Bearer abc.def-123~x==", "abc.def-123~x=="),
        ("bearer\tABCDEFGH1", "ABCDEFGH1"),
        ("BEARER aaaaaaaaaaaaaaaaaaaa", "a" * 20),
    ],
    "password_in_url": [
        ("postgres://app:s3cr3t@db.example.com/app", "s3cr3t"),
        ("https://:tok@host", "tok"),
        ("amqp://u:p@ss:w@h:5672", "p@ss:w"),
        ("GET /login?user=a&password=hunter2&x=1", "hunter2"),
        ("/cb?access_token=abc123;id=4", "abc123"),
        ("/x?api_key=k#y", "k#y"),
        ("client_secret=zzz", "zzz"),
    ],
}
LEFT = {
    "card_number": [
        "4111111111111112", "order 1234567890123456", "1234567812345670", "9111111111111111", "411111111111", "41111111111111110000",
        "0.4111111111111111", "4111111111111111.5", "a4111111111111111", "4111111111111111f", "2026-01-08T14:32:07", "1767882727201",
        "+49 30 901820", "192.0.2.10", "4111  1111 1111 1111",
    ],
    "iban": [
        "DE89370400440532013001", "DE8937040044053201300", "DE893704004405320130000", "XX89370400440532013000", "xDE89370400440532013000",
        "DE89", "AD12 some words here",
    ],
    "email": [
        "root@localhost", "user@host-1", "npm i @scope/pkg", "left@1.2.3", "user@10.0.0.1", "a @ b.com", "@example.com", "alice@", "x@.com",
    ],
    "jwt": ["eyJhbGciOiJIUzI1NiJ9", "eyJ.eyJ.x", "e30.e30.x"],
    "bearer_token": ["bearer of news", "Bearer authentication", "the bearer", "bearer: abc"],
    "aws_access_key_id": ["AKIA", "AKIAIOSFODNN7EXAMPL", "akiaiosfodnn7example", "AROAIOSFODNN7EXAMPLE"],
    "github_token": ["ghp_short", "gh_pages", "github_pat_"],
    "private_key": ["-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----", "a PRIVATE KEY", "-----BEGIN CERTIFICATE-----"],
    "password_in_url": [
        "https://example.com:8443/path", "https://alice@example.com/", "password reset", "http://h/a:b@c", "?pass=1",
        "tokens=3",
    ],
    "us_ssn": ["000-12-3456", "666-12-3456", "900-12-3456", "123-00-4567", "123-45-0000", "123456789", "1234-56-7890", "555-123-4567"],
}  # fmt: skip


def test_every_pattern_has_examples_and_near_misses():
    assert set(FOUND) | set(IN_PART) == set(LEFT) == set(BUILT_IN)


@pytest.mark.parametrize(("name", "secret"), [(name, secret) for name, secrets in FOUND.items() for secret in secrets])
@pytest.mark.parametrize("around", ["{}", "x {} y", '"{}"', "a={},", "({})"])
def test_a_secret_is_found_as_a_whole(name, secret, around):
    text = around.format(secret)
    pattern = built_in(name)
    assert [text[start:end] for start, end in pattern.find(text)] == [text[text.index(secret) :] if _is_open(secret) else secret]
    assert pattern.may_be_in(text.encode())


def _is_open(secret: str) -> bool:
    """Tell a private key that never ends: everything behind it may be a part of it."""
    return "BEGIN" in secret and "END" not in secret


@pytest.mark.parametrize(("name", "text", "secret"), [(name, *pair) for name, pairs in IN_PART.items() for pair in pairs])
def test_only_the_secret_part_is_found(name, text, secret):
    pattern = built_in(name)
    assert [text[start:end] for start, end in pattern.find(text)] == [secret]
    assert pattern.may_be_in(text.encode())


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in LEFT.items() for text in texts])
def test_what_only_looks_like_it_stays(name, text):
    assert built_in(name).find(text) == []


def test_a_card_is_found_among_other_numbers():
    text = "2026 4111 1111 1111 1111 123"
    assert [text[start:end] for start, end in built_in("card_number").find(text)] == ["4111 1111 1111 1111"]


def test_two_cards_in_a_row_are_two():
    text = "4111111111111111 5555555555554444"
    assert len(built_in("card_number").find(text)) == 2


def test_a_name_of_ones_own_is_looked_for_with_re2():
    pattern = own("stripe_key", r"\bsk_live_[A-Za-z0-9]+")
    assert pattern.find("key sk_live_abc123, risk_live_x") == [(4, 18)]


@pytest.mark.parametrize("expression", ["(", "a{1001}", "(?=x)", r"(a)\1", "[z-a]", "a" * 5000])
def test_what_re2_does_not_take_is_refused_with_a_hint(expression):
    with pytest.raises(ConfigError) as caught:
        own("mine", expression)
    assert caught.value.key == "pattern"


@pytest.mark.parametrize("expression", ["^abc", "abc$", r"\Aabc", r"abc\z", "(?m)^x", "x|^y"])
def test_an_anchored_expression_is_refused(expression):
    with pytest.raises(ConfigError, match="no meaning here"):
        own("mine", expression)


@pytest.mark.parametrize("expression", ["[^a]b", r"\^x", r"x\$", "[$^]x", r"[]^]x", r"\Q^$\Ex", "[[:^alpha:]]x"])
def test_what_only_looks_like_an_anchor_is_taken(expression):
    assert own("mine", expression).name == "mine"


@pytest.mark.parametrize("expression", ["a*", "", "a?", r"\b"])
def test_an_expression_that_matches_nothing_at_all_is_refused(expression):
    with pytest.raises(ConfigError):
        own("mine", expression)


def test_an_unknown_name_is_refused_with_the_names_there_are():
    with pytest.raises(ConfigError) as caught:
        built_in("credit_card")
    assert "card_number" in caught.value.hint


def test_an_expression_that_backtracks_elsewhere_is_linear_here():
    assert own("mine", r"(a+)+b").find("a" * 100_000) == []
