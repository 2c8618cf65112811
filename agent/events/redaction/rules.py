"""Say what is redacted: by the place of a value in the event, or by its looks.

Invariants: a rule that could not be kept is refused (ConfigError): what the schema requires can be masked or hashed and never
dropped; the fields that order and judge events (`event_id`, `occurred_at`, `action`, `outcome`) cannot be named. This module is pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from ...errors import ConfigError
from .patterns import BUILT_IN, Pattern, built_in, own

if TYPE_CHECKING:
    from .keys import PseudonymKey
    from .spans import Span

Action: TypeAlias = Literal["drop", "mask", "hash"]
ACTIONS: Final[tuple[Action, ...]] = ("drop", "mask", "hash")
REDACTED: Final = "[redacted]"
MAX_KEEP_LAST: Final = 8
_KEPT_SHARE: Final = 3
_NAMEABLE: Final = ("actor.id", "actor.session", "target.id")
_SEGMENT: Final = re.compile(r"[^.\s\x00]{1,128}")
_MAX_SEGMENTS: Final = 16


@dataclass(frozen=True, slots=True)
class Treatment:
    """Say what becomes of a value.

    Attributes:
        action: ``drop`` takes the key away too; where there is none it masks.
        keep_last: How many of its last characters a masked value keeps, of values at least three times as long.
        key: What pseudonyms are made with, for ``hash``.
    """

    action: Action
    keep_last: int = 0
    key: PseudonymKey | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be done (ConfigError)."""
        if self.action not in ACTIONS:
            raise ConfigError(f"must be one of {', '.join(ACTIONS)}", key="action")
        if self.action == "hash" and self.key is None:
            raise ConfigError("a hash needs a key", key="action", hint="Give the redaction a key_file or a key_env.")
        if not 0 <= self.keep_last <= MAX_KEEP_LAST or (self.keep_last and self.action != "mask"):
            raise ConfigError(f"is for a mask, and between 1 and {MAX_KEEP_LAST}", key="keep_last")

    def of(self, value: str) -> str:
        """Return what stands for a text."""
        if self.action == "hash" and self.key is not None:
            return self.key.pseudonym(value)
        kept = value[-self.keep_last :] if self.keep_last and len(value) >= _KEPT_SHARE * self.keep_last else ""
        return REDACTED + kept


@dataclass(frozen=True, slots=True)
class PathRule:
    """Treat what stands at a place in the event.

    Attributes:
        path: Its segments in lower case, ``*`` for any one key or element of a list.
        treatment: What becomes of it.
    """

    path: tuple[str, ...]
    treatment: Treatment

    @classmethod
    def of(cls, path: str, treatment: Treatment) -> PathRule:
        """Read a dotted path.

        Raises:
            ConfigError: It is no path, or names something that a rule may not touch, or not in this way.
        """
        segments = tuple(path.split("."))
        if len(segments) > _MAX_SEGMENTS or not all(map(_SEGMENT.fullmatch, segments)):
            raise ConfigError(
                f"{path!r} is no path", key="path", hint="Names joined by dots, * for one of them: context.email, context.users.*.email."
            )
        if segments[0] == "context":
            if len(segments) == 1:
                raise ConfigError("names the whole context", key="path", hint="Write context.* for everything in it.")
        elif path not in _NAMEABLE:
            raise ConfigError(
                f"{path} cannot be redacted by its path", key="path", hint=f"A path is {', '.join(_NAMEABLE)} or begins with context."
            )
        elif treatment.action == "drop":
            raise ConfigError(f"every event needs {path}, so it cannot be dropped", key="action", hint="Use mask or hash.")
        return cls(tuple(segment.casefold() for segment in segments), treatment)

    @property
    def last_name(self) -> str:
        """The last segment that is certain to be a key: no ``*``, and no number, which may be an element of a list."""
        return next(segment for segment in reversed(self.path) if segment != "*" and not segment.isdecimal())


@dataclass(frozen=True, slots=True)
class PatternRule:
    """Treat what looks like a secret, wherever it stands.

    Attributes:
        pattern: How it is known.
        treatment: What becomes of it.
    """

    pattern: Pattern
    treatment: Treatment

    @property
    def value(self) -> None:
        """Nothing: what is found is the value."""

    def find(self, text: str) -> list[Span]:
        """Return where it stands in a text, in characters."""
        return self.pattern.find(text)

    @classmethod
    def of(cls, pattern: str, treatment: Treatment, name: str | None = None) -> PatternRule:
        """Take a built-in pattern by its name, or compile an expression.

        Args:
            pattern: One of `BUILT_IN`, or an expression in RE2's syntax.
            treatment: Mask or hash.
            name: Given with an expression, and only with one.

        Raises:
            ConfigError: It is neither, or is to be dropped.
        """
        if treatment.action == "drop":
            raise ConfigError("what a pattern finds has no key of its own that could be dropped", key="action", hint="Use mask or hash.")
        if name is None and not re.fullmatch(r"[a-z0-9_]+", pattern):
            raise ConfigError("an expression of your own needs a name", key="name", hint="For example name: stripe_key.")
        if name is not None and name in BUILT_IN:
            raise ConfigError(f"{name} is the name of a built-in pattern", key="name", hint="Choose another.")
        return cls(built_in(pattern) if name is None else own(name, pattern), treatment)
