"""The text of a checkpoint: origin, tree size, root (C2SP tlog-checkpoint).

Invariants: three lines, the decimal and the base64 canonical, so one checkpoint has one text. Extension lines, which no
monitor can audit, are neither written nor accepted. This module must not sign or verify; :mod:`.note` does.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Final, Self

from ..errors import FormatError
from .merkle import HASH_BYTES, MAX_SIZE
from .note import decode_base64

_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_LINES: Final = 3


def parse_decimal(text: str, what: str) -> int:
    """Read a decimal number from 0 to 2**63-1 in its only spelling: no sign, no leading zero.

    Args:
        text: The digits.
        what: What the number is, for the message.

    Raises:
        FormatError: It is anything else.
    """
    if not _DECIMAL.fullmatch(text) or int(text) > MAX_SIZE:
        raise FormatError(f"{what} is not a decimal number in its shortest form, below 2**63")
    return int(text)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a tree: which trail, how many leaves, which root.

    Attributes:
        origin: The trail's origin, one non-empty line without control characters.
        size: The number of leaves.
        root: The root hash, 32 bytes.
    """

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        """Refuse what has no text form (FormatError)."""
        if not self.origin or any(c < " " for c in self.origin) or not 0 <= self.size <= MAX_SIZE or len(self.root) != HASH_BYTES:
            raise FormatError("a checkpoint needs an origin of one line, a size below 2**63 and a root of 32 bytes")

    def text(self) -> str:
        """Return the note text that is signed, with its final newline."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what :meth:`text` returns.

        Raises:
            FormatError: It has other lines than these three, or another spelling of them.
        """
        lines = text.split("\n")
        if len(lines) != _LINES + 1 or lines[_LINES]:
            raise FormatError("the checkpoint's text is not exactly origin, size and root")
        return cls(lines[0], parse_decimal(lines[1], "the checkpoint's size"), decode_base64(lines[2], "the checkpoint's root"))
