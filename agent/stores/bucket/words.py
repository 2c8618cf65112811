"""What a library's exception says, as one of our errors, in the store's own words.

obstore puts everything into one text: a sentence, the server's answer (XML), and a dump of its own values. What an operator needs of it
is the status, the code and the message of the answer, or why there was none. Invariants: a text from a server is one printable line of
bounded length; nothing that is not known to be for good is called anything but something that may pass.
"""

from __future__ import annotations

import re
from typing import Final
from xml.sax.saxutils import unescape

import msgspec

from ...errors import RefusedError, TransientError

MAX_WORDS: Final = 300
NO_KEY: Final = frozenset({"NoSuchKey", "NoSuchVersion", "BlobNotFound"})
"""The codes that say that an object, and nothing above it, is absent."""
_SKEWED: Final = frozenset({"RequestTimeTooSkewed", "RequestExpired"})
_STATUS: Final = re.compile(r"status code: (\d{3}) ?([A-Za-z -]*)")
_CODE: Final = re.compile(r"<Code>([^<]*)</Code>", re.IGNORECASE)
_MESSAGE: Final = re.compile(r"<Message>([^<]*)</Message>", re.IGNORECASE)
_DUMP: Final = "Debug source:"
_REASONS: Final = (
    (re.compile(r'message: "([^"]+)"'), "{0}"),
    (re.compile(r'"(failed to lookup address[^"]*)"'), "{0}"),
    (re.compile(r"InvalidCertificate\(\s*(\w+)"), "its certificate is not trusted ({0})"),
    (re.compile(r"InvalidMessage|InvalidContentType"), "it does not speak TLS"),
    (re.compile(r"kind: Timeout|TimedOut"), "no answer in time"),
    (re.compile(r"IncompleteBody|IncompleteMessage|UnexpectedEof"), "the answer was cut short"),
    (re.compile(r"BareRedirect"), "it redirects elsewhere, as for a bucket of another region"),
)
_HINTS: Final = {
    "NoSuchBucket": "Make the bucket, or correct its name; it is tried again by itself.",
    "ContainerNotFound": "Make the container, or correct its name; it is tried again by itself.",
    "QuotaExceeded": "The store is full: raise the quota. It is tried again by itself.",
    "SignatureDoesNotMatch": "The secret key is wrong, or something on the way changes requests. It is tried again by itself.",
    "InvalidAccessKeyId": "The server does not know this access key. It is tried again by itself.",
}


class Answer(msgspec.Struct, frozen=True):
    """Be what a server answered, or why it did not.

    Attributes:
        status: The HTTP status; None if there was no answer.
        code: The code in the answer's XML, or an empty text.
        words: One line for a person.
    """

    status: int | None
    code: str
    words: str


def read_answer(error: BaseException) -> Answer:
    """Return what an exception of obstore says."""
    text = str(error)
    said, _, dump = text.partition(_DUMP)
    status = _STATUS.search(said)
    if status is not None:
        code, message = _CODE.search(said), _MESSAGE.search(said)
        parts = [f"{status[1]} {status[2].strip()}".strip(), code[1] if code else "", unescape(message[1]) if message else ""]
        return Answer(int(status[1]), code[1].strip() if code else "", one_line(": ".join(part for part in parts if part)))
    for pattern, sentence in _REASONS:
        found = pattern.search(dump)
        if found is not None:
            return Answer(None, "", one_line(sentence.format(*found.groups())))
    return Answer(None, "", one_line(said.rpartition(" - ")[2] or type(error).__name__))


def translate(operation: str, place: str, error: BaseException) -> TransientError:
    """Return the error that says it.

    Args:
        operation: What was done, as in "create".
        place: The object's or bucket's URL.
        error: What the library raised.
    """
    answer = read_answer(error)
    message = f"cannot {operation} {place}: {answer.words}"
    if answer.status is None or answer.status >= 500 or answer.status in (408, 409, 425, 429):
        return TransientError(message)
    if answer.code in _SKEWED:
        hint = "The store finds this machine's clock too far off: let chrony or systemd-timesyncd set it. It is tried again by itself."
        return RefusedError(message, hint=hint)
    return RefusedError(message, hint=_HINTS.get(answer.code))


def one_line(text: str) -> str:
    """Return a text as one printable line of bounded length."""
    shown = " ".join(text.split())
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in shown)
    return shown if len(shown) <= MAX_WORDS else shown[:MAX_WORDS] + "…"
