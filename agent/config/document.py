"""Read YAML into nodes that know their file, line and key, and substitute environment variables in their text.

Invariants: a node's error always names file, line and key. Substitution happens after parsing and in scalars only, so a
variable's value can change a text but never the structure. A mapping with the same key twice is an error, not the last one.
This module must not know which keys exist.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from ..errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Kind: TypeAlias = Literal["text", "number", "boolean", "nothing", "list", "mapping"]

MAX_PLAIN_NODES: Final = 200_000
"""How many values `Node.plain` hands out at most: aliases can make a small file very large."""

_TAG: Final = "tag:yaml.org,2002:"
_KIND_OF_TAG: Final[dict[str, Kind]] = {
    "int": "number",
    "float": "number",
    "bool": "boolean",
    "null": "nothing",
    "str": "text",
    "timestamp": "text",
}
_SUBSTITUTION = re.compile(r"\$\$|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^{}]*))?\}|(?P<broken>))")
_SHOWN_CHARACTERS: Final = 60


@dataclass(frozen=True, slots=True)
class Source:
    """Hold what all nodes of one file share.

    Attributes:
        file: The file's path as the user wrote it.
        environ: The variables that may be substituted; None where ``$`` has no meaning.
    """

    file: str
    environ: Mapping[str, str] | None


@dataclass(frozen=True, slots=True)
class Node:
    """Stand for one value of the file, and for the place to name when something is wrong with it.

    Attributes:
        source: The file the node was read from.
        key: The dotted path, for example ``stores[0].directory``; empty for the whole document.
        line: Counted from 1. For a value of a mapping it is the line of its key.
        raw: The parser's node.
    """

    source: Source
    key: str
    line: int
    raw: Any

    def error(self, message: str, hint: str | None = None) -> ConfigError:
        """Return (not raise) the error that names this place."""
        return ConfigError(message, file=self.source.file, line=self.line, key=self.key or None, hint=hint)

    def child(self, name: str) -> Node:
        """Return a node that names one key of this mapping and stands in the mapping's own line."""
        return Node(self.source, f"{self.key}.{name}" if self.key else name, self.line, self.raw)

    @property
    def kind(self) -> Kind:
        """What the value is, before substitution: a text in quotes is text whatever it looks like."""
        if isinstance(self.raw, MappingNode):
            return "mapping"
        if isinstance(self.raw, SequenceNode):
            return "list"
        kind = _KIND_OF_TAG.get(str(self.raw.tag).removeprefix(_TAG))
        if kind is None:
            raise self.error(f"the YAML tag {self.raw.tag} has no meaning here", "Remove the tag.")
        return kind

    @property
    def text(self) -> str:
        """The scalar's text after substitution.

        Raises:
            ConfigError: A variable is not set, or ``${`` begins no substitution.
        """
        return str(self.raw.value) if self.source.environ is None else _SUBSTITUTION.sub(self._substitute, self.raw.value)

    @property
    def shown(self) -> str:
        """The value for an error message: as it stands in the file, so that no variable's content is printed."""
        if self.kind == "mapping":
            return "a mapping"
        if self.kind == "list":
            return "a list"
        if self.kind == "nothing":
            return "nothing"
        text = ascii(self.raw.value)[1:-1].replace("\\'", "'")
        return f'"{text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"}"'

    def _substitute(self, found: re.Match[str]) -> str:
        """Return what stands for one ``$$`` or ``${…}``."""
        if found[0] == "$$":
            return "$"
        name, default = found["name"], found["default"]
        if found["broken"] is not None:
            raise self.error("this ${ begins no substitution", "Write ${NAME} or ${NAME:-default}, and $$ for a dollar sign.")
        value = (self.source.environ or {}).get(name)
        if not value and name == "HOSTNAME":
            value = socket.gethostname()
        if default is not None:
            return value or default
        if value is None:
            raise self.error(f"the environment variable {name} is not set", f"Set it, or write ${{{name}:-default}}.")
        return value

    def pairs(self) -> Iterator[tuple[str, Node]]:
        """Iterate over a mapping's keys and values, in the order of the file.

        Raises:
            ConfigError: A key is not a text, or stands there twice.
        """
        seen: dict[str, int] = {}
        for raw_key, raw_value in self.raw.value:
            line = raw_key.start_mark.line + 1
            here = Node(self.source, self.key, line, raw_key)
            if not isinstance(raw_key, ScalarNode):
                raise here.error("a key must be a plain word")
            if str(raw_key.tag) == _TAG + "merge":
                raise here.error("merge keys (<<) are not supported", "Write the keys out.")
            name = str(raw_key.value)
            child = Node(self.source, self.child(name).key, line, raw_value)
            if name in seen:
                raise child.error(f"this key stands here twice; first in line {seen[name]}", "Remove one of them.")
            seen[name] = line
            yield name, child

    def elements(self) -> list[Node]:
        """Return a list's values."""
        return [Node(self.source, f"{self.key}[{index}]", raw.start_mark.line + 1, raw) for index, raw in enumerate(self.raw.value)]

    def plain(self, lines: dict[str, int]) -> object:
        """Return the value as dicts, lists, texts, numbers, booleans and None, and note every key's line in `lines`.

        Raises:
            ConfigError: A number that is none, a key that stands there twice, or more values than `MAX_PLAIN_NODES`.
        """
        lines.setdefault(self.key, self.line)
        if len(lines) > MAX_PLAIN_NODES:
            raise self.error(f"more than {MAX_PLAIN_NODES} values", "Split the file, or look for aliases inside aliases.")
        match self.kind:
            case "mapping":
                return {name: child.plain(lines) for name, child in self.pairs()}
            case "list":
                return [child.plain(lines) for child in self.elements()]
            case "nothing":
                return None
            case "boolean":
                return self.raw.value.lower() == "true"
            case "number":
                return self._number()
            case "text":
                return self.text

    def _number(self) -> int | float:
        """Return a number written in decimal."""
        for convert in (int, float):
            try:
                return convert(self.raw.value)
            except ValueError:
                continue
        raise self.error(f"{self.shown} is not a decimal number", "Put it in quotes if it is a text.")


