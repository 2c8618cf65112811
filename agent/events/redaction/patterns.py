r"""The patterns that know a secret by its looks.

| name | what | how it is told from its like |
|---|---|---|
| ``card_number`` | payment card numbers | prefix and length of a network, Luhn digit |
| ``iban`` | bank accounts | the country's length, check digits |
| ``email`` | e-mail addresses | a domain with a dot and a top level of letters |
| ``jwt`` | JSON web tokens | begins as the base64 of ``{"`` and has a second part |
| ``bearer_token`` | what follows ``Bearer`` | eight characters or more, with a digit, or twenty |
| ``aws_access_key_id`` | AWS access keys | ``AKIA``, ``ASIA``, ``ABIA`` or ``ACCA`` and 16 characters |
| ``github_token`` | GitHub tokens | ``ghp_`` and its like with 30 characters, ``github_pat_`` with 22 |
| ``private_key`` | PEM private keys | from ``-----BEGIN … PRIVATE KEY`` to its end, or to the end of the text |
| ``password_in_url`` | passwords and tokens in URLs | ``scheme://user:…@``, ``?password=…``, ``access_token=…`` and the like |
| ``us_ssn`` | US social security numbers | 3-2-4 digits with separators, ranges that are issued |

Or a regular expression of one's own in RE2's syntax, whose time is linear in the text whatever the expression.

Invariants: `Pattern.may_be_in` never says no to plain bytes in which `find` would find something. RE2 is imported when a pattern is
made, so that an agent without redaction does not pay for it. This module must not change text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ...errors import ConfigError
from .numbers import cards, ibans, ssns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .spans import Span

MAX_EXPRESSION_CHARACTERS: Final = 4096
_TOKEN_CHARACTERS_THAT_NEED_NO_DIGIT: Final = 20


@dataclass(frozen=True, slots=True)
class Pattern:
    """Know one kind of secret.

    Attributes:
        name: Its name in the configuration.
        find: Returns where it stands in a text, in characters.
        hint: An expression for bytes, the beginning of which all plainly spelled secrets match; empty for an expression of one's own.
        may_be_in: Looks at bytes quickly: false is certain, if they are plainly spelled.
    """

    name: str
    find: Callable[[str], list[Span]]
    hint: bytes
    may_be_in: Callable[[bytes], bool]


_EMAIL: Final = (
    r"""(?:[\pL\pN_.%+~-]+(?:'[\pL\pN_.%+~-]+)*|"[^"\\\n]{1,64}")@"""
    r"(?:(?:[\pL\pN](?:[\pL\pN_-]*[\pL\pN])?\.)+\pL[\pL\pN-]*[\pL\pN]|\[[0-9A-Fa-f:.]{3,45}\])"
)
_JWT: Final = r"(?:eyJ|eyA|ewo|ewk)[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*){0,3}"
_BEARER: Final = r"(?i)bearer[ \t+]+([A-Za-z0-9._~+/-]{8,}=*)"
_AWS: Final = r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}"
_GITHUB: Final = r"gh[a-z]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{22,}"
_PRIVATE_KEY: Final = (
    r"(?s)-{4,5} ?BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}.*?(?:-{4,5} ?END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)? ?-{4,5}|\z)"
)
_URL: Final = (
    r"""(?i)[a-z][a-z0-9+.-]*://[^\s:/@"'<>]*:([^\s/"'<>]+)@"""
    r"""|(?:password|passwd|passphrase|pwd|secret|token|api_?key)=([^\s&"'<>;,]+)"""
)


def built_in(name: str) -> Pattern:
    """Return a pattern of the table above.

    Raises:
        ConfigError: There is no pattern of that name.
    """
    if name not in BUILT_IN:
        raise ConfigError(f"{name!r} is no built-in pattern", key="pattern", hint=f"There are {', '.join(BUILT_IN)}.")
    make, hint = BUILT_IN[name]
    return Pattern(name, make(), hint, quick_look([hint]))


