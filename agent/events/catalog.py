"""Hold the event catalog: which actions a service is expected to log, and what each must state.

A catalog is the auditor's list: for every action its category, how sensitive it is, whether it is privileged, and the
context without which the record would not say *why* it was privileged. An action that is not listed is valid all the same;
it is counted as uncatalogued, so that the gap in the list is seen.

Invariants: a catalog is immutable; an exact name wins over a pattern, a longer pattern over a shorter one. This module
reads plain data already parsed from YAML; it must not open files.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NoReturn

from ..errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

UNCATALOGUED: Final = "uncatalogued"
"""The category under which actions are counted that no entry names."""

FORMAT: Final = 1

_ACTION = re.compile(r"[!-)+-~]{1,510}\*?")
_PATH = re.compile(r"[^.\s]+(?:\.[^.\s]+)*")
_ENTRY_KEYS: Final = ("category", "sensitivity", "privileged", "required_context", "description")


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
            ConfigError: With ``where`` and the dotted key, for an unknown key, a wrong type or a value outside its list.
        """
        top = _mapping(data, where, "")
        _known(top, ("format", "actions"), where, "")
        if top.get("format") != FORMAT or isinstance(top.get("format"), bool):
            _fail(where, "format", f"must be {FORMAT}", "Put `format: 1` at the top of the catalog.")
        actions = _mapping(top.get("actions"), where, "actions")
        return cls(tuple(_entry(name, value, where) for name, value in actions.items()))

    def entry(self, action: str) -> Entry | None:
        """Find the entry for an action; None where the catalog does not know it."""
        found = self._exact.get(action)
        if found is None:
            for beginning, entry in self._patterns:
                if action.startswith(beginning):
                    return entry
        return found


def _entry(action: object, data: object, where: str) -> Entry:
    if not isinstance(action, str) or not _ACTION.fullmatch(action):
        _fail(
            where,
            f"actions.{action}",
            "is not the name of an action: printable ASCII without spaces, and a `*` only at the end",
            "Write exact names such as role.grant, or a beginning such as billing.*",
        )
    key = f"actions.{action}"
    values = _mapping(data, where, key)
    _known(values, _ENTRY_KEYS, where, key)
    privileged = values.get("privileged", False)
    if not isinstance(privileged, bool):
        _fail(where, f"{key}.privileged", "must be true or false")
    description = values.get("description", "")
    if not isinstance(description, str):
        _fail(where, f"{key}.description", "must be text")
    return Entry(
        action=action,
        category=Category(_member(values.get("category"), Category, where, f"{key}.category")),
        sensitivity=Sensitivity(_member(values.get("sensitivity"), Sensitivity, where, f"{key}.sensitivity")),
        privileged=privileged,
        required_context=_paths(values.get("required_context", []), where, f"{key}.required_context"),
        description=description,
    )


def _paths(data: object, where: str, key: str) -> tuple[str, ...]:
    if not isinstance(data, (list, tuple)):
        _fail(where, key, "must be a list of context keys", "For example [granted_role, approval.id].")
    paths: list[str] = []
    for index, path in enumerate(data):
        if not isinstance(path, str) or not _PATH.fullmatch(path):
            _fail(where, f"{key}[{index}]", "must be a key, or keys joined by dots, without spaces")
        if path in paths:
            _fail(where, f"{key}[{index}]", f"names {path} a second time")
        paths.append(path)
    return tuple(paths)


def _member(value: object, members: type[StrEnum], where: str, key: str) -> str:
    allowed = [str(member) for member in members]
    if not isinstance(value, str) or value not in allowed:
        near = difflib.get_close_matches(str(value), allowed, n=1)
        _fail(where, key, f"must be one of {', '.join(allowed)}", f"Did you mean {near[0]}?" if near else None)
    return value


def _mapping(data: object, where: str, key: str) -> dict[object, object]:
    if not isinstance(data, dict):
        _fail(where, key or None, "must be a mapping of keys to values")
    return data


def _known(data: dict[object, object], allowed: tuple[str, ...], where: str, key: str) -> None:
    for name in data:
        if name not in allowed:
            near = difflib.get_close_matches(str(name), allowed, n=1)
            place = f"{key}.{name}" if key else str(name)
            _fail(where, place, "is not a known key", f"Did you mean {near[0]}?" if near else f"Known are {', '.join(allowed)}.")


def _fail(where: str, key: str | None, message: str, hint: str | None = None) -> NoReturn:
    raise ConfigError(message, file=where, key=key, hint=hint)
