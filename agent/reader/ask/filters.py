"""Filters: what somebody asks for, what they may see, and the SQL condition that both amount to.

A glob is what a shell and `fnmatch.fnmatchcase` take it for: ``*`` any run of characters, ``?`` one, ``[…]`` one of a set,
``[!…]`` one outside it. Case matters. It is matched by value where it holds no wildcard, as a beginning where it ends in its
only ``*``, and as a regular expression (RE2: linear time) otherwise.

Invariants: no text of a caller ever becomes SQL, only a bound parameter; the scope is ANDed to whatever the filter is, so
no filter widens it; a scope that cannot be read is refused, never taken for "all". This module is pure: it must not open an
index, look at a clock or read a file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from ...errors import ConfigError
from ...events.catalog import UNCATALOGUED, Category

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ...events.catalog import Catalog

OUTCOMES: Final = ("success", "failure", "denied", "unknown")
CATEGORIES: Final = (*(category.value for category in Category), UNCATALOGUED)
MAX_GLOB_CHARACTERS: Final = 1024
MAX_VALUES: Final = 200
TEXT_COLUMNS: Final = ("event_id", "actor_type", "actor_id", "actor_session", "action", "target_type", "target_id", "outcome")
"""The columns that `Filter.text` is looked for in, beside the context."""

_WILDCARD: Final = re.compile(r"[*?\[]")
_PREFIX: Final = re.compile(r"[a-z][a-z0-9_]*")


def plain(time: datetime) -> datetime:
    """Return a time as the index holds it: UTC, without a zone."""
    return time.astimezone(UTC).replace(tzinfo=None)


def is_unicode(text: str) -> bool:
    """Tell whether a text can be written in UTF-8: words of a command line need not be."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_globs(globs: Sequence[str], key: str) -> None:
    if isinstance(globs, str) or len(globs) > MAX_VALUES:
        raise ConfigError(f"there are more than {MAX_VALUES} values", key=key, hint="Ask for fewer at a time, or use a pattern.")
    for glob in globs:
        if not glob or len(glob) > MAX_GLOB_CHARACTERS:
            raise ConfigError(f"a pattern has 1 to {MAX_GLOB_CHARACTERS} characters", key=key, hint="Use * to match anything.")
        if not is_unicode(glob):
            raise ConfigError(f"{glob!r} is not valid Unicode", key=key, hint="Write it in UTF-8.")


def _check_members(values: Sequence[str], allowed: Sequence[str], key: str) -> None:
    for value in values:
        if value not in allowed:
            raise ConfigError(f"{value!r} is not one of {', '.join(allowed)}", key=key, hint="Choose one of them.")


