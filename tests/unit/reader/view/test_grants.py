from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta

import pytest

from agent.errors import ConfigError
from agent.reader.view.grants import Grant, Key, Refusal, RefusedTokenError, check, issue, make_grant, read_token, service_globs

NOW = datetime(2026, 7, 1, tzinfo=UTC)
KEY = Key(bytes(range(32)))
ID = "0123456789abcdef"


def grant(**changes) -> Grant:
    given = {
        "identifier": ID,
        "name": "Jane",
        "services": ("demo/*",),
        "since": None,
        "until": None,
        "expires": NOW + timedelta(days=7),
        "now": NOW,
    }
    return make_grant(**(given | changes))


def refusal(token: str | None, *, now: datetime = NOW, known=frozenset({ID}), revoked=frozenset(), key: Key = KEY) -> Refusal:
    with pytest.raises(RefusedTokenError) as raised:
        check(token, key, known=known, revoked=revoked, now=now)
    return raised.value.refusal


def forged(token: str, **changes) -> str:
    """Change the payload and leave the mac."""
    version, payload, mac = token.split(".")
    said = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4))) | changes
    return f"{version}.{urlsafe_b64encode(json.dumps(said).encode()).rstrip(b'=').decode()}.{mac}"


def test_a_token_lets_in_until_it_expires() -> None:
    token = issue(grant(), KEY)
    found = check(token, KEY, known=frozenset({ID}), revoked=frozenset(), now=NOW + timedelta(days=7) - timedelta(microseconds=1))
    assert found == grant()
    assert refusal(token, now=NOW + timedelta(days=7)) is Refusal.EXPIRED


@pytest.mark.parametrize(
    "changes",
    [
        {"services": ["*/*"]},
        {"expires": "2036-01-01T00:00:00Z"},
        {"id": "f" * 16},
        {"name": "Mallory"},
        {"since": None, "until": "2030-01-01T00:00:00Z"},
    ],
)
def test_a_token_that_was_changed_lets_nobody_in(changes: dict[str, object]) -> None:
    assert refusal(forged(issue(grant(), KEY), **changes), known=frozenset({ID, "f" * 16})) is Refusal.INVALID


def test_a_token_of_another_key_lets_nobody_in() -> None:
    assert refusal(issue(grant(), Key(bytes(32)))) is Refusal.INVALID


def test_every_character_of_a_token_counts() -> None:
    token = issue(grant(), KEY)
    for at, character in enumerate(token):
        other = "A" if character != "A" else "B"
        assert refusal(token[:at] + other + token[at + 1 :]) is Refusal.INVALID, at
        assert refusal(token[:at] + token[at + 1 :]) is Refusal.INVALID, at


@pytest.mark.parametrize(
    "token",
    [".", "..", "ts1", "ts1..", "ts1.e30.", "ts1.e30.AAAA", "ts2.e30.AAAA", "a" * 5000, "ä.ö.ü", "ts1.\0.\0", "null", "ts1.e30.AAAA\n"],
)
def test_what_is_no_token_is_refused(token: str) -> None:
    assert refusal(token) is Refusal.INVALID


@pytest.mark.parametrize("token", [None, ""])
def test_no_token_is_no_token(token: str | None) -> None:
    assert refusal(token) is Refusal.MISSING


def test_a_signed_payload_that_is_no_grant_is_refused() -> None:
    for payload in (b"{}", b"[]", b"null", b"\xff", json.dumps({"id": "x"}).encode()):
        body = f"ts1.{urlsafe_b64encode(payload).rstrip(b'=').decode()}"
        token = f"{body}.{urlsafe_b64encode(KEY.mac(body.encode())).rstrip(b'=').decode()}"
        with pytest.raises(RefusedTokenError):
            read_token(token, KEY)


def test_a_revoked_token_lets_nobody_in_though_it_has_not_expired() -> None:
    assert refusal(issue(grant(), KEY), revoked=frozenset({ID})) is Refusal.REVOKED


def test_a_token_that_is_not_in_the_book_lets_nobody_in() -> None:
    """A lost book must not turn revoked tokens into good ones."""
    assert refusal(issue(grant(), KEY), known=frozenset()) is Refusal.INVALID


def test_a_key_is_not_shown() -> None:
    assert KEY.secret.hex() not in repr(KEY)
    assert str(KEY.secret) not in repr(KEY)


def test_services_are_patterns_of_namespace_and_service() -> None:
    assert service_globs(["payments", "acme/*", "a,b/c"]) == ("*/payments", "acme/*", "*/a", "b/c")
    assert service_globs(["*", "acme/x"]) == ("*/*",)


@pytest.mark.parametrize("text", ["", "a/b/c", "A/b", "a/", "/b", "a b", "[a]/b", "a/b'", "a,,b", "x" * 200])
def test_other_services_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        service_globs([text])


def test_no_services_at_all_are_refused_rather_than_taken_for_all() -> None:
    with pytest.raises(ConfigError):
        service_globs([])
    assert grant().scope.services == ("demo/*",)


@pytest.mark.parametrize(
    "changes",
    [{"expires": NOW}, {"expires": NOW - timedelta(days=1)}, {"name": "x" * 101}, {"name": "a\x1b[31mb"}, {"since": NOW, "until": NOW}],
    ids=["expires now", "expired", "long name", "unprintable name", "empty range"],
)
def test_a_grant_that_makes_no_sense_is_not_made(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        grant(**changes)
