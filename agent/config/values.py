"""Turn a node's text into a typed value: durations, sizes, booleans, words, paths, addresses, whole sections.

Each reader stands in the annotation of the setting it reads, so type, bounds and meaning of a key are written once.
Invariants: a reader raises `ConfigError` with the node's place and a sentence that says what is allowed; it has no effects
beyond looking whether a named file exists. This module must not know the keys.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from difflib import get_close_matches
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from ..trail.layout import fold_name, is_name

if TYPE_CHECKING:
    from .document import Node

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|)")
_DURATION_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "": 1.0}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(GiB|MiB|KiB|GB|MB|kB|KB|B|)")
_SIZE_UNITS: Final = {
    "GiB": 1 << 30,
    "MiB": 1 << 20,
    "KiB": 1 << 10,
    "GB": 10**9,
    "MB": 10**6,
    "kB": 10**3,
    "KB": 10**3,
    "B": 1,
    "": 1,
}
_INTEGER = re.compile(r"[0-9]{1,18}")
_MAX_PLACE_CHARS: Final = 253
"""What a name in the DNS has at most, and so one of Kubernetes (RFC 1123)."""
_MODE = re.compile(r"0?[0-7]{3}")
_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^:\[\]\s/]+)):(?P<port>[0-9]{1,5})")
_MAX_PORT: Final = 65535


class Reader(Protocol):
    """Read one setting's value; `article` says in an error what it must be."""

    def read(self, node: Node) -> Any:
        """Return the typed value, or raise ConfigError with the node's place."""


