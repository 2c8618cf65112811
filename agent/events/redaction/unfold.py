r"""See through spellings: read a text as whoever decodes it later would, and know where each character stood.

``alice\u0040example.com``, ``alice%40example.com``, ``alice&#64;example.com``, full-width letters and a zero-width space in
the middle are the same address to the program that reads them next, and no pattern finds them as they stand. `levels`
undoes such spellings layer by layer; `origin` leads a place in a layer back to the text, so that what was found is cut out where it stands.

Undone are: the escapes of JSON, C, Python and JavaScript, percent-encoding (of UTF-8, and ``%u0040``), character references of
HTML, compatibility forms (NFKC, character by character), digits and dashes of other scripts; control and format characters
are taken out. A run of backslashes, ``%25`` or ``&amp;`` before an escape counts as one, as one more layer of encoding leaves it.

Long runs of hexadecimal digits that are readable when decoded, as the Linux audit log writes arguments, are found by `hexadecimal`; each is
a text of its own.

Invariants: the work is linear in the text and bounded in layers; `levels` says when it did not get to the bottom. A layer is
only for looking: nothing in it is ever stored. This module must not know what is looked for.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_LEVELS: Final = 4
"""How many layers are undone; runs of the same kind count as one."""

Origin: TypeAlias = "tuple[Sequence[int], Sequence[int]]"
"""For each character of a layer: where it begins in the text, and where it ends."""

_ESCAPE: Final = re.compile(
    r"\\+(?:u(?P<high>[dD][89abAB][0-9a-fA-F]{2})\\+u(?P<low>[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|u(?P<u4>[0-9a-fA-F]{4})|u\{(?P<braced>[0-9a-fA-F]{1,6})\}|U(?P<u8>[0-9a-fA-F]{8})|x(?P<x>[0-9a-fA-F]{2})"
    r"|(?P<octal>[0-3][0-7]{2})|(?P<short>[abefnrtv0\"'/\\]))"
    r"|%(?:25)*u(?P<pu>[0-9a-fA-F]{4})|(?P<percent>(?:%(?:25)*[0-9a-fA-F]{2})+)"
    r"|&(?:amp;)*(?:#(?P<decimal>[0-9]{1,7});?|#[xX](?P<hex>[0-9a-fA-F]{1,6});?|(?P<name>amp|lt|gt|quot|apos|commat|period|nbsp|shy);)"
)
_HEX: Final = ("u4", "braced", "u8", "x", "pu", "hex")
_SHORT: Final = {"a": "\a", "b": "\b", "e": "\x1b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "0": "\0"}
_NAMES: Final = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'", "commat": "@", "period": ".", "nbsp": " ", "shy": ""}
_PERCENT: Final = re.compile(r"%(?:25)*([0-9a-fA-F]{2})")
_BY_CATEGORY: Final = {"Cf": "", "Cc": "", "Pd": "-", "Zs": " "}
_KEPT_CONTROLS: Final = "\t\n\r"
_HIDDEN_MARKS: Final = "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\ufffd"
READABLE_HEX: Final = (
    "(?:[2-7][0-9a-fA-F](?:00)?|[c-dC-D][0-9a-fA-F][89abAB][0-9a-fA-F]"
    "|[eE][0-9a-fA-F](?:[89abAB][0-9a-fA-F]){2}|[fF]0(?:[89abAB][0-9a-fA-F]){3}){6}"
)
"""Matches six characters that can be seen, in UTF-8 or, of ASCII, in UTF-16, written in hexadecimal; few hashes hold that."""
FOLDED_BYTES: Final = rb"[\\\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\xff]|%[0-9a-fA-Fu]|&[#a-z]|[0-9][eE]\+?[0-9]{1,3}[\s,}\]]"
"""Matches bytes that hold anything that `levels` would undo, or a number with an exponent; anything else is spelled plainly."""
_HEXADECIMAL: Final = re.compile("[0-9A-Fa-f]{12,}")
_MARKS_OF_HEXADECIMAL: Final = ("0x", "0X", "\\x")
_READABLE_HEX: Final = re.compile(READABLE_HEX)
_UTF16_SHARE: Final = 3
_FOLDED: Final = re.compile(r"[\\\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\U0010ffff]|%[0-9a-fA-Fu]|&[#a-z]")


class _Plain(dict[int, str]):
    """Give the plain form of a character, worked out when it is first met; a bounded set of them is kept."""

    _KEPT: Final = 4096

    def __missing__(self, code: int) -> str:
        """Work it out."""
        plain = _plain_form(chr(code))
        if len(self) < self._KEPT:
            self[code] = plain
        return plain


_plain: Final = _Plain()


def levels(text: str, *, wary: bool = False) -> tuple[list[str], bool]:
    r"""Return the text and its layers, outermost first, and whether the innermost was reached.

    Args:
        text: Any text; lone surrogates are let through.
        wary: Whether to leave alone what one reader takes for an escape and another for a backslash before a word: ``\n``, ``\101``.
    """
    found = [text]
    if _FOLDED.search(text) is None:
        return found, True
    for _ in range(MAX_LEVELS):
        inner = _undo(found[-1], wary=wary)
        if inner == found[-1]:
            return found, True
        found.append(inner)
    return found, _undo(found[-1], wary=wary) == found[-1]


def innermost(text: str) -> str:
    """Return the innermost layer of a text."""
    return levels(text)[0][-1]


def origin(text: str, level: int, *, wary: bool = False) -> Origin:
    """Return where the characters of a layer stand in the text.

    Args:
        text: The text that `levels` was given.
        level: The layer's index in its answer.
        wary: As `levels` was told.
    """
    starts: Sequence[int] = range(len(text))
    ends: Sequence[int] = range(1, len(text) + 1)
    for _ in range(level):
        pieces: list[str] = []
        inner_starts: list[int] = []
        inner_ends: list[int] = []
        for character, start, end in _undone(text, wary=wary):
            for one in character:
                pieces.append(one)
                inner_starts.append(starts[start])
                inner_ends.append(ends[end - 1])
        text, starts, ends = "".join(pieces), inner_starts, inner_ends
    return starts, ends


def hexadecimal(text: str) -> list[tuple[str, list[tuple[int, int]]]]:
    """Return what runs of hexadecimal digits that stand free mean, and where each character of it stands in the text.

    What is no UTF-8 stands for nothing visible. A zero byte between arguments is a blank.
    """
    found: list[tuple[str, list[tuple[int, int]]]] = []
    for run in _HEXADECIMAL.finditer(text):
        first, end = run.span()
        stands_free = not _is_word(text[first - 1 : first]) or text[max(first - 2, 0) : first] in _MARKS_OF_HEXADECIMAL
        if (end - first) % 2 or not stands_free or _is_word(text[end : end + 1]) or _READABLE_HEX.search(run[0]) is None:
            continue
        pieces = _characters(bytes.fromhex(run[0]))
        decoded = "".join(character for character, _, _ in pieces)
        if decoded.count("\0") * _UTF16_SHARE < len(decoded):
            decoded = decoded.replace("\0", " ")
        found.append((decoded, [(first + 2 * start, first + 2 * end) for _, start, end in pieces]))
    return found


def _is_word(beside: str) -> bool:
    """Tell whether what stands beside a run makes a part of a word of it."""
    return beside.isascii() and beside.isalnum()


def _undo(text: str, *, wary: bool) -> str:
    """Undo one layer."""
    if "\\" in text or "%" in text or "&" in text:
        text = _ESCAPE.sub(lambda found: "".join(character for character, _, _ in _decoded(found, wary=wary)), text)
    return text.translate(_plain)


def _undone(text: str, *, wary: bool) -> list[tuple[str, int, int]]:
    """Undo one layer, each piece with where it stands: the same as `_undo`, character by character."""
    made: list[tuple[str, int, int]] = []
    place = 0
    for found in _ESCAPE.finditer(text):
        made += ((_plain[ord(text[at])], at, at + 1) for at in range(place, found.start()))
        made += ((character.translate(_plain), start, end) for character, start, end in _decoded(found, wary=wary))
        place = found.end()
    made += ((_plain[ord(text[at])], at, at + 1) for at in range(place, len(text)))
    return made


def _decoded(found: re.Match[str], *, wary: bool) -> list[tuple[str, int, int]]:
    """Return what an escape stands for, and where."""
    kind = found.lastgroup
    if kind == "percent":
        return _percent(found)
    whole = found[0]
    if wary and (kind == "octal" or (kind == "short" and found["short"] in _SHORT)):
        return [(character, place, place + 1) for place, character in enumerate(whole, found.start())]
    if kind == "low":
        code = 0x10000 + ((int(found["high"], 16) & 0x3FF) << 10) + (int(found["low"], 16) & 0x3FF)
        whole = chr(code)
    elif kind == "name":
        whole = _NAMES[found["name"]]
    elif kind == "short":
        whole = _SHORT.get(found["short"], found["short"])
    elif kind is not None:
        base = 8 if kind == "octal" else 10 if kind == "decimal" else 16
        code = int(found[kind], base)
        whole = chr(code) if code <= 0x10FFFF else whole
    return [(whole, found.start(), found.end())]


def _percent(found: re.Match[str]) -> list[tuple[str, int, int]]:
    """Return the characters of a run of percent-encoded bytes; what is no UTF-8 stands byte by byte for nothing visible."""
    units = list(_PERCENT.finditer(found[0]))
    pieces = _characters(bytes(int(unit[1], 16) for unit in units))
    return [(character, found.start() + units[start].start(), found.start() + units[end - 1].end()) for character, start, end in pieces]


def _characters(data: bytes) -> list[tuple[str, int, int]]:
    """Return the characters of some bytes, and which bytes they are."""
    made: list[tuple[str, int, int]] = []
    place = 0
    while place < len(data):
        length = _length_of_character(data[place])
        try:
            character = data[place : place + length].decode()
        except UnicodeDecodeError:
            length, character = 1, "\ufffd"
        made.append((character, place, min(place + length, len(data))))
        place += length
    return made


def _length_of_character(lead: int) -> int:
    return 1 if lead < 0xC0 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4


def _plain_form(character: str) -> str:
    if character.isascii():
        return character if " " <= character <= "~" or character in _KEPT_CONTROLS else ""
    if character in _HIDDEN_MARKS or "\ufe00" <= character <= "\ufe0f" or "\ud800" <= character <= "\udfff":
        return ""
    category = unicodedata.category(character)
    if category == "Nd":
        return str(unicodedata.decimal(character))
    return _BY_CATEGORY[category] if category in _BY_CATEGORY else unicodedata.normalize("NFKC", character)
