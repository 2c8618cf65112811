"""Compile expressions: what a field of an event is made of.

An expression is a number, true or false, a template (`templates`), or a mapping with one key that says what is done. What each does
is in docs/mappings.md.

Invariants: an expression is checked when it is compiled; computing it never raises, and what it cannot compute is missing. The work is
bounded by the line's size. Pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from .conditions import Equalities, as_number, canonical, compile_condition, only_equality
from .patterns import Pattern
from .templates import compile_template
from .times import TimeReader, parse_zone, zone_of
from .values import ELEMENT, Getter, Root, as_text, constant, first_of, getter, split_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import tzinfo

    from .place import Place

OBSERVED_AT: Final = "@observed_at"
MOMENT: Final = "@moment"
"""Under this name a line's root holds when it was read, as a `datetime`."""
MAX_ELEMENTS: Final = 1000
MAX_DEPTH: Final = 16
_PERCENT: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_REPLACEMENT: Final = re.compile(r"(?:\\[\d\\]|[^\\])*", re.DOTALL)
_REFERENCE: Final = re.compile(r"\\(?:\\|(\d))")
_HEX: Final = re.compile(r"(?:[0-9A-Fa-f]{2})+")

Lookups = dict[str, dict[str, Any]]


class Compiler:
    """Compile the expressions of one mapping."""

    def __init__(self, lookups: Lookups, zones: Mapping[str, tzinfo], zone: str = "UTC") -> None:
        """Keep what they may refer to.

        Args:
            lookups: Tables by name.
            zones: Time zones by the abbreviations that stand in times.
            zone: What times are in that state no zone, where the file does not say.
        """
        self.zone = zone
        self._lookups = lookups
        self._zones = dict(zones)

    def compile(self, data: object, place: Place, depth: int = 0) -> Getter:
        """Return the function that computes an expression.

        Raises:
            ConfigError: It is none.
        """
        if depth > MAX_DEPTH:
            raise place.error(f"is nested deeper than {MAX_DEPTH}")
        if isinstance(data, str):
            return compile_template(data, place)
        if isinstance(data, (bool, int, float)):
            return constant(data)
        if data is None:
            raise place.error("is empty", 'Leave it out; a text that is a template needs quotes: "{user}".')
        members = place.mapping(data)
        names = [name for name in members if name in _DO]
        # `split` and others take `by`, `of` and so on beside them; those that are both are never the first.
        if not names:
            raise place.error("is no expression", f"A text, a number, or a mapping with one of {', '.join(_DO)}.")
        name = names[0]
        known, make = _DO[name]
        place.mapping(members, (name, *known))
        return make(_Call(self, members, place, depth), name)

    def lookup(self, data: object, place: Place) -> dict[str, Any]:
        """Return a table, by name or as it stands."""
        if isinstance(data, str):
            if data not in self._lookups:
                raise place.error(f"there is no lookup {data!r}", f"Known are {', '.join(self._lookups) or 'none'}.")
            return self._lookups[data]
        return read_lookup(data, place)

    def times(self, members: Mapping[str, object], place: Place) -> TimeReader:
        """Return the reader of a time's formats."""
        given = members.get("format", "rfc3339")
        formats = place.at("format").texts(given)
        zone = members.get("zone", self.zone)
        fixed = isinstance(zone, str) and "{" not in zone
        return TimeReader(formats, parse_zone(str(zone) if fixed else "UTC", place.at("zone")), self._zones, place.at("format"))


def read_lookup(data: object, place: Place) -> dict[str, Any]:
    """Return a table of texts to values.

    Raises:
        ConfigError: It is none, or a value is neither text, number nor flag.
    """
    if not isinstance(data, dict):
        raise place.error("must be a mapping of texts to values")
    table: dict[str, Any] = {}
    for name, value in data.items():
        if not isinstance(value, (str, int, float, bool)) or not isinstance(name, (str, int, float, bool)):
            raise place.at(name).error("must be a text, a number, true or false")
        table[canonical(name)] = value
    return table


class _Call:
    """Be one mapping that is an expression, while it is compiled."""

    def __init__(self, compiler: Compiler, members: dict[str, object], place: Place, depth: int) -> None:
        self.compiler = compiler
        self.members = members
        self.place = place
        self._depth = depth

    def get(self, name: str) -> Getter:
        if name not in self.members:
            raise self.place.error(f"{name} is missing")
        return self.compiler.compile(self.members[name], self.place.at(name), self._depth + 1)

    def get_list(self, name: str) -> list[Getter]:
        return [self.compiler.compile(element, at, self._depth + 1) for at, element in self.place.at(name).elements(self.members[name])]

    def nested(self, data: object, place: Place) -> Getter:
        return self.compiler.compile(data, place, self._depth + 1)


