"""Say what a source is to the rest of the agent, and what it needs from it.

Invariants: a source hands bodies, progress and cursors to the intake in one append; it writes observability bytes only
after that append was accepted; it returns from `run` only once it was told to stop or its input has ended for good.

This module holds types only; it must not open files, look at the clock or know any source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from typing import TypeAlias

    from ..events.mappings.header import Header
    from ..separator import Places, Separated
    from ..trail.records import QuarantineReason

    ProblemReport: TypeAlias = Callable[[str, str | None], None]
    """Called with a path and what is wrong with it, or with None once it is cured."""


class Source(Protocol):
    """Bring lines in, from one file pattern, stream or socket.

    Guarantees:
        Ordering: the lines of one file or stream reach the intake in their order; nothing is promised between two.
        Exactness: records and cursor travel in one append, so that after a crash nothing is in the spool twice.
        Return: `run` returns after `stop` was set, or when the input has ended for good; anything else is an error.
        Cancellation: `run` may be cancelled at any await; what was not accepted is read again at the next start.
    """

    async def run(self, stop: asyncio.Event) -> object:
        """Read until `stop` is set, then bring in what lies at hand and return.

        Raises:
            DurabilityError: The spool's disk refused; the process is ending.
        """
        ...


class Sink(Protocol):
    """Take the observability bytes on their way out.

    Guarantees: `write` never blocks and never raises; what it cannot keep it sheds and counts. Bytes of one channel leave
    in the order of their writes.
    """

    def write(self, data: bytes, channel: str) -> None:
        """Queue bytes (whole lines, or pieces of an over-long one) for a channel, for example ``stdout``."""
        ...


class TimeOfDay(Protocol):
    """Tell the time."""

    def now(self) -> datetime:
        """Return the current time, aware, in UTC."""
        ...


class BlockSeparator(Protocol):
    """Separate blocks of whole lines, as `agent.separator.Separator` does; one instance serves one thread."""

    def separate(self, block: bytes, offset: int, observed_at: str, places: Places | None = None) -> Separated:
        """Return the records and the observability bytes of a block that begins at an absolute offset.

        Args:
            block: Whole lines.
            offset: Where the block begins in the source, in bytes.
            observed_at: When it was read.
            places: Where its lines lie instead, where the block was made out of what the source holds.
        """
        ...

    def overlong(self, observed_at: str, head: bytes, length: int, sha256_hex: str, at: tuple[int, int] | None, member: bytes) -> bytes:
        """Return the record body that stands for a line over the size limit.

        Args:
            observed_at: When its end was read.
            head: Its first bytes.
            length: Its length in bytes.
            sha256_hex: Its SHA-256 in hex.
            at: Where it lies in the source and how many bytes it takes there; None where that means nothing.
            member: What the record gets after the source.
        """
        ...

    def quarantined(self, observed_at: str, reason: QuarantineReason, detail: str, raw: bytes) -> bytes:
        """Return the record body that keeps a message which cannot be an event.

        Args:
            observed_at: When it was read.
            reason: Why it cannot.
            detail: The same in words.
            raw: The message.
        """
        ...


@runtime_checkable
class UnitSeparator(BlockSeparator, Protocol):
    """Separate messages that may have several lines as well: what a source's mapping can make events of."""

    def separate_units(self, units: Sequence[bytes], headers: Sequence[Header | None] | None, offset: int, observed_at: str) -> Separated:
        """Return the records and the observability bytes of messages, each of which counts as one line.

        Args:
            units: The messages, each without a newline at its end; those that pass get one.
            headers: What came beside each of them; None if nothing comes beside any.
            offset: Where the first begins in the source, in bytes; each has one more byte for its end.
            observed_at: When they were read.
        """
        ...
