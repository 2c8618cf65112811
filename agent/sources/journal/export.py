r"""Read entries in the journal's export format, chunk by chunk (systemd's "Journal Export Formats").

An entry is a run of fields, ended by an empty line. A field is ``NAME=text\n``, or, where the value holds a newline or bytes
that are no text, ``NAME\n``, its size as 8 bytes (little-endian), the value and ``\n``. Only `__CURSOR` and `MESSAGE` are kept, and the few
other fields that are asked for.

Invariants: whatever the size of a value, no more than the line limit and one chunk are held; a message within the limit comes
out byte for byte; one over it comes out as its length, SHA-256 and first bytes and, if it does not begin as an audit line, as the
pieces that pass through (the tag is still looked for in them, as in `agent.sources.lines`). Pure: no files, clock or processes.
"""

from __future__ import annotations

import hashlib
import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from ..lines import HEAD_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_CURSOR: Final = b"__CURSOR="
_MESSAGE: Final = b"MESSAGE"
_TEXT: Final = b"MESSAGE="
_NAME: Final = re.compile(rb"[A-Z_][A-Z0-9_]*")
_SIZE_BYTES: Final = 8
_SEAM_BYTES: Final = 4096
MAX_FIELD_BYTES: Final = 256
"""The longest value of a field besides the message that is kept."""


class Long(NamedTuple):
    """A message over the limit.

    Attributes:
        length: Its length in bytes.
        sha256: Its SHA-256 in hex.
        head: Its first bytes.
        audit: It begins as an audit line, and nothing of it passed through.
        late: The tag was found behind the limit, so it passed through and is recorded as well.
    """

    length: int
    sha256: str
    head: bytes
    audit: bool
    late: bool


class Piece(NamedTuple):
    """A part of a message over the limit that passes through; the last part of it ends with a newline."""

    data: bytes


class Entry(NamedTuple):
    """One entry.

    Attributes:
        cursor: The journal's name for it.
        messages: Its messages; one as a rule, none or several where the writer chose so.
        beside: The other fields that were asked for and are there, by name.
    """

    cursor: str
    messages: tuple[bytes | Long, ...]
    beside: Mapping[bytes, bytes] = MappingProxyType({})


Item: TypeAlias = Piece | Entry


def is_same_entry(one: str, other: str) -> bool:
    """Tell whether two cursors name one entry: the same boot, times and contents, in whichever file it lies by now.

    The first two parts of a cursor number an entry within a sequence of files; what is copied from one sequence to another, as
    when journald moves its journal from memory to disk, may be numbered anew.
    """
    if one == other:
        return True
    mine, others = (dict(part.split("=", 1) for part in cursor.split(";") if "=" in part) for cursor in (one, other))
    return all(name in mine and mine[name] == others.get(name) for name in "bmtx") and mine.get("s") != others.get("s")


class _LongMessage:
    """The message over the limit that is being read."""

    def __init__(self, begin: bytes, is_audit: Callable[[bytes], bool]) -> None:
        self._is_audit = is_audit
        self._digest = hashlib.sha256()
        self._length = 0
        self._head = begin[:HEAD_BYTES]
        self._seam = b""
        self._late = False
        self.audit = is_audit(begin.replace(b"\n", b" "))

    def add(self, piece: bytes) -> None:
        self._digest.update(piece)
        self._length += len(piece)
        if not self.audit and not self._late:
            window = self._seam + piece
            # The newline keeps a rule that looks at a line's beginning from taking the seam for one.
            self._late = self._is_audit(b"\n" + window.replace(b"\n", b" "))
            self._seam = window[-_SEAM_BYTES:]

    def ended(self) -> Long:
        return Long(self._length, self._digest.hexdigest(), self._head, self.audit, self._late)


