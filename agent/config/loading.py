"""Load a configuration file: read it, apply the defaults, and check what only all settings together can show.

Invariants: what is returned can be run; the first thing wrong is reported, as one line with file, line and key.
This module must not create or change anything.
"""

from __future__ import annotations

import socket
from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import quote

import msgspec

from ..errors import ConfigError
from ..trail.layout import fold_name
from .catalogs import read_catalogs
from .document import Node, read_document
from .redaction import load_key
from .sections import Section
from .settings import Document, Settings
from .sources import Source
from .values import FilePath

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .mappings import MappingReading

_STREAM_IDS: Final = {"command": "command", "pipe": "stdin"}


def load(path: str, environ: Mapping[str, str]) -> Settings:
    """Load and check a configuration file.

    Args:
        path: The file; relative paths in it begin at its folder.
        environ: The environment variables that ``${NAME}`` may name.

    Raises:
        ConfigError: The file is missing or wrong; the message is one line, ``file:line: key: what``.
    """
    root = read_document(path, environ)
    document = Section(Document).read(root)
    lines: dict[str, int] = {}
    _note_lines(root, lines)
    values = {field.name: getattr(document, field.name) for field in msgspec.structs.fields(Document)}
    values["instance"] = document.instance or fold_name(environ.get("HOSTNAME") or socket.gethostname())
    settings = Settings(**values, file=path, lines=lines)
    if settings.catalog:
        reading = read_catalogs(settings.catalog)
        settings = msgspec.structs.replace(settings, catalog_sha256=reading.sha256, catalog_reading=reading)
    names = tuple(dict.fromkeys(name for source in settings.sources for name in source.mapping or ()))
    if names:
        readings = _read_mappings(settings, names)
        hashes = {name: reading.sha256 for name, reading in readings.items()}
        settings = msgspec.structs.replace(settings, mapping_sha256=hashes, mapping_readings=readings)
    settings = msgspec.structs.replace(settings, pseudonym_keys=_read_key_ids(settings, environ))
    _check_streams(settings)
    _check_files(settings)
    _check_journals(settings)
    _check_sockets(settings)
    _check_stores(settings)
    return settings


def load_state(path: str, environ: Mapping[str, str]) -> str:
    """Return the state directory that a configuration file names, whatever else in it is wrong.

    Args:
        path: The file.
        environ: As for `load`.

    Raises:
        ConfigError: The file cannot be read as YAML, or names no state directory.
    """
    root = read_document(path, environ)
    named = dict(root.pairs()).get("state") if root.kind == "mapping" else None
    if named is None:
        raise root.child("state").error("this key is missing")
    return FilePath().read(named)


def with_stream_source(settings: Settings, kind: Literal["pipe", "command"], argv: Sequence[str] = ()) -> Settings:
    """Return settings that read the stream named on the command line.

    A source of that kind in the file is kept, with its id and its rule; `argv` then replaces its command. Where the file has
    none, one is added: ``command`` or ``stdin`` is its id, with a number behind it where that is taken.

    Args:
        settings: What the file says.
        kind: ``command`` for ``exec``, ``pipe`` for ``pipe``.
        argv: The command's words; required for ``command`` unless the file has one.

    Raises:
        ConfigError: The file has a source of the other stream kind, or there is no command to run.
    """
    command = tuple(argv) or None
    streams = [source for source in settings.sources if source.is_stream]
    for index, source in enumerate(settings.sources):
        if source.kind == kind:
            changed = source if command is None or kind == "pipe" else msgspec.structs.replace(source, command=command)
            return msgspec.structs.replace(settings, sources=(*settings.sources[:index], changed, *settings.sources[index + 1 :]))
    if streams:
        raise settings.error(
            "sources", f"the source {streams[0].id} is a {streams[0].kind}, so no {kind} can be added", "Remove it from the file."
        )
    if kind == "command" and command is None:
        raise settings.error("sources", "there is no command to run", "Write it after two hyphens: trailseal exec --config FILE -- CMD.")
    taken = {source.id for source in settings.sources}
    names = (_STREAM_IDS[kind], *(f"{_STREAM_IDS[kind]}-{number}" for number in range(2, len(taken) + 3)))
    name = next(name for name in names if name not in taken)
    added = Source(id=name, pipe="stdin") if kind == "pipe" else Source(id=name, command=command)
    return msgspec.structs.replace(settings, sources=(*settings.sources, added))


def require_sources(settings: Settings) -> None:
    """Refuse settings without any source: `run` needs one, `exec` and `pipe` bring their own.

    Raises:
        ConfigError: There is none.
    """
    if not settings.sources:
        raise settings.error("sources", "there is no source", 'Add one, for example - {id: app, file: "/var/log/app/*.log"}.')


