"""Parse a line into values: the steps of a mapping's ``parse``.

Invariants: a step is checked when it is compiled; any line gives values or a rejection, never an exception; the time is linear in the
line. What a step does not find is missing, and never something that an earlier step, or the line itself, put there. Pure.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ..verdict import Reason, Rejection, rejection
from .documents import read_document
from .expressions import MOMENT, OBSERVED_AT
from .patterns import Patterns
from .syslog import SyslogHeader
from .times import parse_zone
from .values import ELEMENT, Root, as_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .expressions import Compiler
    from .place import Place
    from .values import Getter

HEADER: Final = "header"
MESSAGE: Final = "message"
LINE: Final = "@line"
BESIDE: Final = "@header"
"""Under this name a root holds the header that a source had beside the message; None if it had none."""
_RESERVED: Final = frozenset({LINE, BESIDE, HEADER, OBSERVED_AT, MOMENT, ELEMENT})
_KEYS: Final = ("as", "of", "into", "optional", "patterns", "columns", "delimiter", "by_line", "quotes", "header", "zone")
_KINDS: Final = ("json", "key_value", "csv", "regex")
_PAIR: Final = re.compile(
    r"""(?P<key>[^\s='"]{1,256})=(?:"(?P<double>(?:[^"\\]|\\.)*+)"|'(?P<single>[^']*+)'|(?P<plain>[^\s]*+))""", re.DOTALL
)
_QUOTED_PAIR: Final = re.compile(r"""(?P<key>[^\s='"]{1,256})=(?P<value>"[^"]*+"|'[^']*+'|[^\s]*+)""", re.DOTALL)
_ESCAPED: Final = re.compile(r'\\(["\\])')
_FIELD_CHARS: Final = 4 << 20
_MAX_PAIRS: Final = 2000
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Step:
    """Be one step.

    Attributes:
        run: Puts what it finds into a line's root; returns why it cannot.
        optional: Whether the line is read on if it cannot.
    """

    run: Callable[[Root], Rejection | None]
    optional: bool = False


def compile_steps(data: object, place: Place, compiler: Compiler) -> tuple[bool, list[Step]]:
    """Compile the steps of a mapping.

    Returns:
        Whether the line is a JSON object that becomes the root, and the further steps.

    Raises:
        ConfigError: A step is wrong.
    """
    elements = list(place.elements(data))
    if not elements:
        raise place.error("is empty", f"At least one step: {{as: {_KINDS[0]}}}.")
    is_document = isinstance(elements[0][1], dict) and elements[0][1] == {"as": "json"}
    return is_document, [_compile(step, at, compiler) for at, step in elements[is_document:]]


def _compile(data: object, place: Place, compiler: Compiler) -> Step:
    members = place.mapping(data, _KEYS)
    if "header" in members:
        place.mapping(members, ("header", "zone"))
        if members["header"] != "syslog":
            raise place.at("header").error("must be syslog")
        return Step(_header(members, place, compiler.zone))
    kind = members.get("as")
    if kind not in _KINDS:
        raise place.at("as").error(f"must be one of {', '.join(_KINDS)}", "Or {header: syslog} takes a header off.")
    optional = place.at("optional").flag(members.get("optional", False))
    into = members.get("into")
    if into is not None and not _NAME.fullmatch(place.at("into").text(into)):
        raise place.at("into").error("must be a plain name")
    of = compiler.compile(members.get("of", "{" + LINE + "}"), place.at("of"))
    allowed = {"json": (), "key_value": ("by_line", "quotes"), "csv": ("columns", "delimiter"), "regex": ("patterns",)}[str(kind)]
    place.mapping(members, ("as", "of", "into", "optional", *allowed))
    parse: Callable[[str], dict[str, Any] | Rejection | None]
    if kind == "regex":
        patterns = Patterns([element for _, element in place.at("patterns").elements(members.get("patterns"))], place.at("patterns"))
        parse = patterns.first
    elif kind == "csv":
        parse = _csv(members, place)
    elif kind == "key_value":
        parse = _key_value(members, place)
    else:
        parse = _json
    return Step(_run(of, parse, str(into) if into is not None else None, str(kind), optional=optional), optional)


def _run(
    of: Getter, parse: Callable[[str], dict[str, Any] | Rejection | None], into: str | None, kind: str, *, optional: bool
) -> Callable[[Root], Rejection | None]:
    failed = rejection(Reason.NOT_MAPPED, kind if into is None else f"{kind} into {into}")

    def run(root: Root) -> Rejection | None:
        value = of(root)
        found: dict[str, Any] | Rejection | None
        if value is None:
            found = None
        elif value.__class__ is dict and kind == "json":
            found = dict(value)
        else:
            found = parse(value if value.__class__ is str else as_text(value))
        if found is None or isinstance(found, Rejection):
            if into is not None:
                root[into] = {}
            return None if optional else (found or failed)
        if into is None:
            if not _RESERVED.isdisjoint(found):
                # What the engine, or a header's step, put there is not the line's to say.
                found = {name: member for name, member in found.items() if name not in _RESERVED}
            root.update(found)
        else:
            root[into] = found
        return None

    return run


def _header(members: dict[str, object], place: Place, otherwise: str) -> Callable[[Root], Rejection | None]:
    zone = members.get("zone", otherwise)
    header = SyslogHeader(parse_zone(place.at("zone").text(zone), place.at("zone")), place)

    def run(root: Root) -> Rejection | None:
        line = root[LINE]
        beside = root.get(BESIDE)
        if beside is not None:
            root[HEADER], root[MESSAGE] = beside, line
        else:
            root[HEADER], root[MESSAGE] = header.take(line, root[MOMENT])
        return None

    return run


def _json(text: str) -> dict[str, Any] | Rejection:
    return read_document(text.encode("utf-8", "surrogatepass"))


def _csv(members: dict[str, object], place: Place) -> Callable[[str], dict[str, Any] | None]:
    columns = place.at("columns").texts(members.get("columns"))
    # The limit is the interpreter's; half the longest statement that a line may hold is no reason to refuse it.
    csv.field_size_limit(max(csv.field_size_limit(), _FIELD_CHARS))
    delimiter = members.get("delimiter", ",")
    if not isinstance(delimiter, str) or len(delimiter) != 1:
        raise place.at("delimiter").error("must be one character")

    def parse(text: str) -> dict[str, Any] | None:
        try:
            rows = list(csv.reader([text], delimiter=delimiter, strict=True))
        except csv.Error:
            return None
        if len(rows) != 1:
            return None
        return {name: value for name, value in zip(columns, rows[0], strict=False) if value} | {"columns": len(rows[0])}

    return parse


def _key_value(members: dict[str, object], place: Place) -> Callable[[str], dict[str, Any] | None]:
    quotes = members.get("quotes", "remove")
    if quotes not in {"keep", "remove"}:
        raise place.at("quotes").error("must be keep or remove")
    read = partial(pairs, keep_quotes=quotes == "keep")
    return _by_line(members["by_line"], place.at("by_line"), read) if "by_line" in members else read


def pairs(text: str, *, keep_quotes: bool = False) -> dict[str, Any] | None:
    """Return the pairs of a text such as ``a=b c="d e"``; None if it has none.

    The first of equal keys keeps its name, later ones get ``_2``, ``_3`` … behind it.

    Args:
        text: The text.
        keep_quotes: Values keep the quotation marks around them, and nothing is an escape between these, as the kernel's audit
            system writes: there, quotes tell a text from hex digits.
    """
    read: list[tuple[str, str]]
    if keep_quotes:
        read = _QUOTED_PAIR.findall(text)
    elif "\\" in text:
        read = [(key, plain or single or _ESCAPED.sub(r"\1", double)) for key, double, single, plain in _PAIR.findall(text)]
    else:
        read = [(key, plain or single or double) for key, double, single, plain in _PAIR.findall(text)]
    if len(read) > _MAX_PAIRS:
        return None
    found: dict[str, Any] = dict(read)
    if len(found) < len(read):
        found = _numbered(read)
    return found or None


def _numbered(read: Sequence[tuple[str, str]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    counts: dict[str, int] = {}
    for key, value in read:
        name, number = key, counts.get(key, 2)
        # A key may itself look like the second of another; to begin where the last of this one was keeps a line of equal keys linear.
        while name in found:
            name, number = f"{key}_{number}", number + 1
        counts[key] = number
        found[name] = value
    return found


def _by_line(data: object, place: Place, read: Callable[[str], dict[str, Any] | None]) -> Callable[[str], dict[str, Any] | None]:
    members = place.mapping(data, ("field",))
    field = place.at("field").text(members.get("field"))

    def parse(text: str) -> dict[str, Any] | None:
        found: dict[str, Any] = {}
        for line in text.split("\n"):
            said = read(line)
            kind = said.get(field) if said else None
            if not isinstance(kind, str) or not kind:
                continue
            found.setdefault(kind, said)
            found.setdefault(f"{kind}_all", []).append(said)
        return found or None

    return parse