class ExportParser:
    """Read one run of journalctl. What it holds of an unfinished entry is lost with it, and read again by the next one."""

    def __init__(self, is_audit: Callable[[bytes], bool], line_limit: int, known: str = "", fields: frozenset[bytes] = frozenset()) -> None:
        """Begin at the start of an entry.

        Args:
            is_audit: The rule's decision about one line.
            line_limit: The longest message, in bytes, that comes out as a whole.
            known: The cursor of an entry that is left out: the one that reading goes on behind.
            fields: The names of other fields that are wanted; a value over `MAX_FIELD_BYTES`, or with a newline, is left out.
        """
        self._is_audit = is_audit
        self._limit = line_limit
        self._known = known
        self._fields = fields
        self._items: list[Item] = []
        self._buffer = b""
        self._at = 0
        self._binary: bytes | None = None
        self._left = 0
        self._open_text = False
        self._long: _LongMessage | None = None
        self._begin_entry()

    def _begin_entry(self) -> None:
        self._cursor = ""
        self._left_out = False
        self._messages: list[bytes | Long] = []
        self._beside: dict[bytes, bytes] = {}

    def feed(self, chunk: bytes) -> list[Item]:
        """Take the next bytes and return the entries, and pieces of messages, that end in them."""
        self._buffer = self._buffer[self._at :] + chunk
        self._at = 0
        while self._step():
            pass
        items, self._items = self._items, []
        return items

    def _step(self) -> bool:
        """Go one field, or one piece of a value, further; say whether there may be more."""
        if self._left:
            return self._go_on_sized()
        if self._open_text:
            return self._go_on_text()
        if self._binary is not None:
            return self._begin_sized(self._binary)
        newline = self._buffer.find(b"\n", self._at)
        if newline < 0:
            if len(self._buffer) - self._at <= self._limit + len(_TEXT):
                return False
            self._open_text = True
            if self._buffer.startswith(_TEXT, self._at):
                self._at += len(_TEXT)
                self._begin_long()
            return True
        line = self._buffer[self._at : newline]
        self._at = newline + 1
        self._take_line(line)
        return True

    def _take_line(self, line: bytes) -> None:
        if not line:
            self._end_entry()
        elif line.startswith(_TEXT):
            message = line[len(_TEXT) :]
            if len(message) <= self._limit:
                self._messages.append(message)
            else:
                self._long = self._new_long(message)
                self._add_long(message)
                self._end_long()
        elif line.startswith(_CURSOR):
            self._cursor = line[len(_CURSOR) :].decode("ascii", "replace")
            self._left_out = bool(self._known) and is_same_entry(self._cursor, self._known)
        elif b"=" not in line and _NAME.fullmatch(line):
            self._binary = line
        elif self._fields:
            name, _, value = line.partition(b"=")
            if name in self._fields and len(value) <= MAX_FIELD_BYTES:
                # A writer may give a field several times; journald's own words stand in fields that it cannot give.
                self._beside.setdefault(name, value)

    def _end_entry(self) -> None:
        if self._cursor and not self._left_out:
            self._items.append(Entry(self._cursor, tuple(self._messages), self._beside))
        self._begin_entry()

    # ---- sized values --------------------------------------------------------------------------------------------------

    def _begin_sized(self, name: bytes) -> bool:
        start = self._at + _SIZE_BYTES
        size = int.from_bytes(self._buffer[self._at : start], "little")
        if len(self._buffer) < start + min(size + 1, self._limit):
            return False
        self._binary = None
        self._at = start
        if name == _MESSAGE and size <= self._limit:
            if len(self._buffer) < start + size + 1:
                self._binary, self._at = name, start - _SIZE_BYTES
                return False
            self._messages.append(self._buffer[start : start + size])
            self._at = start + size + 1
            return True
        self._left = size + 1
        if name == _MESSAGE:
            self._begin_long()
        return True

    def _go_on_sized(self) -> bool:
        """Take what there is of a sized value that is not kept as a whole; the newline behind it is its last byte."""
        piece = self._buffer[self._at : self._at + self._left]
        self._at += len(piece)
        self._left -= len(piece)
        if self._long is not None and piece:
            self._add_long(piece if self._left else piece[:-1])
            if not self._left:
                self._end_long()
        return self._at < len(self._buffer)

    # ---- messages over the limit ---------------------------------------------------------------------------------------

    def _go_on_text(self) -> bool:
        newline = self._buffer.find(b"\n", self._at)
        end = newline if newline >= 0 else len(self._buffer)
        if self._long is not None:
            self._add_long(self._buffer[self._at : end])
        self._at = end
        if newline < 0:
            return False
        self._at += 1
        self._open_text = False
        if self._long is not None:
            self._end_long()
        return True

    def _begin_long(self) -> None:
        self._long = self._new_long(self._buffer[self._at :])

    def _new_long(self, begin: bytes) -> _LongMessage:
        return _LongMessage(begin[: self._limit], self._is_audit)

    def _add_long(self, piece: bytes) -> None:
        if self._long is None:
            return
        self._long.add(piece)
        if not self._long.audit and not self._left_out and piece:
            self._items.append(Piece(piece))

    def _end_long(self) -> None:
        if self._long is None:
            return
        self._messages.append(self._long.ended())
        if not self._long.audit and not self._left_out:
            self._items.append(Piece(b"\n"))
        self._long = None
