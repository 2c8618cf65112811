"""Find numbers that identify: payment cards (Luhn), IBANs (mod 97), US social security numbers (their shape).

Digits may be written in groups, with a blank, hyphen, underscore or plus between them. A group is taken whole or not at all: digits that
are part of a longer number, of a decimal fraction or of a word (hexadecimal digests, ULIDs) are not a card.

Invariants: linear in the text. This module is pure, and needs no regular expressions of others.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .spans import Span

_RUN: Final = re.compile(r"[0-9]+(?:[ +_-][0-9]+)*")
_GROUP: Final = re.compile(r"[0-9]+")
_MIN_CARD: Final = 13
_MAX_CARD: Final = 19
_IBAN_HEAD: Final = re.compile(r"[A-Za-z]{2}[0-9]{2}")
_IBAN_MIN: Final = 15
# ISO 13616 registry: the length of an IBAN by country.
_IBAN_LENGTHS: Final = {
    country: int(length)
    for length, countries in {
        "15": "NO", "16": "BE", "18": "DK FI FO GL NL SD FK", "19": "MK SI", "20": "AT BA EE KZ LT LU MN XK", "21": "CH HR LI LV",
        "22": "BG BH CR DE GB GE IE ME RS VA", "23": "AE GI IL IQ OM SO TL", "24": "AD CZ ES MD PK RO SA SE SK TN VG", "25": "LY PT ST",
        "26": "IS TR", "27": "BI DJ FR GR IT MC MR SM", "28": "AL AZ BY CY DO GT HU LB NI PL SV", "29": "BR EG PS QA UA",
        "30": "JO KW MU YE", "31": "MT SC", "32": "LC", "33": "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip


def cards(text: str) -> list[Span]:
    """Find card numbers: 13 to 19 digits, a prefix that networks issue with that length (ISO/IEC 7812), and the Luhn digit."""
    found: list[Span] = []
    for run in _RUN.finditer(text):
        if run.end() - run.start() >= _MIN_CARD:
            found += _cards_in(text, run.start(), run.end())
    return found


def _cards_in(text: str, start: int, end: int) -> Iterator[Span]:
    """Find cards among the groups of a run of digits."""
    groups = [found.span() for found in _GROUP.finditer(text, start, end)]
    digits = "".join(text[first:last] for first, last in groups)
    values = list(map(int, digits))
    # Both sums of all beginnings, every other digit doubled, so that any window's check is one subtraction.
    sums = ([0], [0])
    for index, value in enumerate(values):
        doubled = value * 2 - 9 if value > 4 else value * 2
        for parity in (0, 1):
            sums[parity].append(sums[parity][-1] + (doubled if index % 2 == parity else value))
    ends = [0]
    for first, last in groups:
        ends.append(ends[-1] + last - first)
    done = 0
    for index in range(len(groups)):
        if index < done or not _stands_free(text, groups[index][0], -1):
            continue
        for after in range(min(len(groups), index + _MAX_CARD), index, -1):
            length = ends[after] - ends[index]
            if not _MIN_CARD <= length <= _MAX_CARD or not _stands_free(text, groups[after - 1][1], 1):
                continue
            # The digit before the check digit is doubled: the one whose distance from the end is odd.
            parity = ends[after] % 2
            total = sums[parity][ends[after]] - sums[parity][ends[index]]
            if total % 10 == 0 and _is_issued(digits[ends[index] : ends[after]]):
                yield groups[index][0], groups[after - 1][1]
                done = after
                break


def _is_issued(digits: str) -> bool:
    """Tell whether a network issues numbers with this beginning and length."""
    length, two, three, four = len(digits), int(digits[:2]), int(digits[:3]), int(digits[:4])
    if digits[0] == "4":
        return length in {13, 16, 19}
    if 51 <= two <= 55 or 2221 <= four <= 2720 or four == 9792:
        return length == 16
    if two in {34, 37}:
        return length == 15
    if two in {30, 36, 38, 39}:
        return length in {14, 16} and (two != 30 or three <= 305 or three == 309)
    return length >= 16 and (3528 <= four <= 3589 or 2200 <= four <= 2204 or two in {50, 56, 57, 58, 81, 82} or digits[0] == "6")


def _stands_free(text: str, place: int, direction: int) -> bool:
    """Tell whether a group's edge is the edge of a number: no letter beside it, and no decimal point with a digit behind that."""
    beside = place - 1 if direction < 0 else place
    if not 0 <= beside < len(text):
        return True
    if text[beside].isalpha():
        return False
    beyond = beside + direction
    return text[beside] != "." or not 0 <= beyond < len(text) or not text[beyond].isdigit()


def ssns(text: str) -> list[Span]:
    """Find US social security numbers, written 3-2-4 with hyphens or blanks, in ranges that are or may be issued."""
    found: list[Span] = []
    for run in _RUN.finditer(text):
        groups = [group.span() for group in _GROUP.finditer(text, run.start(), run.end())]
        found += (
            (first[0], last[1])
            for first, middle, last in zip(groups, groups[1:], groups[2:], strict=False)
            if _is_ssn(text, (first, middle, last))
        )
    return found


def _is_ssn(text: str, groups: Sequence[Span]) -> bool:
    area, group, serial = (text[start:end] for start, end in groups)
    return (
        (len(area), len(group), len(serial)) == (3, 2, 4)
        and area not in {"000", "666"}
        and area[0] != "9"
        and group != "00"
        and serial != "0000"
        and _stands_free(text, groups[0][0], -1)
        and _stands_free(text, groups[2][1], 1)
    )


def ibans(text: str) -> list[Span]:
    """Find international bank account numbers: the country's length, and the check digits (ISO 7064 MOD 97-10)."""
    found: list[Span] = []
    for head in _IBAN_HEAD.finditer(text):
        start = head.start()
        length = _IBAN_LENGTHS.get(head[0][:2].upper())
        if length is None or (start and text[start - 1].isalnum()):
            continue
        end = _end_of_account(text, start, length)
        if end is not None and _checks(re.sub(r"[ -]", "", text[start:end])):
            found.append((start, end))
    return found


def _end_of_account(text: str, start: int, length: int) -> int | None:
    """Return where an account number of so many letters and digits ends; single blanks or hyphens may stand in it."""
    place, left = start, length
    while left:
        if place >= len(text):
            return None
        if text[place] in " -" and place > start and text[place - 1] not in " -":
            place += 1
        elif text[place].isascii() and text[place].isalnum():
            place, left = place + 1, left - 1
        else:
            return None
    return place if place == len(text) or not text[place].isalnum() else None


def _checks(account: str) -> bool:
    moved = account[4:] + account[:4]
    return len(account) >= _IBAN_MIN and int("".join(str(int(character, 36)) for character in moved)) % 97 == 1