class Address(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Name a TCP address to listen on.

    Attributes:
        host: A host name or an IP address, without brackets.
        port: 0 lets the system choose one.
    """

    host: str
    port: int

    def __str__(self) -> str:
        """Return ``host:port``, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def format_duration(seconds: float) -> str:
    """Write a duration as a person would in the file: ``5s``, ``500ms``, ``2m``, ``1h``."""
    for unit, factor in (("h", 3600), ("m", 60), ("s", 1)):
        if seconds >= factor and seconds % factor == 0:
            return f"{seconds / factor:g}{unit}"
    return f"{seconds * 1000:g}ms"


def format_size(size_bytes: int) -> str:
    """Write a size as a person would in the file: ``4MiB``, ``64KiB``, ``1000``."""
    for unit in ("GiB", "MiB", "KiB"):
        if size_bytes >= _SIZE_UNITS[unit] and size_bytes % _SIZE_UNITS[unit] == 0:
            return f"{size_bytes // _SIZE_UNITS[unit]}{unit}"
    return str(size_bytes)


@dataclass(frozen=True, slots=True)
class Text:
    """Read a text of at least one character, without NUL."""

    def read(self, node: Node) -> str:
        """Return the text after substitution; a bare number or boolean must be quoted."""
        if node.kind in {"number", "boolean"}:
            raise node.error(f"must be a text, not the {node.kind} {node.raw.value}", f'Put it in quotes: "{node.raw.value}".')
        if node.kind != "text":
            raise node.error(f"must be a text, not {node.shown}")
        text = node.text
        if not text or "\0" in text:
            raise node.error("must not be empty" if not text else "must not contain a NUL character")
        return text


@dataclass(frozen=True, slots=True)
class PlaceName:
    """Read a name that may be empty, as a variable is that nobody set; empty means that it is not known."""

    def read(self, node: Node) -> str:
        """Return the name, at most 253 characters of printable text, or nothing."""
        text = node.text if node.kind == "text" else Text().read(node)
        if len(text) > _MAX_PLACE_CHARS or not text.isprintable():
            raise node.error(f"must be at most {_MAX_PLACE_CHARS} printable characters")
        return text


@dataclass(frozen=True, slots=True)
class FoldedName:
    """Read a name of any characters and fold it into one that an origin may contain."""

    def read(self, node: Node) -> str:
        """Return the folded name (agent.trail.layout.fold_name)."""
        text = str(node.raw.value) if node.kind == "number" else Text().read(node)
        return fold_name(text)


@dataclass(frozen=True, slots=True)
class Name:
    """Read an id: it stands in every record and in metric labels, so it is taken as it is or refused, never folded."""

    def read(self, node: Node) -> str:
        """Return the id: 1 to 63 of a-z, 0-9, dot, underscore and hyphen, with a letter or digit at both ends."""
        text = Text().read(node)
        if not is_name(text):
            suggestion = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("._-")[:63].strip("._-")
            raise node.error(
                f"{node.shown} is not an id: 1 to 63 of a-z, 0-9, '.', '_' and '-', a letter or digit first and last",
                f"Try {suggestion}." if is_name(suggestion) else None,
            )
        return text


@dataclass(frozen=True, slots=True)
class Word:
    """Read one of a few words."""

    words: tuple[str, ...]

    def read(self, node: Node) -> str:
        """Return the word."""
        text = node.text if node.kind in {"text", "boolean"} else ""
        if text not in self.words:
            raise node.error(f"must be {one_of(self.words)}, not {node.shown}", did_you_mean(text, self.words))
        return text


@dataclass(frozen=True, slots=True)
class Flag:
    """Read true or false."""

    def read(self, node: Node) -> bool:
        """Return the boolean."""
        text = node.text.lower() if node.kind in {"text", "boolean"} else ""
        if text not in {"true", "false"}:
            raise node.error(f"must be true or false, not {node.shown}")
        return text == "true"


@dataclass(frozen=True, slots=True)
class Duration:
    """Read a duration; the value is in seconds."""

    least: float
    most: float

    def read(self, node: Node) -> float:
        """Return seconds between `least` and `most`."""
        found = _DURATION.fullmatch(node.text.strip()) if node.kind in {"text", "number"} else None
        if found is None:
            raise node.error(f"must be a duration such as 500ms, 5s, 2m or 1h, not {node.shown}")
        seconds = float(found[1]) * _DURATION_UNITS[found[2]]
        if not math.isfinite(seconds) or not self.least <= seconds <= self.most:
            raise node.error(f"must be between {format_duration(self.least)} and {format_duration(self.most)}, not {node.shown}")
        return seconds


@dataclass(frozen=True, slots=True)
class Size:
    """Read a size; the value is in bytes."""

    least: int
    most: int

    def read(self, node: Node) -> int:
        """Return bytes between `least` and `most`."""
        found = _SIZE.fullmatch(node.text.strip()) if node.kind in {"text", "number"} else None
        if found is None:
            raise node.error(f"must be a size such as 64KiB, 4MiB, 1GiB or 10MB, not {node.shown}")
        size = float(found[1]) * _SIZE_UNITS[found[2]]
        if not self.least <= size <= self.most:
            raise node.error(f"must be between {format_size(self.least)} and {format_size(self.most)}, not {node.shown}")
        return int(size)


@dataclass(frozen=True, slots=True)
class Integer:
    """Read a whole number."""

    least: int
    most: int

    def read(self, node: Node) -> int:
        """Return the number, between `least` and `most`."""
        text = node.text.strip() if node.kind in {"text", "number"} else ""
        if not _INTEGER.fullmatch(text):
            raise node.error(f"must be a whole number, not {node.shown}")
        if not self.least <= int(text) <= self.most:
            raise node.error(f"must be between {self.least} and {self.most}, not {node.shown}")
        return int(text)


@dataclass(frozen=True, slots=True)
class FilePath:
    """Read a path; a relative one begins at the configuration file's folder.

    Attributes:
        must_exist: Whether a regular file must be there already.
    """

    must_exist: bool = False

    def read(self, node: Node) -> str:
        """Return the absolute path."""
        path = folder_of(node) / Text().read(node)
        try:
            there = not self.must_exist or path.is_file()
        except OSError as error:
            raise node.error(f"cannot look at {path}: {error.strerror}", "The agent's user must be able to read it.") from error
        if not there:
            raise node.error(f"there is no file {path}", "A relative path begins at the folder of the configuration file.")
        return str(path)


@dataclass(frozen=True, slots=True)
class Globs:
    """Read one file pattern or a list of them; a relative one begins at the configuration file's folder."""

    def read(self, node: Node) -> tuple[str, ...]:
        """Return absolute patterns."""
        nodes = node.elements() if node.kind == "list" else [node]
        if not nodes:
            raise node.error("must name at least one file pattern")
        patterns = []
        for each in nodes:
            pattern = Text().read(each)
            patterns.append(pattern if pattern.startswith("/") else f"{escape(str(folder_of(each)))}/{pattern}")
            if pattern.endswith("/"):
                raise each.error(f"{each.shown} names a folder", f"Name the files in it: {pattern}*.log")
        return tuple(patterns)


@dataclass(frozen=True, slots=True)
class Texts:
    """Read one text or a list of them."""

    def read(self, node: Node) -> tuple[str, ...]:
        """Return the texts; at least one, each once."""
        nodes = node.elements() if node.kind == "list" else [node]
        if not nodes:
            raise node.error("must name at least one")
        texts: list[str] = []
        for each in nodes:
            text = Text().read(each)
            if text in texts:
                raise each.error(f"{each.shown} stands here twice")
            texts.append(text)
        return tuple(texts)


@dataclass(frozen=True, slots=True)
class MappingNames:
    """Read one mapping or a list of them: the name of one that comes with the program, or the path of a file."""

    def read(self, node: Node) -> tuple[str, ...]:
        """Return the names, and absolute paths; a path has a slash in it or ends in ``.yaml``."""
        Texts().read(node)
        return tuple(self._one(each) for each in (node.elements() if node.kind == "list" else [node]))

    def _one(self, node: Node) -> str:
        name = Text().read(node)
        return FilePath(must_exist=True).read(node) if "/" in name or name.endswith((".yaml", ".yml")) else name


@dataclass(frozen=True, slots=True)
class Zone:
    """Read a time zone."""

    def read(self, node: Node) -> str:
        """Return ``UTC``, an offset such as ``+02:00``, or a name of the IANA database that this machine knows."""
        from ..events.mappings.times import zone_of  # noqa: PLC0415 -- few sources have one

        name = Text().read(node)
        if zone_of(name) is None:
            raise node.error(
                f"{node.shown} is no time zone that is known here", "UTC, an offset such as +02:00, or a name such as Europe/Berlin."
            )
        return name


@dataclass(frozen=True, slots=True)
class Mode:
    """Read permission bits as chmod(1) writes them, in octal."""

    def read(self, node: Node) -> int:
        """Return the bits, 0 to 0o777."""
        text = str(node.raw.value) if node.kind == "number" else Text().read(node)
        if not _MODE.fullmatch(text):
            raise node.error(f"must be permission bits in octal, not {node.shown}", 'For example "0660".')
        return int(text, 8)


@dataclass(frozen=True, slots=True)
class Command:
    """Read a command as a list of words; no shell is involved."""

    def read(self, node: Node) -> tuple[str, ...]:
        """Return the words."""
        if node.kind != "list":
            raise node.error(f"must be a list of words, not {node.shown}", 'Write [myservice, --port, "8080"]; for a shell, [sh, -c, "…"].')
        words = tuple("" if each.kind == "text" and not each.text else Text().read(each) for each in node.elements())
        if not words or not words[0]:
            raise node.error("must begin with the program to run")
        return words


@dataclass(frozen=True, slots=True)
class Listen:
    """Read ``host:port``, or ``none`` for not listening."""

    def read(self, node: Node) -> Address | None:
        """Return the address, or None."""
        text = Text().read(node)
        if text == "none":
            return None
        found = _ADDRESS.fullmatch(text)
        if found is None or int(found["port"]) > _MAX_PORT:
            raise node.error(f"must be host:port or none, not {node.shown}", "For example 127.0.0.1:9600, 0.0.0.0:9600 or [::1]:9600.")
        return Address(found["six"] or found["host"], int(found["port"]))


def folder_of(node: Node) -> Path:
    """Return the absolute folder of the node's file."""
    return Path(node.source.file).absolute().parent


def did_you_mean(text: str, known: tuple[str, ...]) -> str | None:
    """Return the hint for a misspelt word, or None where nothing is close."""
    close = get_close_matches(text.lower(), known, n=1, cutoff=0.6)
    return f"Did you mean {close[0]}?" if close else None


def one_of(words: tuple[str, ...]) -> str:
    """Join words for a sentence: ``a, b or c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def listed(words: tuple[str, ...]) -> str:
    """Join words for a sentence: ``a, b and c``."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