def own(name: str, expression: str) -> Pattern:
    """Compile an expression of the operator's own.

    Args:
        name: What it is called.
        expression: RE2's syntax; what it matches as a whole is the secret.

    Raises:
        ConfigError: RE2 does not take it, it is anchored, or it matches nothing at all.
    """
    if len(expression) > MAX_EXPRESSION_CHARACTERS:
        raise ConfigError(f"an expression has at most {MAX_EXPRESSION_CHARACTERS} characters", key="pattern")
    if _is_anchored(expression):
        raise ConfigError(
            "^, $, \\A and \\z have no meaning here: a secret is looked for anywhere in a text, and in the original line too",
            key="pattern",
            hint=r"Use \b for the edge of a word.",
        )
    compiled = _compile(expression)
    if any(found.end() == found.start() for text in ("", "a b") for found in compiled.finditer(text)):
        raise ConfigError("matches a text without any character, so everywhere", key="pattern", hint="Use + instead of *.")
    return Pattern(
        name,
        lambda text: [found.span() for found in compiled.finditer(text) if found.end() > found.start()],
        b"",
        lambda data: compiled.search(data) is not None,
    )


def quick_look(expressions: Sequence[bytes]) -> Callable[[bytes], bool]:
    """Return what tells whether any of the expressions matches in bytes, at one look for all of them."""
    import re2

    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.never_capture = True
    options.log_errors = False
    search = re2.compile(b"|".join(b"(?:%b)" % expression for expression in expressions), options).search
    return lambda data: search(data) is not None


def _compile(expression: str) -> Any:
    """Compile an expression with RE2."""
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(expression, options)
    except re2.error as error:
        what = error.args[0] if error.args else ""
        why = what.decode("utf-8", "replace") if isinstance(what, bytes) else str(what)
        raise ConfigError(
            f"is no expression that RE2 takes: {why}", key="pattern", hint="RE2 has no look-around and no back-references."
        ) from error


def _is_anchored(expression: str) -> bool:
    r"""Tell whether an expression holds ``^``, ``$``, ``\A`` or ``\z`` outside of a set."""
    rest = re.sub(r"(?s)\\Q.*?(?:\\E|\Z)", "", expression)
    rest = re.sub(r"(?s)\\[^Az]", "", rest)
    rest = re.sub(r"(?s)\[\^?\]?(?:\[:\^?[a-z]+:\]|[^\]])*\]", "", rest)
    return re.search(r"[\^$]|\\[Az]", rest) is not None


def _expression(expression: str, needed: str) -> Callable[[], Callable[[str], list[Span]]]:
    """Return what makes a finder of an expression; its group, where it has one, is the secret.

    Args:
        expression: RE2's syntax.
        needed: What stands in every match, and is looked for first: that is quick.
    """

    def make() -> Callable[[str], list[Span]]:
        compiled = _compile(expression)
        groups = range(1, compiled.groups + 1) if compiled.groups else (0,)

        def find(text: str) -> list[Span]:
            if needed not in text:
                return []
            return [found.span(group) for found in compiled.finditer(text) for group in groups if found.span(group)[0] >= 0]

        return find

    return make


def _bearer() -> Callable[[str], list[Span]]:
    find_all = _expression(_BEARER, "")()

    def find(text: str) -> list[Span]:
        return [(start, end) for start, end in find_all(text) if _is_token(text[start:end])]

    return find


def _is_token(word: str) -> bool:
    """Tell a token from a word that happens to follow: "bearer instruments" is about finance."""
    return len(word) >= _TOKEN_CHARACTERS_THAT_NEED_NO_DIGIT or any(character.isdigit() for character in word)


BUILT_IN: Final[dict[str, tuple[Callable[[], Callable[[str], list[Span]]], bytes]]] = {
    "card_number": (lambda: cards, rb"[0-9](?:[ +_-]?[0-9]){12}|[0-9][eE]\+?[0-9]{1,2}(?:[\s,}\]]|\z)"),
    "iban": (lambda: ibans, rb"[A-Za-z]{2}[0-9]{2}(?:[ -]?[A-Za-z0-9]){11}"),
    "email": (_expression(_EMAIL, "@"), rb"@"),
    "jwt": (_expression(_JWT, "."), rb"e(?:yJ|yA|wo|wk)"),
    "bearer_token": (_bearer, rb"[bB][eE][aA][rR][eE][rR]"),
    "aws_access_key_id": (_expression(_AWS, "A"), rb"A(?:KI|SI|BI|CC)A"),
    "github_token": (_expression(_GITHUB, "_"), rb"gh[a-z]_|github_pat_"),
    "private_key": (_expression(_PRIVATE_KEY, "PRIVATE KEY"), rb"PRIVATE KEY"),
    "password_in_url": (_expression(_URL, ""), rb"://|(?i:pass(?:word|wd|phrase)|pwd|secret|token|api_?key)="),
    "us_ssn": (lambda: ssns, rb"[0-9]{3}[ +_-][0-9]{2}[ +_-][0-9]{4}"),
}