def _note_lines(node: Node, lines: dict[str, int]) -> None:
    """Note the line of every key; the document has been checked, so it is as small as the settings."""
    if node.key:
        lines[node.key] = node.line
    if node.kind == "mapping":
        for _, child in node.pairs():
            _note_lines(child, lines)
    elif node.kind == "list":
        for child in node.elements():
            _note_lines(child, lines)


def _read_key_ids(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the ids of the keys that pseudonyms are made with, so that another key is another configuration."""
    said = {settings.redaction_key(source): source.redaction for source in settings.sources if source.redaction is not None}
    keys = {where: load_key(one, settings.error, where, environ) for where, one in {"redaction": settings.redaction, **said}.items() if one}
    return {where: key.id for where, key in keys.items() if key is not None}


def _read_mappings(settings: Settings, names: Sequence[str]) -> dict[str, MappingReading]:
    """Read the files of mappings; few agents have any, and what compiles them is not small."""
    from .mappings import read_mapping

    readings: dict[str, MappingReading] = {}
    for name in names:
        try:
            readings[name] = read_mapping(name)
        except ConfigError as error:
            index = next(index for index, source in enumerate(settings.sources) if name in (source.mapping or ()))
            raise settings.error(f"sources[{index}].mapping", error.message, error.hint) from error
    return readings


def _check_streams(settings: Settings) -> None:
    """Refuse a second stream: one process owns one command or one standard input."""
    streams = [index for index, source in enumerate(settings.sources) if source.is_stream]
    if len(streams) > 1:
        first = settings.sources[streams[0]]
        raise settings.error(
            f"sources[{streams[1]}]",
            f"only one source can be a pipe or a command, and {first.id} is one already",
            "Run one agent beside each command, with its own state.",
        )


def _check_files(settings: Settings) -> None:
    """Refuse a pattern that two sources share, and one that reads what the agent itself writes."""
    owners: dict[str, str] = {}
    for index, source in enumerate(settings.sources):
        for pattern in source.patterns:
            key = f"sources[{index}].{source.kind}"
            if pattern in owners:
                raise settings.error(key, f"{pattern} is read by the source {owners[pattern]} already", "Read each file in one source.")
            owners[pattern] = source.id
            written = settings.observability.path
            if written is not None and _matches(written, pattern):
                raise settings.error(
                    key, f"{pattern} would read the file observability writes, {written}, without end", "Write it elsewhere."
                )


def _check_journals(settings: Settings) -> None:
    """Refuse to read the whole journal of this machine while stdout, which systemd writes into it, gets what is read."""
    for index, source in enumerate(settings.sources):
        journal = source.journal
        if journal is not None and journal.all and journal.directory is None and settings.observability.kind == "stdout":
            raise settings.error(
                f"sources[{index}].journal",
                "under systemd this would read what the agent passes on to stdout, without end",
                "Set observability: none (the lines are in the journal already), or name units or identifiers.",
            )


def _check_sockets(settings: Settings) -> None:
    """Refuse an address that two sources share, or that the agent's own vitals have."""
    owners = {str(PurePath(settings.state, "agent.sock")): "the agent itself"}
    if settings.vitals.listen is not None and settings.vitals.listen.port:
        owners[str(settings.vitals.listen)] = "vitals"
    for index, source in enumerate(settings.sources):
        if source.socket is None:
            continue
        listen, path = source.socket.listen, source.socket.path
        for name, address in (("listen", str(listen) if listen is not None and listen.port else None), ("path", path)):
            if address in owners:
                key = f"sources[{index}].socket.{name}"
                raise settings.error(key, f"{address} is taken by {owners[address]}", "Give each its own.")
            if address is not None:
                owners[address] = f"the source {source.id}"


def _check_stores(settings: Settings) -> None:
    """Refuse stores without a required one, and a store that shares a place with the state or another store."""
    if not any(store.required for store in settings.stores):
        raise settings.error(
            "stores", "no store is required, so nothing would say when a batch is safe", "Set required: true on at least one store."
        )
    trees = {settings.state: f"state ({settings.state})"}
    for index, store in enumerate(settings.stores):
        tree = store.directory or f"{quote(store.endpoint or '', safe='')}:{store.bucket}"
        for other, owner in trees.items():
            if _nested(tree, other):
                key = f"stores[{index}].{'bucket' if store.bucket else 'directory'}"
                raise settings.error(key, f"{store.place} lies in one tree with {owner}", "Give each a place of its own.")
        trees[tree] = f"the store {store.id} ({store.place})"


def _nested(one: str, other: str) -> bool:
    """Tell whether two absolute paths are the same, or one lies inside the other."""
    left, right = PurePath(one), PurePath(other)
    return left.is_relative_to(right) or right.is_relative_to(left)


def _matches(path: str, pattern: str) -> bool:
    """Tell whether a glob pattern would find a path; with ``**`` it may say yes too often, never too seldom."""
    if "**" in pattern:
        return fnmatchcase(path, pattern.replace("**/", "*"))
    parts, patterns = PurePath(path).parts, PurePath(pattern).parts
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))