def _check_times(since: datetime | None, until: datetime | None) -> None:
    for key, time in (("since", since), ("until", until)):
        if time is not None and time.tzinfo is None:
            raise ConfigError("the time has no zone", key=key, hint="Give an aware time, in UTC.")
        try:
            _ = None if time is None else plain(time)
        except OverflowError as error:
            raise ConfigError("there is no such time in UTC", key=key, hint="Years go from 1 to 9999.") from error
    if since is not None and until is not None and since >= until:
        raise ConfigError(
            "the range ends before it begins", key="until", hint="Choose an end after the beginning; it is not part of the range."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """What is asked for; every part that is given has to hold, and any one value of a part is enough.

    Attributes:
        actor: Globs over the actor's id.
        action: Globs over the action.
        target: Globs over the target's id; one that holds a slash may also match ``type/id``.
        outcome: Exact outcomes.
        service: Globs over the service; one that holds a slash is matched part by part with ``namespace/service``.
        category: Categories of the catalog, or ``uncatalogued``.
        text: Looked for in every text of the event, whatever its case, and however the context's JSON spells it.
        since: Events that occurred at this time or later; an aware time.
        until: Events that occurred before this time; an aware time.
    """

    actor: tuple[str, ...] = ()
    action: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    outcome: tuple[str, ...] = ()
    service: tuple[str, ...] = ()
    category: tuple[str, ...] = ()
    text: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        """Refuse what could never be matched, or could be matched otherwise than meant (ConfigError)."""
        for name in ("actor", "action", "target", "service"):
            _check_globs(getattr(self, name), name)
        _check_members(self.outcome, OUTCOMES, "outcome")
        _check_members(self.category, CATEGORIES, "category")
        for pattern in self.service:
            if pattern.count("/") > 1:
                raise ConfigError(f"{pattern!r} is no service", key="service", hint="Write a service, or namespace/service.")
        if self.text is not None:
            _check_globs((self.text,), "text")
        _check_times(self.since, self.until)


@dataclass(frozen=True, slots=True)
class Scope:
    """What somebody may see; `ALL` is everything.

    Attributes:
        services: Globs ``namespace/service``, matched part by part; empty: all.
        since: Nothing from before this time; an aware time.
        until: Nothing from this time on; an aware time.
    """

    services: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        """Refuse a scope that could be read in two ways (ConfigError)."""
        _check_globs(self.services, "services")
        for pattern in self.services:
            if pattern.count("/") != 1 or "" in pattern.split("/"):
                raise ConfigError(f"{pattern!r} is no scope", key="services", hint="Write namespace/service; * matches within one part.")
        _check_times(self.since, self.until)

    def allows(self, namespace: str, service: str) -> bool:
        """Tell whether the trails of a service may be seen."""
        return service_matches(self.services, namespace, service)


ALL: Final = Scope()


@dataclass(frozen=True, slots=True)
class Condition:
    """An SQL condition and the values of its named parameters (``$name``).

    Attributes:
        sql: A boolean expression in brackets, or ``TRUE``.
        parameters: The values, by name; exactly those that `sql` names.
    """

    sql: str
    parameters: dict[str, object]

    def __and__(self, other: Condition) -> Condition:
        """Return what holds where both hold; their parameters must have different names."""
        if self.parameters.keys() & other.parameters.keys():
            raise ValueError("two conditions use the same parameters: give them different prefixes")
        return Condition(f"({self.sql} AND {other.sql})", {**self.parameters, **other.parameters})


def where(filter: Filter, scope: Scope = ALL, catalog: Catalog | None = None, *, prefix: str = "f") -> Condition:  # noqa: A002 -- the API's word
    """Return the condition over the view `events` for what is asked and allowed.

    Args:
        filter: What is asked for.
        scope: What may be seen; always ANDed.
        catalog: Gives actions their category; needed where the filter names one.
        prefix: What the parameters' names begin with; two conditions in one statement need different ones.

    Raises:
        ConfigError: A category is asked for without a catalog.
    """
    made = _Maker(prefix)
    parts = [
        made.scope(scope, "occurred_at"),
        made.any_glob("actor_id", filter.actor),
        made.any_glob("action", filter.action),
        made.any_of(made.target(glob) for glob in filter.target),
        made.member("outcome", filter.outcome),
        made.any_of(made.service(glob) for glob in filter.service),
        made.category(filter.category, catalog),
        made.text(filter.text),
        made.range("occurred_at", filter.since, filter.until),
    ]
    return made.all_of(parts)


def services_where(filter_services: Sequence[str], scope: Scope = ALL, *, prefix: str = "s") -> Condition:
    """Return the condition over `trails` (columns `namespace`, `service`) for the trails that are asked for and allowed.

    Args:
        filter_services: Globs, as in `Filter.service`; empty: all.
        scope: What may be seen; its times are not looked at.
        prefix: What the parameters' names begin with.
    """
    made = _Maker(prefix)
    return made.all_of([made.scope(Scope(scope.services), None), made.any_of(made.service(glob) for glob in filter_services)])


def within(column: str, since: datetime | None, until: datetime | None, *, prefix: str = "t") -> Condition:
    """Return the condition for a column of times: at `since` or later, before `until`.

    Args:
        column: The column's name, from the program's own text and nobody else's.
        since: An aware time; None: no bound.
        until: An aware time; None: no bound.
        prefix: What the parameters' names begin with.
    """
    made = _Maker(prefix)
    return made.all_of([made.range(column, since, until)])


def glob_regex(glob: str) -> str:
    """Return an RE2 expression that matches, as a whole, what `fnmatch.fnmatchcase` matches."""
    parts: list[str] = []
    place = 0
    while place < len(glob):
        character = glob[place]
        place += 1
        if character == "*":
            if parts[-1:] != [".*"]:
                parts.append(".*")
        elif character == "?":
            parts.append(".")
        elif character == "[" and (end := _end_of_set(glob, place)) is not None:
            parts.append(_set_regex(glob[place:end]))
            place = end + 1
        else:
            parts.append(_literal(character))
    return "(?s)" + "".join(parts)


@dataclass(slots=True)
class _Maker:
    """Makes conditions; hands out parameters."""

    prefix: str
    parameters: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _PREFIX.fullmatch(self.prefix):
            raise ValueError(f"{self.prefix!r} cannot begin a parameter's name")

    def bind(self, value: object) -> str:
        name = f"{self.prefix}_{len(self.parameters)}"
        self.parameters[name] = value
        return f"${name}"

    def all_of(self, parts: Iterable[str]) -> Condition:
        given = [part for part in parts if part]
        return Condition(f"({' AND '.join(given)})" if given else "TRUE", self.parameters)

    def any_of(self, parts: Iterable[str]) -> str:
        given = list(parts)
        return f"({' OR '.join(given)})" if given else ""

    def glob(self, column: str, glob: str) -> str:
        found = _WILDCARD.search(glob)
        if found is None:
            return f"{column} = {self.bind(glob)}"
        if glob.strip("*") == "":
            return f"{column} IS NOT NULL"
        if found.start() == len(glob) - 1 and glob[-1] == "*":
            return f"starts_with({column}, {self.bind(glob[:-1])})"
        return f"regexp_full_match({column}, {self.bind(glob_regex(glob))})"

    def any_glob(self, column: str, globs: Sequence[str]) -> str:
        exact = [glob for glob in globs if not _WILDCARD.search(glob)]
        patterns = [self.glob(column, glob) for glob in globs if _WILDCARD.search(glob)]
        return self.any_of([*([self.member(column, exact)] if exact else []), *patterns])

    def member(self, column: str, values: Sequence[str]) -> str:
        return f"{column} IN ({', '.join(self.bind(value) for value in values)})" if values else ""

    def target(self, glob: str) -> str:
        # An id may hold slashes itself; looking only at `type/id` would silently miss it.
        return f"({self.glob('target_id', glob)} OR {self.glob(_TARGET, glob)})" if "/" in glob else self.glob("target_id", glob)

    def service(self, glob: str) -> str:
        if "/" not in glob:
            return self.glob("service", glob)
        namespace, service = glob.split("/")
        return f"({self.glob('namespace', namespace)} AND {self.glob('service', service)})"

    def range(self, column: str, since: datetime | None, until: datetime | None) -> str:
        bounds = [f"{column} >= {self.bind(plain(since))}"] if since else []
        bounds += [f"{column} < {self.bind(plain(until))}"] if until else []
        return " AND ".join(bounds)

    def scope(self, scope: Scope, column: str | None) -> str:
        parts = [self.any_of(self.service(glob) for glob in scope.services)]
        if column is not None:
            parts.append(self.range(column, scope.since, scope.until))
        return " AND ".join(part for part in parts if part)

    def category(self, wanted: Sequence[str], catalog: Catalog | None) -> str:
        if not wanted:
            return ""
        if catalog is None:
            raise ConfigError(
                "a category is asked for, and no catalog says which actions are in it", key="category", hint="Give a catalog."
            )
        exact = [entry for entry in catalog.entries if not entry.action.endswith("*")]
        patterns = sorted((entry for entry in catalog.entries if entry.action.endswith("*")), key=lambda entry: -len(entry.action))
        branches = [f"WHEN starts_with(action, {self.bind(entry.action[:-1])}) THEN {_sql(entry.category in wanted)}" for entry in patterns]
        others = f"CASE {' '.join(branches)} ELSE {_sql(UNCATALOGUED in wanted)} END" if branches else _sql(UNCATALOGUED in wanted)
        if not exact:
            return f"({others})"
        chosen = self.member("action", [entry.action for entry in exact if entry.category in wanted]) or "FALSE"
        return f"({chosen} OR ({self.member('action', [entry.action for entry in exact])} IS NOT TRUE AND {others}))"

    def text(self, text: str | None) -> str:
        if not text:
            return ""
        plain_text = self.bind(text)
        # JSON can spell the same in several ways; the context is also compared in its one plainest spelling, so that nobody hides a word
        # from a search by writing it with escapes, and a fragment of JSON is found whatever blanks stand in it.
        encoded = self.bind(msgspec.json.encode(text)[1:-1].decode())
        looked = [f"contains(lower({column}), lower({plain_text}))" for column in (*TEXT_COLUMNS, "context")]
        spelled = "lower(TRY(json(context)))"
        if '"' not in text:
            spelled = f"CASE WHEN contains(context, '\\') THEN {spelled} END"
        looked += [f"contains({spelled}, lower({spelling}))" for spelling in (plain_text, encoded)]
        return self.any_of(f"coalesce({part}, FALSE)" for part in looked)


_TARGET: Final = "(target_type || '/' || target_id)"


def matches_glob(text: str, glob: str) -> bool:
    """Tell whether a glob matches a whole text, as the conditions of this module do."""
    return re.fullmatch(_python_regex(glob), text) is not None


def _python_regex(glob: str) -> str:
    return re.sub(r"\\x\{([0-9a-f]+)\}", lambda found: f"\\U{int(found[1], 16):08x}", glob_regex(glob))


def service_matches(globs: Sequence[str], namespace: str, service: str) -> bool:
    """Tell whether a service is one of those asked for, as `Filter.service` and `Scope.services` mean it; no globs: it is."""
    return not globs or any(
        matches_glob(namespace, glob.split("/")[0]) and matches_glob(service, glob.split("/")[1])
        if "/" in glob
        else matches_glob(service, glob)
        for glob in globs
    )


def _end_of_set(glob: str, start: int) -> int | None:
    """Return where the ``]`` of a set is that began just before `start`; None where it is no set, but a plain bracket."""
    place = start + 1 if glob[start : start + 1] == "!" else start
    # A bracket directly at the beginning is a member of the set, not its end.
    place = place + 1 if glob[place : place + 1] == "]" else place
    end = glob.find("]", place)
    return None if end < 0 else end


def _set_regex(members: str) -> str:
    negated = members.startswith("!")
    rest, ranges = members[negated:], []
    while rest:
        if len(rest) >= 3 and rest[1] == "-":
            first, last, rest = rest[0], rest[2], rest[3:]
            if first <= last:
                ranges.append(f"{_literal(first)}-{_literal(last)}")
        else:
            ranges.append(_literal(rest[0]))
            rest = rest[1:]
    if not ranges:
        # Every range in it was empty: nothing is in the set, and anything is outside it.
        return "." if negated else r"[^\x{0}-\x{10ffff}]"
    return f"[{'^' if negated else ''}{''.join(ranges)}]"


def _literal(character: str) -> str:
    return character if character.isascii() and character.isalnum() else f"\\x{{{ord(character):x}}}"


def _sql(value: bool) -> str:  # noqa: FBT001 -- it is the value that is written
    return "TRUE" if value else "FALSE"
