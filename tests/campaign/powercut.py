"""Build the disk that a power cut leaves behind, from a record of everything the agent asked of its files.

The record is strace's, with all bytes. What POSIX promises is all that is relied on: a file's bytes and length are there once an fsync or
fdatasync of the file that began after the writes has returned, and a name is there (or gone) once an fsync of its folder has. Everything
else may be there, or not, or in part, in any order. A file's fsync is not taken to make its name durable, although most file systems do.

Limits: writes through mappings are not seen (SQLite makes none here, in exclusive WAL mode); modes and times are not kept; the source's own
files are taken to survive.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator
    from pathlib import Path

CALLS: Final = ("openat", "write", "pwrite64", "ftruncate", "fallocate", "fsync", "fdatasync", "link", "unlink", "rename", "mkdir", "rmdir")
TRACING: Final = ("-y", "-xx", "-s", "4194304")
_LINE: Final = re.compile(r"^(\d+) +(?:<\.\.\. )?([a-z0-9_]+)(\(| resumed>)(.*)$")
_ESCAPE: Final = re.compile(r"\\x([0-9a-f]{2})")
_TEXT: Final = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_FD: Final = re.compile(r"^\d+<([^>]*)>")
SECTOR: Final = 512


@dataclass(slots=True)
class Inode:
    """Be a file: the bytes that are durable, and the changes since, each a function from bytes to bytes with its own length."""

    durable: bytes = b""
    pending: list[Change] = field(default_factory=list)

    def now(self) -> bytes:
        """Return the bytes as a running system sees them."""
        data = self.durable
        for change in self.pending:
            data = change.apply(data)
        return data


@dataclass(frozen=True, slots=True)
class Change:
    """Be a change of a file: bytes at an offset, or a new length (`data` is None); `grow` keeps what is there if it is longer."""

    offset: int
    data: bytes | None
    grow: bool = False

    def apply(self, before: bytes) -> bytes:
        """Return the bytes after the change."""
        if self.data is None:
            if self.grow and len(before) >= self.offset:
                return before
            return before[: self.offset].ljust(self.offset, b"\0")
        return before.ljust(self.offset, b"\0")[: self.offset] + self.data + before[self.offset + len(self.data) :]

    def torn(self, dice: random.Random) -> Change:
        """Return the change as it is if the power went away in the middle of it: whole sectors of its beginning."""
        if self.data is None:
            return self
        return Change(self.offset, self.data[: dice.randint(0, len(self.data) // SECTOR) * SECTOR])


class Disk:
    """Be the file systems below some folders: names and files, as they are seen and as they are durable. A folder's node is None."""

    def __init__(self, roots: list[Path]) -> None:
        """Take the folders as they are, all of it durable."""
        self.roots = [str(root) for root in roots]
        self.seen: dict[str, Inode | None] = {}
        for root in roots:
            for path in (root, *root.rglob("*")) if root.is_dir() else ():
                if path.is_dir():
                    self.seen[str(path)] = None
                elif path.is_file():
                    self.seen[str(path)] = Inode(path.read_bytes())
        self.durable = dict(self.seen)

    def has(self, path: str) -> bool:
        """Say whether a path lies in one of the folders, or holds the name of one: that name, too, is durable only after an fsync."""
        return any(path in (root, _parent(root)) or path.startswith(f"{root}/") for root in self.roots)

    def sync_begins(self, path: str) -> Callable[[], None]:
        """Note what an fsync of a file or folder covers; call what is returned when it has succeeded."""
        node = self.seen.get(path)
        if node is not None:
            covered = len(node.pending)

            def file_done() -> None:
                # Another fsync of the file may have returned in between and have taken some of them.
                taken = [change for change in changes if change in node.pending]
                for change in taken:
                    node.durable = change.apply(node.durable)
                node.pending = [change for change in node.pending if change not in taken]

            changes = node.pending[:covered]
            return file_done
        entries = {name: one for name, one in self.seen.items() if _parent(name) == path}

        def folder_done() -> None:
            for name in [name for name in self.durable if _parent(name) == path and name not in entries]:
                del self.durable[name]
            self.durable |= entries

        return folder_done

    def image(self, policy: str, dice: random.Random, keep_all_of: str = "") -> dict[str, bytes | None]:
        """Return what is on the disk after a power cut now: the bytes of each file, None for a folder.

        Args:
            policy: `worst` (nothing that is not durable), `random` (any of it), `torn` (any of it, and of each write some sectors).
            dice: Chooses.
            keep_all_of: A folder that is on another machine and loses nothing.
        """
        names = dict(self.durable)
        for name in sorted(self.seen.keys() | self.durable.keys()):
            elsewhere = bool(keep_all_of) and (name == keep_all_of or name.startswith(f"{keep_all_of}/"))
            if elsewhere or (policy != "worst" and dice.random() < 0.5):
                if name in self.seen:
                    names[name] = self.seen[name]
                else:
                    names.pop(name, None)
        found: dict[str, bytes | None] = {}
        contents: dict[int, bytes] = {}
        for name in sorted(names):
            if name not in self.roots and _parent(name) not in found:
                continue  # No way leads to it: a folder above it has no durable name.
            node = names[name]
            if node is None:
                found[name] = None
            else:
                elsewhere = bool(keep_all_of) and name.startswith(f"{keep_all_of}/")
                if id(node) not in contents:
                    contents[id(node)] = node.now() if elsewhere else _left(node, policy, dice)
                found[name] = contents[id(node)]
        return found


