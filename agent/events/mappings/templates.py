r"""Compile templates: ``"{user.username}"``, ``"kubernetes.{verb}"``, ``"{a|b|'text'}"``.

A template that is one placeholder keeps the value's type; any other makes text, and is missing if one of its parts is.

Invariants: a template is checked when it is compiled; filling it in never raises. Pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from .values import Getter, Root, as_text, constant, first_of, getter, split_path

if TYPE_CHECKING:
    from .place import Place

_PIECE: Final = re.compile(r"\{\{|\}\}|\{(?P<inside>[^{}]*)\}|(?P<stray>[{}])|(?P<text>[^{}]+)")
_ALTERNATIVE: Final = re.compile(r"""\s*(?:'(?P<constant>[^']*)'|(?P<path>(?:"[^"]*"|[^"'|])+?))\s*(?:\||\Z)""")


def compile_template(text: str, place: Place) -> Getter:
    """Return the function that fills a template in.

    Raises:
        ConfigError: A brace is alone, or what is in braces is no path.
    """
    parts: list[str | Getter] = []
    for piece in _PIECE.finditer(text):
        if piece["stray"]:
            raise place.error(f"has a {piece['stray']} alone", "Write {{ and }} for braces.")
        if piece["inside"] is not None:
            parts.append(_placeholder(piece["inside"], place))
        else:
            parts.append(piece["text"] or piece[0][0])
    if len(parts) == 1 and not isinstance(parts[0], str):
        return parts[0]
    if all(isinstance(part, str) for part in parts):
        return constant("".join(str(part) for part in parts))
    return _joined(parts)


def _joined(parts: list[str | Getter]) -> Getter:
    if len(parts) == 2:
        before, get = other, behind = parts
        if isinstance(before, str) and not isinstance(get, str):
            return _between(before, get, "")
        if isinstance(behind, str) and not isinstance(other, str):
            return _between("", other, behind)
    if len(parts) == 3:
        left, between, right = parts
        if isinstance(between, str) and not isinstance(left, str) and not isinstance(right, str):
            return _pair(left, between, right)

    def joined(root: Root) -> Any:
        texts: list[str] = []
        for part in parts:
            if isinstance(part, str):
                texts.append(part)
                continue
            value = part(root)
            if value is None:
                return None
            texts.append(value if isinstance(value, str) else as_text(value))
        return "".join(texts)

    return joined


def _between(before: str, get: Getter, behind: str) -> Getter:
    def between(root: Root) -> Any:
        value = get(root)
        return None if value is None else f"{before}{value if value.__class__ is str else as_text(value)}{behind}"

    return between


def _pair(left: Getter, between: str, right: Getter) -> Getter:
    def pair(root: Root) -> Any:
        one = left(root)
        if one is None:
            return None
        two = right(root)
        if two is None:
            return None
        return f"{one if one.__class__ is str else as_text(one)}{between}{two if two.__class__ is str else as_text(two)}"

    return pair


def _placeholder(inside: str, place: Place) -> Getter:
    alternatives: list[Getter] = []
    position = 0
    while position < len(inside) or not alternatives:
        found = _ALTERNATIVE.match(inside, position)
        if found is None or found.end() == position:
            raise place.error(
                f"{{{inside}}} is no placeholder", "Paths and 'texts', the first that is there: {user.name|user.id|'nobody'}."
            )
        alternatives.append(
            constant(found["constant"] or None) if found["constant"] is not None else getter(split_path(found["path"], place))
        )
        position = found.end()
    if inside.rstrip().endswith("|"):
        raise place.error(f"{{{inside}}} ends in a |")
    return first_of(alternatives)
