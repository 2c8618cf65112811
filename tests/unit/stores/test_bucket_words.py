"""A store's own words, out of what its library says."""

from __future__ import annotations

import pytest

from agent.errors import RefusedError, TransientError
from agent.stores.bucket.words import MAX_WORDS, Answer, read_answer, translate

PUT = "Generic S3 error: Error performing PUT http://127.0.0.1:1/b/k in 379.361µs - "


def status(code: str, body: str = "", dump: str = "") -> Exception:
    return RuntimeError(f"{PUT}Server returned non-2xx status code: {code}: {body}\n\nDebug source:\n{dump}")


def unanswered(dump: str) -> Exception:
    return RuntimeError(f"{PUT}HTTP error: error sending request\n\nDebug source:\n{dump}")


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (
            status("403 Forbidden", "<Error><Code>AccessDenied</Code><Message>No &amp; never</Message></Error>"),
            Answer(403, "AccessDenied", "403 Forbidden: AccessDenied: No & never"),
        ),
        (status("503 Service Unavailable", "hello"), Answer(503, "", "503 Service Unavailable")),
        (status("404 Not Found"), Answer(404, "", "404 Not Found")),
        (unanswered('Os { code: 111, kind: ConnectionRefused, message: "Connection refused" }'), Answer(None, "", "Connection refused")),
        (unanswered('"failed to lookup address information: Name or service not known"'), None),
        (unanswered("HttpError { kind: Timeout, source: TimedOut }"), Answer(None, "", "no answer in time")),
        (unanswered("error: InvalidMessage( InvalidContentType )"), Answer(None, "", "it does not speak TLS")),
        (
            unanswered("InvalidCertificate( UnknownIssuer )"),
            Answer(None, "", "its certificate is not trusted (UnknownIssuer)"),
        ),
        (RuntimeError("HTTP error: request or response body error\n\nDebug source: kind: UnexpectedEof, error: IncompleteBody"), None),
        (RuntimeError(), Answer(None, "", "RuntimeError")),
    ],
)
def test_what_was_answered_or_why_nothing_was(error: Exception, answer: Answer | None) -> None:
    found = read_answer(error)
    if answer is not None:
        assert found == answer
    assert found.words
    assert "Debug" not in found.words


def test_a_server_cannot_fill_the_log_or_drive_a_terminal() -> None:
    found = read_answer(status("400 Bad Request", f"<Error><Code>X</Code><Message>\x1b[31m\n{'a' * 5000}</Message></Error>"))
    assert len(found.words) <= MAX_WORDS + 1
    assert found.words.isprintable()


@pytest.mark.parametrize(
    "code", ["500 Internal Server Error", "503 Slow Down", "429 Too Many Requests", "408 Request Timeout", "409 Conflict"]
)
def test_what_passes_by_itself_is_transient_and_not_refused(code: str) -> None:
    error = translate("create", "s3://b/k", status(code))
    assert isinstance(error, TransientError)
    assert not isinstance(error, RefusedError)


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        ("<Code>AccessDenied</Code>", "doctor"),
        ("<Code>NoSuchBucket</Code>", "Make the bucket"),
        ("<Code>QuotaExceeded</Code>", "raise the quota"),
        ("<Code>RequestTimeTooSkewed</Code>", "chrony"),
        ("<Code>SignatureDoesNotMatch</Code>", "secret key"),
    ],
)
def test_what_needs_somebody_is_refused_with_a_hint(body: str, hint: str) -> None:
    error = translate("create", "s3://b/k", status("403 Forbidden", body))
    assert isinstance(error, RefusedError)
    assert error.message.startswith("cannot create s3://b/k: 403 Forbidden")
    assert hint in error.hint


def test_no_answer_at_all_is_transient() -> None:
    error = translate("read", "s3://b/k", unanswered("kind: Timeout"))
    assert type(error) is TransientError
    assert error.message == "cannot read s3://b/k: no answer in time"