def read_document(path: str, environ: Mapping[str, str] | None) -> Node:
    """Read a YAML file and return its root node, which is a mapping.

    Args:
        path: The file.
        environ: The variables that may be substituted, or None for no substitution.

    Raises:
        ConfigError: The file is missing, unreadable, not UTF-8, not YAML 1.2, empty, or not one mapping.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        hint = (
            "Name another one with --config FILE." if isinstance(error, FileNotFoundError) else "The agent's user must be able to read it."
        )
        raise ConfigError(f"cannot read this file: {error.strerror}", file=path, hint=hint) from error
    return parse_document(path, content, environ)


def parse_document(path: str, content: bytes, environ: Mapping[str, str] | None) -> Node:
    """Parse the content of a YAML file and return its root node, which is a mapping.

    Args:
        path: The file, for messages and relative paths.
        content: Its bytes.
        environ: As for `read_document`.

    Raises:
        ConfigError: The content is not UTF-8, not YAML 1.2, empty, or not one mapping.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError("the file is not UTF-8 text", file=path, line=line, hint="Save it as UTF-8.") from error
    root = _compose(path, text)
    if root is None:
        raise ConfigError("the file is empty", file=path, line=1, hint="Start from config/trailseal.yaml.")
    node = Node(Source(path, environ), "", root.start_mark.line + 1, root)
    if not isinstance(root, MappingNode):
        raise node.error("the file must be a mapping of keys to values", 'A line looks like "service: payments".')
    return node


def _compose(path: str, text: str) -> Any:
    """Parse YAML 1.2 into the parser's nodes, translating its errors."""
    try:
        return YAML(typ="safe", pure=True).compose(text)
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError("a control character is not allowed in YAML", file=path, line=line, hint="Remove the character.") from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        raise ConfigError(
            f"not YAML: {' '.join(str(error.problem or error.context).split())}", file=path, line=line, hint=_hint(text, line)
        ) from error
    except (YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"not YAML: {' '.join(str(error).split())}", file=path, line=1) from error


def _hint(text: str, line: int) -> str:
    """Guess why a line is not YAML."""
    lines = text.splitlines()
    near = lines[line - 1] if line <= len(lines) else ""
    if "\t" in near:
        return "Indent with spaces; YAML does not allow tabs there."
    if "${" in near:
        return 'Inside { } and [ ], put "${NAME}" in quotes.'
    return "Look at the indentation, quotes and brackets up to this line."


def nearest_line(lines: Mapping[str, int], key: str) -> int:
    """Return the line of a key, or of the nearest key above it that stands in the file; `lines` are those of `Node.plain`."""
    while key and key not in lines:
        key = max(key.rpartition(".")[0], key.rpartition("[")[0], key=len)
    return lines.get(key, 1)
