"""Find people by pseudonyms: a value that is asked for is also looked for as what redaction made of it, under each key at hand.

Invariants: only whole values have pseudonyms, so a question in which there is none but patterns is refused, never answered by less than it
asks; what is looked for stands in the question, so the statement says it and its command asks it again, without the key. A key file
that others can read is refused. This module must not show a key.
"""

from __future__ import annotations

import dataclasses
import os
import re
import stat
from typing import TYPE_CHECKING, Final

from ...errors import ConfigError
from .filters import is_unicode

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ...events.redaction import PseudonymKey
    from .filters import Filter

MAX_KEY_FILE_BYTES: Final = 4096
_WILDCARD: Final = re.compile(r"[*?\[]")
_PSEUDONYM: Final = re.compile(r"(?:[^/]*/)?hmac-sha256:([0-9a-f]{8}):[a-z2-7]{26}")


def read_keys(paths: Sequence[Path]) -> tuple[PseudonymKey, ...]:
    """Read key files, as `trailseal keygen --pseudonym FILE` makes them.

    Raises:
        ConfigError: A file cannot be read, others than its owner can read it too, or it holds no key.
    """
    return tuple(_read_key(path) for path in paths)


def _read_key(path: Path) -> PseudonymKey:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigError(f"cannot read it: {error.strerror}", file=str(path), hint="Name a file that you can read.") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError("it is not a regular file", file=str(path), hint="Name a file of `trailseal keygen --pseudonym FILE`.")
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(
                "others may read this key too, and whoever reads it can tell whom pseudonyms mean", file=str(path), hint=f"chmod 600 {path}"
            )
        text = os.read(descriptor, MAX_KEY_FILE_BYTES).decode("ascii", "replace")
    finally:
        os.close(descriptor)
    from ...events.redaction import PseudonymKey  # noqa: PLC0415 -- few questions name a key

    try:
        return PseudonymKey.parse(text)
    except ConfigError as error:
        raise ConfigError(error.message, file=str(path), hint=error.hint) from error


def with_pseudonyms(asked: Filter, keys: Sequence[PseudonymKey]) -> Filter:
    """Return a filter that also finds the pseudonyms of the actors and targets that are asked for by a whole value.

    Args:
        asked: What is asked for.
        keys: The keys at hand; none: it is returned as it is.

    Raises:
        ConfigError: There are keys, and nothing that has a pseudonym.
    """
    if not keys:
        return asked
    actors, targets = _expanded(asked.actor, keys, ()), _expanded(asked.target, keys, ("/",))
    if (actors, targets) == (asked.actor, asked.target):
        raise ConfigError(
            "a pseudonym is of a whole value, and no --actor and no --target is one",
            key="--pseudonym-key",
            hint="Ask for one without *, ? and [: --actor alice@example.com.",
        )
    return dataclasses.replace(asked, actor=actors, target=targets)


def _expanded(globs: Sequence[str], keys: Sequence[PseudonymKey], separators: Sequence[str]) -> tuple[str, ...]:
    found: list[str] = []
    for glob in globs:
        found.append(glob)
        if _WILDCARD.search(glob) or not is_unicode(glob):
            continue
        found += (key.pseudonym(glob) for key in keys)
        for separator in separators:
            # Of what is asked for as type/id, redaction replaced the id.
            kind, separated, name = glob.partition(separator)
            if separated and name:
                found += (f"{kind}{separator}{key.pseudonym(name)}" for key in keys)
    return tuple(dict.fromkeys(found))


def told(value: str) -> str:
    """Return a value as a statement tells it: a pseudonym is called one, with the key it was made with."""
    found = _PSEUDONYM.fullmatch(value)
    return value if found is None else f"{value} (a pseudonym, key {found[1]})"