def _first(call: _Call, name: str) -> Getter:
    return first_of(call.get_list(name))


def _lookup(call: _Call, name: str) -> Getter:
    table = call.compiler.lookup(call.members[name], call.place.at(name))
    of = call.get("of")
    default = call.get("default") if "default" in call.members else None

    def lookup(root: Root) -> Any:
        value = of(root)
        found = None if value is None else table.get(value if value.__class__ is str else canonical(value))
        return default(root) if found is None and default is not None else found

    return lookup


def _cases(call: _Call, name: str) -> Getter:
    cases: list[tuple[Callable[[Root], bool], Getter]] = []
    compared: list[Equalities | None] = []
    for at, case in call.place.at(name).elements(call.members[name]):
        members = at.mapping(case, ("when", "then"))
        if set(members) != {"when", "then"}:
            raise at.error("needs when and then")
        cases.append((compile_condition(members["when"], at.at("when")), call.nested(members["then"], at.at("then"))))
        compared.append(only_equality(members["when"]))
    otherwise = call.get("otherwise") if "otherwise" in call.members else constant(None)
    paths = {None if one is None else one.path for one in compared}
    if len(cases) > 1 and len(paths) == 1 and None not in paths:
        return _by_value([one for one in compared if one is not None], [then for _, then in cases], otherwise, call.place)
    if len(cases) == 1:
        ((only, given),) = cases
        if "otherwise" not in call.members:
            return lambda root: given(root) if only(root) else None
        return lambda root: given(root) if only(root) else otherwise(root)

    def choose(root: Root) -> Any:
        for condition, then in cases:
            if condition(root):
                return then(root)
        return otherwise(root)

    return choose


def _by_value(compared: Sequence[Equalities], thens: Sequence[Getter], otherwise: Getter, place: Place) -> Getter:
    """Return the function for cases that all compare one path: a look-up."""
    table: dict[str, Getter] = {}
    for equality, then in zip(compared, thens, strict=True):
        for value in equality.values:
            table.setdefault(value, then)
    get = getter(split_path(compared[0].path, place))

    def choose(root: Root) -> Any:
        value = get(root)
        then = otherwise if value is None else table.get(value if value.__class__ is str else canonical(value), otherwise)
        return then(root)

    return choose


def _time(call: _Call, name: str) -> Getter:
    of = call.get(name)
    reader = call.compiler.times(call.members, call.place)
    zone = call.members.get("zone", call.compiler.zone)
    if isinstance(zone, str) and "{" not in zone:
        return lambda root: None if (value := of(root)) is None else reader.read(value, root[MOMENT])
    named = call.get("zone")

    def in_zone(root: Root) -> Any:
        value, given = of(root), named(root)
        known = zone_of(given) if isinstance(given, str) else None
        return None if value is None or known is None else reader.read(value, root[MOMENT], known)

    return in_zone


def _of_text(change: Callable[[str], Any]) -> Callable[[_Call, str], Getter]:
    """Return the maker of an expression that changes a text; other values are made text first."""

    def make(call: _Call, name: str) -> Getter:
        of = call.get(name)

        def changed(root: Root) -> Any:
            value = of(root)
            return None if value is None else change(value if value.__class__ is str else as_text(value)) or None

        return changed

    return make


def _number(call: _Call, name: str) -> Getter:
    of = call.get(name)
    return lambda root: as_number(of(root))


def _trim(call: _Call, name: str) -> Getter:
    of = call.get(name)
    characters = call.place.at("of").text(call.members["of"]) if "of" in call.members else None
    return lambda root: None if (value := of(root)) is None else as_text(value).strip(characters) or None


def _split(call: _Call, name: str) -> Getter:
    of, by = call.get(name), call.place.at("by").text(call.members.get("by", ","))
    take = call.members.get("take")
    index = None if take is None else call.place.at("take").whole(take, -MAX_ELEMENTS, MAX_ELEMENTS)

    def begin(root: Root) -> Any:
        value = of(root)
        return None if value is None else as_text(value).partition(by)[0].strip() or None

    if index == 0:
        return begin

    def split(root: Root) -> Any:
        value = of(root)
        if value is None:
            return None
        parts = [part.strip() for part in as_text(value).split(by, MAX_ELEMENTS)]
        if index is None:
            return [part for part in parts if part] or None
        return parts[index] or None if -len(parts) <= index < len(parts) else None

    return split


