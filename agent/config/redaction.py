"""Define the settings of redaction, and make the redactor that they describe.

Invariants: each rule has been tried out when the settings are read, so that a wrong one is an error with file, line and key before anything
runs; a key is read when a redactor is made, and stands in no setting. What finds secrets is imported only where there are rules.
This module must not write anything, and names neither a key nor a variable's content in an error.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Annotated, Final, Literal, Protocol

import msgspec

from ..errors import ConfigError
from .sections import Section
from .values import FilePath, Integer, Text, Word

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..events.redaction import PathRule, PatternRule, PseudonymKey, Redactor
    from .document import Node

MAX_KEY_FILE_BYTES: Final = 4096
_MAX_RULES: Final = 200
_MADE_UP: Final = bytes(32)
"""Tries out rules that hash, while the real key is none of their business."""

RedactionAction = Literal["drop", "mask", "hash"]


class RedactionRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    r"""Say one thing that is redacted, by its place or by its looks.

    Attributes:
        path: Where it stands in the event: ``context.email``, ``context.users.*.email``, ``actor.id``.
        pattern: What it looks like: the name of a built-in pattern, or an expression in RE2's syntax.
        name: What the expression is called.
        action: ``drop``, ``mask`` or ``hash``.
        keep_last: How many characters a mask leaves of the end.
    """

    path: Annotated[str | None, Text()] = None
    pattern: Annotated[str | None, Text()] = None
    name: Annotated[str | None, Text()] = None
    action: Annotated[RedactionAction, Word(("drop", "mask", "hash"))]
    keep_last: Annotated[int, Integer(1, 8)] = 0

    def __post_init__(self) -> None:
        """Refuse a rule that names no place and no pattern, or both."""
        if (self.path is None) == (self.pattern is None):
            raise ValueError("a rule has a path or a pattern, and one of them only")
        if self.name is not None and self.pattern is None:
            raise ValueError("a name is for a pattern of your own; a path is its own name")

    def made(self, key: PseudonymKey | None) -> PathRule | PatternRule:
        """Return the rule itself (ConfigError with the key that is wrong)."""
        from ..events.redaction import PathRule, PatternRule, Treatment  # noqa: PLC0415 -- most agents redact nothing

        treatment = Treatment(self.action, self.keep_last, key if self.action == "hash" else None)
        if self.path is not None:
            return PathRule.of(self.path, treatment)
        return PatternRule.of(self.pattern or "", treatment, self.name)


class RedactionRules:
    """Read a list of rules, each of them tried out."""

    def read(self, node: Node) -> tuple[RedactionRule, ...]:
        """Return the rules in the file's order."""
        from ..events.redaction import PseudonymKey  # noqa: PLC0415 -- most agents redact nothing

        if node.kind != "list":
            raise node.error(
                f"must be a list of rules, not {node.shown}", "Begin each with a hyphen: - {path: context.email, action: hash}."
            )
        rules: list[RedactionRule] = []
        for each in node.elements():
            rule = Section(RedactionRule).read(each)
            try:
                rule.made(PseudonymKey(_MADE_UP))
            except ConfigError as error:
                at = dict(each.pairs()).get(error.key, each.child(error.key)) if error.key else each
                # An error says what its key is, unless it has a key: then the node's place says it.
                message = error.message.removeprefix(f"{error.key}: ")
                raise at.error(message, error.hint) from error
            rules.append(rule)
        if not rules or len(rules) > _MAX_RULES:
            raise node.error(f"must have between 1 and {_MAX_RULES} rules")
        return tuple(rules)


class Redaction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say what is redacted before anything is stored.

    Attributes:
        key_file: The absolute path of the key of pseudonyms; its owner alone may read it.
        key_env: The name of the environment variable that holds the key.
        rules: What is redacted, in the order in which rules count.
    """

    key_file: Annotated[str | None, FilePath()] = None
    key_env: Annotated[str | None, Text()] = None
    rules: Annotated[tuple[RedactionRule, ...], RedactionRules()]

    def __post_init__(self) -> None:
        """Refuse hashing without a key, and two keys."""
        if self.key_file is not None and self.key_env is not None:
            raise ValueError("key_file and key_env are two keys, and one makes the pseudonyms")
        if self.key_file is None and self.key_env is None and any(rule.action == "hash" for rule in self.rules):
            raise ValueError("a rule hashes, and there is no key: give key_file or key_env (trailseal keygen --pseudonym FILE makes one)")


class _Error(Protocol):
    """What `Settings.error` is: an error for a key, with file and line."""

    def __call__(self, key: str, message: str, hint: str | None = None, /) -> ConfigError:
        """Return the error."""


def load_redactor(redaction: Redaction, error: _Error, where: str, environ: Mapping[str, str]) -> Redactor:
    """Make the redactor that settings describe.

    Args:
        redaction: The settings.
        error: Makes an error for a key of the configuration file: `Settings.error`.
        where: The key they stand at, for errors: ``redaction`` or ``sources[0].redaction``.
        environ: The environment variables that `key_env` may name.

    Raises:
        ConfigError: The key cannot be read, others may read it too, or it is none.
    """
    from ..events.redaction import PathRule, PatternRule, Redactor  # noqa: PLC0415 -- most agents redact nothing

    key = load_key(redaction, error, where, environ)
    rules = [rule.made(key) for rule in redaction.rules]
    paths = [rule for rule in rules if isinstance(rule, PathRule)]
    return Redactor(paths, [rule for rule in rules if isinstance(rule, PatternRule)], key)


def load_key(redaction: Redaction, error: _Error, where: str, environ: Mapping[str, str]) -> PseudonymKey | None:
    """Read the key that settings name; None if they name none. Arguments and errors are those of `load_redactor`."""
    from ..events.redaction import PseudonymKey  # noqa: PLC0415 -- most agents redact nothing

    if redaction.key_file is None and redaction.key_env is None:
        return None
    setting = "key_env" if redaction.key_file is None else "key_file"
    try:
        text = _in_file(redaction.key_file) if redaction.key_file is not None else _in_environment(redaction.key_env or "", environ)
        return PseudonymKey.parse(text)
    except ConfigError as wrong:
        raise error(f"{where}.{setting}", wrong.message, wrong.hint) from wrong


def _in_file(path: str) -> str:
    """Return what a key file holds, once it is certain that it is its owner's alone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint="The agent's user must be able to read it.") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{path} is not a regular file", hint="Name the file that `trailseal keygen --pseudonym FILE` made.")
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError(
                f"others may read {path} too (mode {stat.S_IMODE(status.st_mode):04o}), and whoever reads it can undo pseudonyms",
                hint=f"chmod 600 {path}; where a volume cannot be that strict, use key_env.",
            )
        return os.read(descriptor, MAX_KEY_FILE_BYTES).decode("ascii", "replace")
    finally:
        os.close(descriptor)


def _in_environment(name: str, environ: Mapping[str, str]) -> str:
    if not environ.get(name):
        raise ConfigError(f"the environment variable {name} is not set", hint="Set it to the one line of a key file.")
    return environ[name]
