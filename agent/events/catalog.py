"""Hold the event catalog: which actions a service is expected to log, and what each must state.

A catalog is the auditor's list: for every action its category, how sensitive it is, whether it is privileged, and the
context without which the record would not say *why* it was privileged. An action that is not listed is valid all the same;
it is counted as uncatalogued, so that the gap in the list is seen.

Invariants: a catalog is immutable; an exact name wins over a pattern, a longer pattern over a shorter one; of a file that is
wrong, every error is found, not the first alone. This module reads plain data already parsed from YAML; it must not open
files, nor follow an `include` (`merging` puts several files together).
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from ..errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

UNCATALOGUED: Final = "uncatalogued"
"""The category under which actions are counted that no entry names."""

FORMAT: Final = 1

_ACTION = re.compile(r"[!-)+-~]{1,510}\*?")
_PATH = re.compile(r"[^.\s]+(?:\.[^.\s]+)*")
_TOP_KEYS: Final = ("format", "include", "actions")
_ENTRY_KEYS: Final = ("category", "sensitivity", "privileged", "required_context", "description")

M = TypeVar("M", bound=StrEnum)


class Category(StrEnum):
    """Group actions as an auditor asks for them."""

    AUTHENTICATION = "authentication"
    AUTHORIZATION = "authorization"
    DATA_ACCESS = "data_access"
    DATA_CHANGE = "data_change"
    DATA_EXPORT = "data_export"
    ADMINISTRATION = "administration"
    CONFIGURATION = "configuration"
    SECURITY = "security"
    BILLING = "billing"
    DEPLOYMENT = "deployment"
    REVIEW = "review"
    SYSTEM = "system"


class Sensitivity(StrEnum):
    """Rank how much harm a hidden or forged event of this kind would do."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True)