def _match(call: _Call, name: str) -> Getter:
    of, pattern = call.get(name), Pattern(call.members.get("pattern"), call.place.at("pattern"))
    group = 1 if pattern.groups else 0

    def match(root: Root) -> Any:
        value = of(root)
        if value is None:
            return None
        text = value if value.__class__ is str else as_text(value)
        data = text.encode("utf-8", "surrogatepass")
        spans = pattern.spans(data)
        if spans is None:
            return None
        start, end = spans[group]
        if end <= start:
            return None
        # A byte of ASCII is a character.
        return text[start:end] if len(data) == len(text) else data[start:end].decode("utf-8", "backslashreplace")

    return match


def _replace(call: _Call, name: str) -> Getter:
    of, pattern = call.get(name), Pattern(call.members.get("pattern"), call.place.at("pattern"))
    given = call.members.get("with", "")
    if not isinstance(given, str):
        raise call.place.at("with").error("must be text")
    if not _REPLACEMENT.fullmatch(given) or any(int(group[1]) > pattern.groups for group in _REFERENCE.finditer(given) if group[1]):
        raise call.place.at("with").error("refers to a group that is not there", r"\1 is the first group; write \\ for a backslash.")
    replacement: list[bytes | int] = []
    for literal, group in re.findall(r"((?:[^\\]|\\\\)+)|\\(\d)", given, re.DOTALL):
        replacement.append(int(group) if group else literal.replace("\\\\", "\\").encode())

    def replace(root: Root) -> Any:
        value = of(root)
        if value is None:
            return None
        data = as_text(value).encode("utf-8", "surrogatepass")
        made = pattern.replaced(data, replacement)
        return value if made is data else made.decode("utf-8", "backslashreplace") or None

    return replace


def _list(call: _Call, name: str) -> Getter:
    members = call.get_list(name)
    return lambda root: [value for value in (member(root) for member in members) if value is not None] or None


def _each(call: _Call, name: str) -> Getter:
    of, get = call.get(name), call.get("get")

    def each(root: Root) -> Any:
        elements = of(root)
        if not isinstance(elements, list):
            return None
        outer = root.get(ELEMENT)
        try:
            found: list[Any] = []
            for element in elements[:MAX_ELEMENTS]:
                root[ELEMENT] = element
                value = get(root)
                if value is not None:
                    found.append(value)
        finally:
            root[ELEMENT] = outer
        return found or None

    return each


def _join(call: _Call, name: str) -> Getter:
    of, by = call.get(name), call.members.get("by", ", ")
    if not isinstance(by, str):
        raise call.place.at("by").error("must be text")

    def join(root: Root) -> Any:
        value = of(root)
        if not isinstance(value, list):
            return value
        return by.join(map(as_text, value)) or None

    return join


def _object(call: _Call, name: str) -> Getter:
    at = call.place.at(name)
    members = [(key, call.nested(value, at.at(key))) for key, value in at.mapping(call.members[name]).items()]

    def build(root: Root) -> Any:
        return {key: value for key, get in members if (value := get(root)) is not None} or None

    return build


def _unhex(text: str) -> str:
    """Decode hex digits, as the audit system writes what might be misread; any other text is what it says."""
    if not _HEX.fullmatch(text):
        return text
    return bytes.fromhex(text).replace(b"\0", b" ").decode("utf-8", "backslashreplace").rstrip()


def _percent_decoded(text: str) -> str:
    """Undo percent encoding as a form's, where a plus is a blank; bytes that are no text become escapes."""
    data = text.replace("+", " ").encode("utf-8", "surrogatepass")
    return _PERCENT.sub(lambda found: bytes.fromhex(found[1].decode()), data).decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def _unquote(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


_DO: Final[dict[str, tuple[tuple[str, ...], Callable[[_Call, str], Getter]]]] = {
    "first": ((), _first),
    "lookup": (("of", "default"), _lookup),
    "cases": (("otherwise",), _cases),
    "time": (("format", "zone"), _time),
    "text": ((), _of_text(str)),
    "number": ((), _number),
    "lower": ((), _of_text(str.lower)),
    "upper": ((), _of_text(str.upper)),
    "trim": (("of",), _trim),
    "split": (("by", "take"), _split),
    "match": (("pattern",), _match),
    "replace": (("pattern", "with"), _replace),
    "list": ((), _list),
    "each": (("get",), _each),
    "join": (("by",), _join),
    "hex": ((), _of_text(_unhex)),
    "unquote": ((), _of_text(_unquote)),
    "url": ((), _of_text(_percent_decoded)),
    "object": ((), _object),
}
"""What can be done: the further keys it takes, and what compiles it."""

NAMES: Final = tuple(_DO)
"""The names of everything that can be done."""