def _left(node: Inode, policy: str, dice: random.Random) -> bytes:
    data = node.durable
    if policy == "worst":
        return data
    for change in node.pending:
        if dice.random() < 0.5:
            data = (change.torn(dice) if policy == "torn" else change).apply(data)
    return data


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _plain(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)


class Replay:
    """Play a record on a disk, line by line."""

    def __init__(self, disk: Disk) -> None:
        """Begin at the beginning."""
        self.disk = disk
        self._begun: dict[int, tuple[str, Callable[[], None] | None]] = {}

    def play(self, lines: Iterator[str]) -> None:
        """Play lines of the record."""
        for line in lines:
            match = _LINE.match(line)
            if match is None:
                continue
            thread, name, how, rest = int(match[1]), match[2], match[3], match[4]
            if how == "(":
                sync = self._sync(name, rest)
                if rest.endswith("<unfinished ...>"):
                    self._begun[thread] = (rest.removesuffix("<unfinished ...>"), sync)
                else:
                    self._done(name, rest, sync)
            else:
                begun, sync = self._begun.pop(thread, ("", None))
                self._done(name, begun + rest, sync)

    def _sync(self, name: str, rest: str) -> Callable[[], None] | None:
        path = self._fd_path(rest)
        return self.disk.sync_begins(path) if name in ("fsync", "fdatasync") and path is not None else None

    def _fd_path(self, rest: str) -> str | None:
        match = _FD.match(rest)
        path = _plain(match[1]) if match is not None else ""
        return path if self.disk.has(path) else None

    def _done(self, name: str, text: str, sync: Callable[[], None] | None) -> None:
        arguments, _, result = text.rpartition(" = ")
        if result.startswith(("-1", "?")):
            return
        if sync is not None:
            sync()
        elif name in ("write", "pwrite64", "ftruncate", "fallocate"):
            self._change(name, arguments, result)
        else:
            self._names(name, arguments)

    def _change(self, name: str, arguments: str, result: str) -> None:
        path = self._fd_path(arguments)
        node = self.disk.seen.get(path) if path is not None else None
        if node is None:
            return
        last = arguments.rstrip().rstrip(")").rpartition(", ")[2]
        if name in ("ftruncate", "fallocate"):
            node.pending.append(Change(int(last), None, grow=name == "fallocate"))
            return
        text = _TEXT.search(arguments)
        if text is None:
            message = f"a write whose bytes the record does not show: {arguments[:200]}"
            raise ValueError(message)
        data = _bytes(text[1])[: int(result.split(maxsplit=1)[0])]
        node.pending.append(Change(int(last) if name == "pwrite64" else len(node.now()), data))

    def _names(self, name: str, arguments: str) -> None:
        paths = [_bytes(text).decode() for text in _TEXT.findall(arguments)]
        seen = self.disk.seen
        if not paths or not all(self.disk.has(path) for path in paths):
            return
        if name == "openat":
            if "O_CREAT" in arguments and paths[0] not in seen:
                seen[paths[0]] = Inode()
            if "O_TRUNC" in arguments and (node := seen.get(paths[0])) is not None:
                node.pending.append(Change(0, None))
        elif name == "mkdir":
            seen[paths[0]] = None
        elif name == "link":
            seen[paths[1]] = seen[paths[0]]
        elif name == "rename":
            seen[paths[1]] = seen.pop(paths[0])
        elif name in ("unlink", "rmdir"):
            seen.pop(paths[0], None)


def moments(lines: list[str], roots: list[Path]) -> list[int]:
    """Return the numbers of the lines at which a power cut is worth something: the calls that change or sync the folders.

    Most calls of a run are an interpreter opening its modules; cuts drawn from all of them would nearly all come before the first write.
    """
    marks = [form for root in roots for form in (str(root), "".join(f"\\x{byte:02x}" for byte in str(root).encode()))]
    return [
        number
        for number, line in enumerate(lines)
        if any(mark in line for mark in marks) and (" openat(" not in line or "O_CREAT" in line) and " = -1 " not in line
    ]


def write_image(image: dict[str, bytes | None]) -> None:
    """Write an image to where its paths say; the folders it belongs to are gone before."""
    from pathlib import Path

    for name, data in sorted(image.items()):
        path = Path(name)
        if data is None:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
