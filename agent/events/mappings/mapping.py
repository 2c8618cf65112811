"""Map a line that other software wrote to an event of our schema, as a file says.

A mapping is plain data (docs/mappings.md describes the file), compiled once into functions. Mapping a line is: parse it, see whether it
is an audit event at all, find the first rule that holds, compute the rule's fields.

Invariants: any bytes give an event, "not audit" or a rejection, and never an exception; the same line at the same place gives the same
event; the time is linear in the line's size. Validation stays the only judge of what an event is: this module does not ask the
catalog. Pure: no files, no clock.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003 - dataclass annotations are resolved by documentation and type tools
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import orjson

from ..verdict import Reason, Rejection, rejection
from .conditions import Condition, canonical, compile_condition, equalities
from .documents import read_document
from .event import FIELDS, EventMaker, Fields, compile_fields, shortened
from .expressions import MOMENT, OBSERVED_AT, Compiler, read_lookup
from .joining import Joining
from .named import NamedValues
from .place import Place
from .steps import BESIDE, LINE, Step, compile_steps
from .times import parse_zone, write_utc
from .values import Getter, Root, getter, split_path

if TYPE_CHECKING:
    from collections.abc import Mapping as MappingType

    from .header import Header

FORMAT: Final = 1
MAX_RULES: Final = 500
KEYS: Final = (
    "format", "name", "title", "describes", "select", "parse", "join", "let", "pass", "lookups", "zones", "event", "client",
    "rules", "otherwise", "examples",
)  # fmt: skip
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_DISPATCH_LEAST: Final = 4


class Mapped(NamedTuple):
    """Be a line that became an event.

    Attributes:
        event: The event as JSON, one line.
        rule: ``<mapping>/<rule>``.
        client: The fields of this event whose values the client chose; the service does not vouch for them.
        own_id: Its id, which is the first thing in it, was made of the line.
        full: The event with names that are longer than an event's may be, to be redacted in its place; None where it has none, or
            nothing is redacted.
    """

    event: bytes
    rule: str
    client: tuple[str, ...]
    own_id: bool = False
    full: bytes | None = None


class Passed(NamedTuple):
    """Be a line of the format, or of another, that is no audit event."""


PASSED: Final = Passed()
Outcome: TypeAlias = Mapped | Passed | Rejection


class Moment(NamedTuple):
    """Say when and where a line was read.

    Attributes:
        observed_at: When, UTC.
        offset: Where it began in its source, in bytes; part of an event's id where the line has none of its own.
        salt: What tells lines apart where offsets do not.
        header: What the source said beside the line.
        redacts: Something may be removed from what becomes of it, so no hash of anything may stay that could confirm a guess.
    """

    observed_at: datetime
    offset: int = 0
    salt: str = ""
    header: Header | None = None
    redacts: bool = False


@dataclass(frozen=True, slots=True)
class Select:
    """Say which lines may be of the format: those that hold one of some texts, or all.

    Attributes:
        texts: The texts; all lines if there is none.
    """

    texts: tuple[bytes, ...]


class _Rule(NamedTuple):
    name: str
    full_name: str
    holds: Condition | None
    let: tuple[tuple[str, Getter], ...]
    maker: EventMaker
    client: tuple[tuple[str, Getter], ...]


@dataclass(frozen=True)
class Mapping:
    """Be one mapping. Immutable; one serves any number of threads.

    Attributes:
        name: Its name.
        title: What it maps, in a few words.
        describes: The format and its versions.
        select: Which lines may be of the format.
        joining: How lines join to units; None if each is one.
        is_document: Its lines are JSON objects.
        reads_json: Somewhere in its lines is JSON, in which a text may be spelled with escapes.
        rules: The rules' names, in their order.
        examples: The examples as the file has them, unchecked.
    """

    name: str
    title: str
    describes: str
    select: Select
    joining: Joining | None
    rules: tuple[str, ...]
    examples: tuple[object, ...] = field(repr=False)
    where: str = field(repr=False)
    is_document: bool = field(repr=False)
    reads_json: bool = field(repr=False)
    _blank: Root = field(repr=False)
    _needs_line: bool = field(repr=False)
    _steps: tuple[Step, ...] = field(repr=False)
    _let: tuple[tuple[str, Getter], ...] = field(repr=False)
    _pass: tuple[Condition, ...] = field(repr=False)
    _table: tuple[_Rule, ...] = field(repr=False)
    _dispatch: tuple[Getter, MappingType[str, tuple[_Rule, ...]], tuple[_Rule, ...]] | None = field(repr=False)
    _otherwise_passes: bool = field(repr=False)

    @classmethod
    def from_mapping(cls, data: object, where: str, zone: str = "UTC") -> Mapping:
        """Compile a mapping from plain data.

        Args:
            data: What a parser made of the file.
            where: The file's name, for messages.
            zone: What times are in that state no zone, where the file does not say.

        Raises:
            ConfigError: With the file and the dotted key of what is wrong.
        """
        place = Place(where)
        members = place.mapping(data, KEYS)
        if members.get("format") != FORMAT or isinstance(members.get("format"), bool):
            raise place.at("format").error(f"must be {FORMAT}", f"Put `format: {FORMAT}` at the top of the mapping.")
        name = place.at("name").text(members.get("name"))
        if not _NAME.fullmatch(name):
            raise place.at("name").error("must be small letters, digits and hyphens")
        lookups = {
            table: read_lookup(value, place.at("lookups").at(table))
            for table, value in place.at("lookups").mapping(members.get("lookups", {})).items()
        }
        zones = {
            zone: parse_zone(place.at("zones").at(zone).text(value), place.at("zones").at(zone))
            for zone, value in place.at("zones").mapping(members.get("zones", {})).items()
        }
        compiler = Compiler(lookups, zones, zone)
        is_document, steps = compile_steps(members.get("parse"), place.at("parse"), compiler)
        let = NamedValues(members, place.at("let"), compiler)
        table = _compile_rules(members, place, compiler, name, let)
        otherwise = members.get("otherwise", "quarantine")
        if otherwise not in {"quarantine", "pass"}:
            raise place.at("otherwise").error("must be quarantine or pass")
        joins = members.get("join")
        return cls(
            name=name,
            title=place.at("title").text(members.get("title")),
            describes=place.at("describes").text(members.get("describes")),
            select=_compile_select(members.get("select"), place.at("select")),
            joining=None if joins is None else Joining.from_mapping(joins, where, "join"),
            rules=tuple(rule.name for rule in table),
            examples=tuple(element for _, element in place.at("examples").elements(members.get("examples", []))),
            where=where,
            is_document=is_document,
            reads_json=any(isinstance(step, dict) and step.get("as") == "json" for _, step in place.at("parse").elements(members["parse"])),
            _blank=dict.fromkeys((LINE, OBSERVED_AT, MOMENT, BESIDE, *let.names)),
            _needs_line=bool(steps) or LINE in repr([members.get(key) for key in ("let", "event", "rules", "pass")]),
            _steps=tuple(steps),
            _let=let.first,
            _pass=tuple(compile_condition(element, at) for at, element in place.at("pass").elements(members.get("pass", []))),
            _table=table,
            _dispatch=_compile_dispatch(table, members["rules"], place.at("rules")),
            _otherwise_passes=otherwise == "pass",
        )

    def map(self, line: bytes, moment: Moment) -> Outcome:
        """Map one line, or one unit of several.

        Args:
            line: Its bytes without the last newline.
            moment: When and where it was read.

        Returns:
            The event; or that it is none; or why the line cannot be mapped: the detail begins with the mapping's name, and the rule's where
            one was found.
        """
        root = self._parse(line, moment)
        if isinstance(root, Rejection):
            return rejection(root.reason, f"{self.name}: {root.detail}" if root.detail else self.name)
        for name, get in self._let:
            root[name] = get(root)
        for condition in self._pass:
            if condition(root):
                return PASSED
        for rule in self._candidates(root):
            if rule.holds is None or rule.holds(root):
                for name, get in rule.let:
                    root[name] = get(root)
                return self._made(rule, root, line, moment)
        return PASSED if self._otherwise_passes else rejection(Reason.NOT_MAPPED, f"{self.name}: no rule")

    def _parse(self, line: bytes, moment: Moment) -> Root | Rejection:
        root: Root
        if self.is_document:
            document = read_document(line)
            if isinstance(document, Rejection):
                return document
            root = document
            if self._needs_line:
                root[LINE] = _decode(line)
        else:
            # Made with all names there will be, which a dictionary that grows costs more; what is None is missing.
            root = self._blank.copy()
            root[LINE] = _decode(line)
        # Last, so that a line cannot name itself what is put beside it.
        root[OBSERVED_AT] = _written(moment.observed_at)
        root[MOMENT] = moment.observed_at
        root[BESIDE] = None if moment.header is None else _header_values(moment.header)
        for step in self._steps:
            refused = step.run(root)
            if refused is not None:
                return refused
        return root

    def _candidates(self, root: Root) -> tuple[_Rule, ...]:
        if self._dispatch is None:
            return self._table
        get, by_value, others = self._dispatch
        value = get(root)
        return others if value is None else by_value.get(canonical(value), others)

    def _made(self, rule: _Rule, root: Root, line: bytes, moment: Moment) -> Outcome:
        event = rule.maker.make(root, full=moment.redacts)
        if isinstance(event, Rejection):
            return event
        own_id = event["event_id"] is None
        if own_id:
            event["event_id"] = sha256(b"%d\n%b\n%b" % (moment.offset, moment.salt.encode(), line)).hexdigest()[:32]
        try:
            written = orjson.dumps(event)
        except (TypeError, ValueError, RecursionError):
            # A lone surrogate, a number beyond 64 bits or nesting without end, carried over from the line.
            return rejection(Reason.INVALID_VALUE, rule.full_name)
        if b"\\u0000" in written:
            # A client may put the character that no database takes wherever it says something; its event is none the less one.
            event = _without_nul(event)
            written = orjson.dumps(event)
        full = None
        if moment.redacts and (short := shortened(event)) is not event:
            full, written = written, orjson.dumps(short)
        return Mapped(written, rule.full_name, _there(rule.client, event), own_id, full)


def _there(paths: tuple[tuple[str, Getter], ...], event: dict[str, Any]) -> tuple[str, ...]:
    """Return the paths of which an event has something."""
    return tuple([path for path, get in paths if get(event) is not None]) if paths else ()


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "\\x00")
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(member) for key, member in value.items()}
    return [_without_nul(member) for member in value] if isinstance(value, list) else value


_written = lru_cache(maxsize=16)(write_utc)
"""All lines of a block were read at one time."""


def _header_values(header: Header) -> dict[str, Any]:
    said = {name: getattr(header, name) for name in ("host", "program", "pid", "unit", "uid", "executable")}
    if header.time is not None:
        said["time"] = write_utc(header.time)
    return said


def _decode(line: bytes) -> str:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        text = line.decode("utf-8", "backslashreplace")
    return text.replace("\0", "\\x00") if "\0" in text else text


def _compile_select(data: object, place: Place) -> Select:
    members = place.mapping(data, ("contains", "all"))
    if ("contains" in members) == ("all" in members):
        raise place.error("must have contains or all: true", 'For example {contains: ["sshd["]}: a text that each line of the format has.')
    if "all" in members:
        if members["all"] is not True:
            raise place.at("all").error("must be true")
        return Select(())
    texts = place.at("contains").texts(members["contains"])
    if not texts or any("\n" in text for text in texts):
        raise place.at("contains").error("must be texts of one line")
    return Select(tuple(text.encode() for text in texts))


def _compile_rules(members: dict[str, object], place: Place, compiler: Compiler, mapping: str, let: NamedValues) -> tuple[_Rule, ...]:
    at = place.at("event")
    common = compile_fields(at.mapping(members.get("event", {}), FIELDS), at, compiler)
    client = place.at("client").texts(members.get("client", []))
    _check_client(client, place.at("client"))
    rules: list[_Rule] = []
    for at_rule, data in place.at("rules").elements(members.get("rules")):
        rule = at_rule.mapping(data, ("name", "when", "client", *FIELDS))
        name = at_rule.at("name").text(rule.get("name"))
        if not _NAME.fullmatch(name):
            raise at_rule.at("name").error("must be small letters, digits and hyphens")
        if name in {other.name for other in rules}:
            raise at_rule.at("name").error(f"{name} is the name of another rule")
        fields = compile_fields(rule, at_rule, compiler).over(common)
        _check_fields(fields, at_rule)
        more = at_rule.at("client").texts(rule.get("client", []))
        _check_client(more, at_rule.at("client"))
        chosen = tuple((path, getter(split_path(path, at_rule))) for path in dict.fromkeys((*client, *more)))
        holds = compile_condition(rule["when"], at_rule.at("when")) if "when" in rule else None
        rules.append(_Rule(name, f"{mapping}/{name}", holds, let.of_rule(rule), EventMaker(f"{mapping}/{name}", fields), chosen))
    if not 0 < len(rules) <= MAX_RULES:
        raise place.at("rules").error(f"must have from 1 to {MAX_RULES} rules")
    return tuple(rules)


def _check_fields(fields: Fields, place: Place) -> None:
    for name in ("occurred_at", "actor.type", "actor.id", "action", "target.type", "target.id", "outcome"):
        if name not in fields.simple:
            raise place.error(
                f"{name} is said neither here nor in event", "An event has all of: occurred_at, actor, action, target, outcome."
            )


def _check_client(paths: tuple[str, ...], place: Place) -> None:
    for path in paths:
        if path.partition(".")[0] not in {"actor", "target", "context"}:
            raise place.error(f"{path} is no field of an event", "For example context.user_agent.")


def _compile_dispatch(
    table: tuple[_Rule, ...], data: object, place: Place
) -> tuple[Getter, dict[str, tuple[_Rule, ...]], tuple[_Rule, ...]] | None:
    """Index the rules by the values of the path that most of them compare, so that few are tried for a line."""
    demands = [equalities(rule.get("when")) if isinstance(rule, dict) else [] for _, rule in place.elements(data)]
    paths = [demand.path for rule in demands for demand in rule]
    if not paths:
        return None
    path = max(sorted(set(paths)), key=paths.count)
    if paths.count(path) < _DISPATCH_LEAST:
        return None
    wanted = [next((demand.values for demand in rule if demand.path == path), None) for rule in demands]
    values = {value for demand in wanted if demand is not None for value in demand}
    by_value = {
        value: tuple(rule for rule, demand in zip(table, wanted, strict=True) if demand is None or value in demand) for value in values
    }
    others = tuple(rule for rule, demand in zip(table, wanted, strict=True) if demand is None)
    return getter(split_path(path, place)), by_value, others
