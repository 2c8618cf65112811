"""Compile conditions: ``{verb: [create, update], responseStatus.code: {at_least: 400}}``.

All tests of a condition have to hold; ``any``, ``all`` and ``not`` put conditions together. Values are compared as text, so that 403 is
403 whether a format writes it as a number or as text.

Invariants: a condition is checked when it is compiled; judging a line by it never raises. Pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from ..reading import MAX_INTEGER
from .patterns import Pattern
from .values import Getter, Root, as_text, getter, plan_of, split_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .place import Place

Condition: TypeAlias = "Callable[[Root], bool]"
Test: TypeAlias = "Callable[[Any], bool]"

_NUMBER: Final = re.compile(r"[+-]?\d{1,18}(?:\.\d{1,18})?", re.ASCII)
_SURELY_SAFE_DIGITS: Final = 15
"""A number of no more digits is below `MAX_INTEGER`."""
TESTS: Final = ("present", "starts", "ends", "contains", "matches", "at_least", "below", "not")
_TOGETHER: Final = ("any", "all", "not")


class Equalities(NamedTuple):
    """The values one path may have, of a condition that holds for none other.

    Attributes:
        path: The path.
        values: Them, as text.
    """

    path: str
    values: frozenset[str]


def compile_condition(data: object, place: Place) -> Condition:
    """Return the function that judges a line.

    Args:
        data: The condition as the file has it.
        place: Where.

    Raises:
        ConfigError: It is none.
    """
    tests: list[Condition] = []
    for name, value in place.mapping(data).items():
        at = place.at(name)
        if name in _TOGETHER:
            tests.append(_together(name, value, at))
        else:
            tests.append(_compile_test_of(getter(split_path(name, at)), value, at))
    if not tests:
        raise place.error("is empty", "Leave it out if it always holds.")
    return _all_of(tests)


def equalities(data: object) -> list[Equalities]:
    """Return what a condition demands of single paths by equality; empty if nothing, or if it is no condition."""
    found: list[Equalities] = []
    for name, value in data.items() if isinstance(data, dict) else ():
        if name in _TOGETHER:
            continue
        values = value if isinstance(value, list) else [value]
        if values and not any(isinstance(one, (dict, list)) or one is None for one in values):
            found.append(Equalities(str(name), frozenset(map(_canonical, values))))
    return found


def only_equality(data: object) -> Equalities | None:
    """Return what a condition demands if that is of a single path, by equality, and nothing besides."""
    found = equalities(data)
    return found[0] if found and isinstance(data, dict) and len(data) == 1 else None


def canonical(value: Any) -> str:
    """Return the text that a value is compared by."""
    return value if value.__class__ is str else _canonical(value)


def _canonical(value: object) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) <= MAX_INTEGER:
        value = int(value)
    return as_text(value)


def _all_of(tests: Sequence[Condition]) -> Condition:
    """Return the condition that holds if all do."""
    if len(tests) == 1:
        return tests[0]
    one, two, *rest = tests
    if not rest:
        return lambda root: one(root) and two(root)

    def hold(root: Root) -> bool:
        for test in tests:  # noqa: SIM110 -- a generator costs more than most tests
            if not test(root):
                return False
        return True

    return hold


def _any_of(conditions: Sequence[Condition]) -> Condition:
    def holds(root: Root) -> bool:
        for condition in conditions:  # noqa: SIM110 -- a generator costs more than most conditions
            if condition(root):
                return True
        return False

    return holds


def _compile_test_of(get: Getter, value: object, place: Place) -> Condition:
    path = plan_of(get).path
    if isinstance(value, dict):
        if value.keys() == {"present"} and len(path) in {1, 2}:
            return _present(path, wanted=place.at("present").flag(value["present"]))
        test = _compile_test(value, place)
        return lambda root: test(get(root))
    allowed = _allowed(value, place)
    if len(path) in {1, 2}:
        return _equal(path, allowed - {""})

    # Most conditions are of this kind, and a call less is felt.
    def equals(root: Root) -> bool:
        found = get(root)
        return found is not None and (found if found.__class__ is str else _canonical(found)) in allowed

    return equals


def _equal(path: tuple[str, ...], allowed: frozenset[str]) -> Condition:
    """Return the condition that what stands at a path of one name or two is one of some values, none of them empty."""
    if len(path) == 1:
        (only,) = path

        def equal_itself(root: Root) -> bool:
            found = root.get(only)
            return found is not None and (found if found.__class__ is str else _canonical(found)) in allowed

        return equal_itself
    name, last = path

    def equal(root: Root) -> bool:
        inner = root.get(name)
        if inner.__class__ is not dict:
            return False
        found = inner.get(last)
        return found is not None and (found if found.__class__ is str else _canonical(found)) in allowed

    return equal


def _present(path: tuple[str, ...], *, wanted: bool) -> Condition:
    if len(path) == 1:
        (only,) = path

        def present_itself(root: Root) -> bool:
            found = root.get(only)
            return (found is not None and found != "") is wanted

        return present_itself
    name, last = path

    def present(root: Root) -> bool:
        inner = root.get(name)
        if inner.__class__ is not dict:
            return not wanted
        found = inner.get(last)
        return (found is not None and found != "") is wanted

    return present


def _allowed(value: object, place: Place) -> frozenset[str]:
    """Return the texts of one value, or of a list of them."""
    if not isinstance(value, list):
        return frozenset({_canonical(_scalar(value, place))})
    allowed = frozenset(_canonical(_scalar(element, at)) for at, element in place.elements(value))
    if not allowed:
        raise place.error("is an empty list", "No value would do.")
    return allowed


def _together(name: str, value: object, place: Place) -> Condition:
    if name == "not":
        refused = compile_condition(value, place)
        return lambda root: not refused(root)
    conditions = [compile_condition(element, at) for at, element in place.elements(value)]
    if not conditions:
        raise place.error("is an empty list")
    return _any_of(conditions) if name == "any" else _all_of(conditions)


def _compile_test(value: object, place: Place) -> Test:
    if isinstance(value, dict):
        if value.keys() == {"present", "not"} and value["present"] is True and not isinstance(value["not"], dict):
            # What is there, but is none of some values: of some formats, every other field is asked for so.
            refused = _allowed(value["not"], place.at("not"))
            return lambda found: found is not None and (found if found.__class__ is str else _canonical(found)) not in refused
        tests = [_special(name, operand, place.at(name)) for name, operand in place.mapping(value, TESTS).items()]
        if not tests:
            raise place.error("is empty", f"One of {', '.join(TESTS)}.")
        return _all_of(tests)
    allowed = _allowed(value, place)
    return lambda found: found is not None and (found if found.__class__ is str else _canonical(found)) in allowed


def _scalar(value: object, place: Place) -> object:
    if value is None or isinstance(value, (dict, list)):
        raise place.error("must be a value to compare with", "For what must be missing: {present: false}.")
    return value


def _special(name: str, operand: object, place: Place) -> Test:
    if name == "present":
        wanted = place.flag(operand)
        return lambda found: (found is not None) is wanted
    if name == "not":
        refused = _compile_test(operand, place)
        return lambda found: not refused(found)
    if name == "matches":
        matches = Pattern(operand, place, captures=False).matches
        return lambda found: found is not None and matches(canonical(found).encode("utf-8", "surrogatepass"))
    if name in {"at_least", "below"}:
        return _compared(name, operand, place)
    return _worded(name, place.texts(operand))


def _worded(name: str, texts: tuple[str, ...]) -> Test:
    def contains(found: Any) -> bool:
        if found is None:
            return False
        if isinstance(found, list):
            return any(canonical(element) in texts for element in found)
        said = found if found.__class__ is str else _canonical(found)
        for text in texts:  # noqa: SIM110 -- a generator costs more than the search
            if text in said:
                return True
        return False

    if name == "contains":
        return contains
    if name == "starts":
        return lambda found: found is not None and (found if found.__class__ is str else _canonical(found)).startswith(texts)
    return lambda found: found is not None and (found if found.__class__ is str else _canonical(found)).endswith(texts)


def _compared(name: str, operand: object, place: Place) -> Test:
    if not isinstance(operand, (int, float)) or isinstance(operand, bool):
        raise place.error("must be a number")

    if name == "at_least":
        return lambda found: (number := as_number(found)) is not None and number >= operand
    return lambda found: (number := as_number(found)) is not None and number < operand


def as_number(value: Any) -> int | float | None:
    """Return a value as a number; None if it is none, or too long to be one that every reader holds."""
    if value.__class__ is str and len(value) <= _SURELY_SAFE_DIGITS and value.isdecimal() and value.isascii():
        return int(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        return None
    number = float(value) if "." in value else int(value)
    return number if abs(number) <= MAX_INTEGER else None
