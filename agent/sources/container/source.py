"""Make the source that tails container runtimes' log files: the file source, with envelopes around the lines.

Rotation, recovery and gaps are the file source's; this module only says how lines are taken out (`envelope`), whose they are
(`origin`) and how long a raw line may be. It must not open files.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ..file import FileSource, TailSettings, Wrapped
from .envelope import ContainerEnvelope
from .formats import bare
from .origin import Origins
from .units import UnitEnvelope

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...events.classify import Rule
    from ...events.mappings.joining import Joining
    from ...intake import Intake
    from ..base import BlockSeparator, ProblemReport, Sink, Source, TimeOfDay
    from ..envelope import Envelope

KIND: Final = "container"
_ENVELOPE_BYTES: Final = 128 * 1024
"""What a piece of 16 KiB takes at most: each byte of it may be written as six in JSON."""


def container_source(  # noqa: PLR0913 -- as for the file source
    source_id: str,
    patterns: Sequence[str],
    make_separator: Callable[[], BlockSeparator],
    intake: Intake,
    sink: Sink,
    clock: TimeOfDay,
    settings: TailSettings | None = None,
    *,
    rule: Rule,
    problem: ProblemReport | None = None,
    joining: Joining | None = None,
) -> Source:
    """Make a source over the log files of containers; nothing is opened before it runs.

    Args:
        source_id: The source's id from the configuration.
        patterns: Globs, such as ``/var/log/pods/*/*/*.log``; symbolic links are followed, and a file is read once.
        make_separator: Makes the separator of the reading thread (with offsets).
        intake: Takes the appends and knows the cursors.
        sink: Takes the other lines, without their envelopes.
        clock: Tells the time.
        settings: The knobs; `line_limit` is that of a service's own line.
        rule: The rule the separator goes by; asked about long and unfinished lines.
        problem: Told of files that cannot be read, and of their cure.
        joining: Which of a stream's lines are one unit; None if each is one.
    """
    settings = settings or TailSettings()
    limit, head_bytes = settings.line_limit, settings.head_bytes
    # A raw line is longer than what is in it; but half a block is enough for any.
    raw_limit = max(limit, min(_ENVELOPE_BYTES, settings.block_bytes // 2))
    origins = Origins()

    def envelope(path: str) -> Envelope:
        lines = ContainerEnvelope(origins.of(path), rule.is_audit, limit, head_bytes, in_bulk=raw_limit == limit)
        return lines if joining is None else UnitEnvelope(lines, joining)

    def raw_is_audit(raw: bytes) -> bool:
        return rule.is_audit(raw) or rule.is_audit(bare(raw))

    return FileSource(
        source_id,
        patterns,
        make_separator,
        intake,
        sink,
        clock,
        replace(settings, line_limit=raw_limit),
        rule=rule,
        problem=problem,
        wrapped=Wrapped(KIND, origins.scan, envelope, raw_is_audit),
        joining=joining,
    )
