"""Redact events and lines before they are stored anywhere.

Invariants: an event to which nothing applies is returned as the same bytes; no bytes raise an exception in `redact_text`; what
cannot be redacted with certainty is given up, never let through. One instance serves one thread. This module must not log.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson

from ...errors import FormatError
from .details import without_keys, without_partial
from .events import Walk
from .originals import known, redact_original
from .patterns import quick_look
from .rules import REDACTED
from .texts import redact
from .unfold import FOLDED_BYTES, READABLE_HEX

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .keys import PseudonymKey
    from .rules import PathRule, PatternRule, Treatment

RAW: Final = "raw"
"""What `names` call the original line."""


@dataclass(frozen=True, slots=True)
class Redacted:
    """Hold an event after redaction.

    Attributes:
        event: Its bytes; the same object where nothing applied.
        names: Dotted paths of what was removed or changed, in the order of the event.
    """

    event: bytes
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RedactedText:
    """Hold an original line after redaction.

    Attributes:
        raw: Its bytes; the same object where nothing applied; None where it is given up.
        names: ``("raw",)`` if it was changed or given up; nothing otherwise.
    """

    raw: bytes | None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RedactedMapping:
    """Hold what a mapping made of a line, and the line, after redaction.

    Attributes:
        event: The event.
        raw: The original line; None where it is given up.
        names: What was changed: ``raw`` first if the line was changed or given up, then paths in the event.
    """

    event: bytes
    raw: bytes | None
    names: tuple[str, ...] = ()


class Redactor:
    """Redact what one source writes."""

    def __init__(self, paths: Sequence[PathRule] = (), patterns: Sequence[PatternRule] = (), key: PseudonymKey | None = None) -> None:
        """Take the rules.

        Args:
            paths: By place; of several that match one place the first counts, and patterns do not look there.
            patterns: By looks, everywhere else.
            key: Digests lines that are not kept; None: nothing is said of them but their length.
        """
        self._paths, self._patterns, self._key = tuple(paths), tuple(patterns), key
        named = [rule for rule in paths if rule.path[0] == "context" != rule.last_name]
        # Keys of an event stand in quotes, and are otherwise spelled with an escape, which `FOLDED_BYTES` sees.
        self._always = len(named) < len(self._paths)
        self._own = [rule.pattern for rule in patterns if not rule.pattern.hint]
        looks = [FOLDED_BYTES, *(rb'(?i:"%b")' % re.escape(rule.last_name.encode()) for rule in named)]
        self._may_apply_to = self._quick_look(looks)

    def _quick_look(self, looks: list[bytes]) -> Callable[[bytes], bool]:
        if self._patterns:
            return quick_look([READABLE_HEX.encode(), *looks] + [rule.pattern.hint for rule in self._patterns if rule.pattern.hint])
        search = re.compile(b"|".join(looks)).search
        return lambda data: search(data) is not None

    @property
    def key_id(self) -> str | None:
        """The id of the key of pseudonyms and digests, for the manifest; None without one."""
        return None if self._key is None else self._key.id

    @property
    def has_paths(self) -> bool:
        """Whether any rule is by place, so that a line which is no JSON cannot be kept."""
        return bool(self._paths)

    def digest(self, raw: bytes) -> str | None:
        """Return the HMAC-SHA-256 of a line that is not kept as it was, in lower-case hex.

        Without a key it is None: a plain hash of a line of which all but a few digits is known would tell those digits.
        """
        return None if self._key is None else self._key.digest(raw)

    def redact_event(self, event: bytes) -> Redacted:
        """Redact one valid event.

        Args:
            event: A JSON object that validation accepted.

        Raises:
            FormatError: It is no JSON object, so that it cannot have been accepted.
        """
        return self._event(event)[0] if self._may_apply(event) else Redacted(event)

    def redact_events(self, events: Sequence[bytes]) -> list[Redacted]:
        """Redact many, each as `redact_event` would; the common case, that nothing applies, is settled for all of them at once."""
        if not self._may_apply(b"\n".join(events)):
            return [Redacted(event) for event in events]
        return [self.redact_event(event) for event in events]

    def redact_text(self, raw: bytes) -> RedactedText:
        """Redact an original line of which no event was made.

        Args:
            raw: The line, any bytes; without its marker where the source has a prefix, so that JSON is seen as such.
        """
        return self._original(raw)

    def redact_detail(self, detail: str) -> str:
        """Redact what is said about a line that is no event: it may name a key of the line, and a key can be a secret.

        Where rules are by place, no key is shown that a ``*`` of one stands for, or that stands below what one names.
        """
        shown = without_partial(detail) if self._paths or self._patterns else detail
        shown = without_keys(shown, self._paths) if self._paths else shown
        redacted = redact(shown, self._patterns) if self._patterns else shown
        return REDACTED if redacted is None else redacted

    def redact_mapping(self, event: bytes, raw: bytes, *, own_id: bool = False) -> RedactedMapping:
        """Redact the event that a mapping made of a line, and the line.

        The line is given up where any value that goes out of the event is not found in it, by place or by looks.

        Args:
            event: The event, accepted by validation but for the length of its names.
            raw: The line it was made of.
            own_id: Whether the event's id was made of the line.

        Raises:
            FormatError: The event is no JSON object.
        """
        if not self._may_apply(event):
            original = self._original(raw)
            return RedactedMapping(event, original.raw, original.names)
        redacted, walk = self._event(event, own_id=own_id)
        original = RedactedText(None, (RAW,)) if walk.lost else self._original(raw, walk.values, walk.looks)
        return RedactedMapping(redacted.event, original.raw, original.names + redacted.names)

    def _may_apply(self, data: bytes) -> bool:
        """Tell whether anything could apply to one or many events; false is certain."""
        return self._always or self._may_apply_to(data) or any(pattern.may_be_in(data) for pattern in self._own)

    def _event(self, event: bytes, *, own_id: bool = False) -> tuple[Redacted, Walk]:
        try:
            decoded = orjson.loads(event)
        except orjson.JSONDecodeError as error:
            raise FormatError("an event that is to be redacted is not JSON") from error
        if not isinstance(decoded, dict):
            raise FormatError("an event that is to be redacted is no JSON object")
        walk = Walk(self._paths, self._patterns)
        made = walk.event(decoded, own_id=own_id)
        return Redacted(made, walk.names) if walk.names else Redacted(event), walk

    def _original(
        self, raw: bytes, values: Sequence[tuple[str | bool, Treatment]] = (), looks: Sequence[tuple[str, Treatment]] = ()
    ) -> RedactedText:
        if not self._paths and not self._patterns:
            return RedactedText(raw)
        if not self._paths and not looks and not self._may_apply(raw):
            return RedactedText(raw)
        text = raw.decode("utf-8", "surrogateescape")
        sought = known(text, self._patterns, looks)
        kept = None if sought is None else redact_original(text, self._paths, [*sought, *self._patterns], values)
        if kept is None:
            return RedactedText(None, (RAW,))
        if kept is text or kept == text:
            return RedactedText(raw)
        return RedactedText(kept.encode("utf-8", "surrogateescape"), (RAW,))