class Entry:
    """Describe one action, or all actions that begin alike.

    Attributes:
        action: The exact name, or a beginning followed by ``*``.
        category: The group it is counted and reported under.
        sensitivity: How much depends on it.
        privileged: Whether only some actors may do it.
        required_context: Dotted paths into the event's context that must be present and not null.
        description: One sentence for the reader of a report.
    """

    action: str
    category: Category
    sensitivity: Sensitivity
    privileged: bool
    required_context: tuple[str, ...]
    description: str
    required_paths: tuple[tuple[str, ...], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Split the dotted paths once."""
        object.__setattr__(self, "required_paths", tuple(tuple(path.split(".")) for path in self.required_context))

    def missing_context(self, context: Mapping[str, object]) -> str | None:
        """Name the first required path that is absent or null.

        Args:
            context: The event's context; a dotted path descends into nested objects.

        Returns:
            The path, or None where nothing is missing.
        """
        for name, path in zip(self.required_context, self.required_paths, strict=True):
            place: object = context
            for key in path:
                place = place.get(key) if isinstance(place, dict) else None
            if place is None:
                return name
        return None


@dataclass(frozen=True, slots=True)
class Catalog:
    """Look up what is known of an action.

    Attributes:
        entries: Every entry, in the order of the file.
    """

    entries: tuple[Entry, ...] = ()
    _exact: dict[str, Entry] = field(init=False, repr=False, compare=False)
    _patterns: tuple[tuple[str, Entry], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the entries, longest pattern first."""
        exact = {entry.action: entry for entry in self.entries if not entry.action.endswith("*")}
        patterns = [(entry.action[:-1], entry) for entry in self.entries if entry.action.endswith("*")]
        object.__setattr__(self, "_exact", exact)
        object.__setattr__(self, "_patterns", tuple(sorted(patterns, key=lambda pattern: -len(pattern[0]))))

    @classmethod
    def from_mapping(cls, data: object, where: str) -> Catalog:
        """Build a catalog from plain data.

        Args:
            data: What a YAML or JSON parser made of the file: ``{"format": 1, "actions": {name: {category, sensitivity,
                privileged, required_context, description}}}``. Category and sensitivity are required; ``privileged``
                is false, ``required_context`` and ``description`` are empty where absent.
            where: The file's name, for messages.

        Raises:
            ConfigError: With ``where`` and the dotted key, for an unknown key, a wrong type or a value outside its list, and for
                an `include`, which plain data cannot follow.
        """
        listing = Listing.from_mapping(data, where)
        if listing.errors:
            raise listing.errors[0]
        if listing.includes:
            raise ConfigError("names other files, and none can be read here", file=where, key="include", hint="Write the entries out.")
        return cls(listing.entries)

    def entry(self, action: str) -> Entry | None:
        """Find the entry for an action; None where the catalog does not know it."""
        found = self._exact.get(action)
        if found is None:
            for beginning, entry in self._patterns:
                if action.startswith(beginning):
                    return entry
        return found


class Include(NamedTuple):
    """Name another catalog.

    Attributes:
        name: As it stands in the file.
        key: Where, for example ``include[0]``.
    """

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Hold what one catalog file says by itself, before what it includes is put beside it.

    Attributes:
        entries: The entries without an error, in the order of the file.
        includes: The names of other catalogs, in the order of the file.
        errors: Everything that is wrong, in the order in which it was found.
    """

    entries: tuple[Entry, ...]
    includes: tuple[Include, ...]
    errors: tuple[ConfigError, ...]

    @classmethod
    def from_mapping(cls, data: object, where: str) -> Listing:
        """Read plain data, as `Catalog.from_mapping` takes it, that may also have ``include: [name, …]``.

        Without an error, at least one of `actions` and `include` is there.
        """
        reading = _Reading(where)
        return cls(*reading.document(data), tuple(reading.errors))


class _Reading:
    """Read one file's plain data, and go on behind an error."""

    def __init__(self, where: str) -> None:
        self.errors: list[ConfigError] = []
        self._where = where

    def document(self, data: object) -> tuple[tuple[Entry, ...], tuple[Include, ...]]:
        """Return the entries and the includes."""
        top = self._mapping(data, "")
        if top is None:
            return (), ()
        self._known(top, _TOP_KEYS, "")
        if top.get("format") != FORMAT or isinstance(top.get("format"), bool):
            self._wrong("format", f"must be {FORMAT}", "Put `format: 1` at the top of the catalog.")
        includes = self._includes(top["include"]) if "include" in top else ()
        actions = self._mapping(top.get("actions"), "actions") if "actions" in top or "include" not in top else {}
        entries = [self._entry(name, value) for name, value in (actions or {}).items()]
        return tuple(entry for entry in entries if entry is not None), includes

    def _includes(self, data: object) -> tuple[Include, ...]:
        named = [("include", data)] if isinstance(data, str) else None
        if isinstance(data, (list, tuple)):
            named = [(f"include[{index}]", name) for index, name in enumerate(data)]
        if not named:
            self._wrong("include", "must be the name of a catalog, or a list of them", "For example [other.yaml, shipped:linux].")
            return ()
        included: dict[str, Include] = {}
        for key, name in named:
            if not isinstance(name, str) or not name or not name.isprintable():
                self._wrong(key, "must be the name of a catalog")
            elif name in included:
                self._wrong(key, f"names {name} a second time")
            else:
                included[name] = Include(name, key)
        return tuple(included.values())

    def _entry(self, action: object, data: object) -> Entry | None:
        before, key = len(self.errors), f"actions.{action}"
        if not isinstance(action, str) or not _ACTION.fullmatch(action):
            self._wrong(
                key,
                "is not the name of an action: printable ASCII without spaces, and a `*` only at the end",
                "Write exact names such as role.grant, or a beginning such as billing.*",
            )
        values = self._mapping(data, key)
        if values is None:
            return None
        self._known(values, _ENTRY_KEYS, key)
        privileged = values.get("privileged", False)
        if not isinstance(privileged, bool):
            self._wrong(f"{key}.privileged", "must be true or false")
        description = values.get("description", "")
        if not isinstance(description, str):
            self._wrong(f"{key}.description", "must be text")
        category = self._member(values.get("category"), Category, f"{key}.category")
        sensitivity = self._member(values.get("sensitivity"), Sensitivity, f"{key}.sensitivity")
        paths = self._paths(values.get("required_context", []), f"{key}.required_context")
        if len(self.errors) > before or category is None or sensitivity is None:
            return None
        return Entry(str(action), category, sensitivity, privileged is True, paths, str(description))

    def _paths(self, data: object, key: str) -> tuple[str, ...]:
        if not isinstance(data, (list, tuple)):
            self._wrong(key, "must be a list of context keys", "For example [granted_role, approval.id].")
            return ()
        paths: list[str] = []
        for index, path in enumerate(data):
            if not isinstance(path, str) or not _PATH.fullmatch(path):
                self._wrong(f"{key}[{index}]", "must be a key, or keys joined by dots, without spaces")
            elif path in paths:
                self._wrong(f"{key}[{index}]", f"names {path} a second time")
            else:
                paths.append(path)
        return tuple(paths)

    def _member(self, value: object, members: type[M], key: str) -> M | None:
        allowed = [str(member) for member in members]
        if not isinstance(value, str) or value not in allowed:
            near = difflib.get_close_matches(str(value), allowed, n=1)
            self._wrong(key, f"must be one of {', '.join(allowed)}", f"Did you mean {near[0]}?" if near else None)
            return None
        return members(value)

    def _mapping(self, data: object, key: str) -> dict[object, object] | None:
        if not isinstance(data, dict):
            self._wrong(key or None, "must be a mapping of keys to values")
            return None
        return data

    def _known(self, data: dict[object, object], allowed: tuple[str, ...], key: str) -> None:
        for name in data:
            if name not in allowed:
                near = difflib.get_close_matches(str(name), allowed, n=1)
                place = f"{key}.{name}" if key else str(name)
                self._wrong(place, "is not a known key", f"Did you mean {near[0]}?" if near else f"Known are {', '.join(allowed)}.")

    def _wrong(self, key: str | None, message: str, hint: str | None = None) -> None:
        self.errors.append(ConfigError(message, file=self._where, key=key, hint=hint))
