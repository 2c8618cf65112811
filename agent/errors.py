"""The whole exception tree of Trailseal, ordered by *what to do* rather than by where it happened.

Invariants: every error carries a message for a person, a hint that says what to try, and the exit code the
program ends with if nobody handles it. Foreign exceptions (sqlite3, OSError, msgspec …) are translated to one
of these at the boundary where they appear. This module imports nothing of the package.
"""

from __future__ import annotations

from typing import ClassVar


class TrailsealError(Exception):
    """Something went wrong; the base of every error raised on purpose."""

    exit_code: ClassVar[int] = 1
    default_hint: ClassVar[str] = "Set `log: {level: debug}` in the configuration, run it again, and read the log on stderr."

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        """Keep the message and the hint.

        Args:
            message: One sentence saying what happened, with the operation, the path or name, and the cause.
            hint: One sentence saying what the operator can do; the class's own by default.
        """
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint


class TransientError(TrailsealError):
    """The operation may succeed when it is tried again; the caller keeps the data and retries."""

    default_hint = "Nothing is lost; it is tried again by itself. Look at the cause if it lasts."


class RefusedError(TransientError):
    """A store answered, and forbids it: nothing changes until somebody gives a right, mends a bucket or sets a clock.

    It is tried again for ever all the same: the right may come back, and giving up would lose what waits.
    """

    default_hint = "Nothing is lost; it is tried again by itself. `trailseal doctor --config FILE` says what the store allows."


class SpoolFullError(TransientError):
    """The spool has reached its bound, or the disk below it is full."""

    default_hint = "Make room on the disk, raise spool.max_bytes, or find out why the stores do not take batches."


class PermanentError(TrailsealError):
    """The operation can never succeed with this input; the input is kept aside (quarantined), not retried."""

    default_hint = "Correct the input named in the message."


class IntegrityError(TrailsealError):
    """Stored bytes are not what was sealed or spooled; stop, and keep the evidence."""

    exit_code = 10
    default_hint = "Change nothing, keep a copy of the store and of the state directory, and tell your security team."


class DamagedStateError(IntegrityError):
    """The spool holds something other than what was written to it; the next start sets it aside and salvages what is sound."""

    exit_code = 1
    default_hint = (
        "Start the agent again: it keeps the damaged state under damaged/ in the state directory, saves what is sound, and states the "
        "rest as a gap. Look at the disk and the memory."
    )


class ForkError(IntegrityError):
    """Two histories exist under one trail's name: a rolled-back disk, or a second writer."""

    default_hint = (
        "The state directory was restored from a copy, or two agents share one identity. "
        "The agent goes on in a new epoch; find the other writer."
    )


class ProofError(IntegrityError):
    """A Merkle proof, a signature or a signed note does not prove what it claims."""


class FormatError(IntegrityError):
    """Bytes that should be a seal, a manifest, a note or a record are not well-formed."""


class NotVerifiedError(TrailsealError):
    """Nothing can be said about the trail: it is absent, or signed by a key nobody vouched for."""

    exit_code = 12
    default_hint = "Check the store's address and the trust file; `trailseal trust STORE` prints the keys found."


def _one_line(text: str) -> str:
    """Return the text with everything that is not printable escaped: a key or value may hold any line separator there is."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class ConfigError(TrailsealError):
    """The configuration, the command line or a file it names is wrong."""

    exit_code = 2
    default_hint = "Correct the line; `trailseal check --config FILE` tests the whole file without starting."

    def __init__(
        self, message: str, *, file: str | None = None, line: int | None = None, key: str | None = None, hint: str | None = None
    ) -> None:
        """Put file, line and key before the message, in the form editors understand (``file:line: key: message``).

        Args:
            message: What is wrong with the value.
            file: The file's path as the user wrote it.
            line: The line, counted from 1.
            key: The dotted path of the key, for example ``seal.max_age``.
            hint: What to write instead.
        """
        place = "" if file is None else f"{file}:{line}: " if line is not None else f"{file}: "
        super().__init__(_one_line(f"{place}{key + ': ' if key else ''}{message}"), hint=hint)
        self.file, self.line, self.key = file, line, key


class StateError(TrailsealError):
    """The state directory cannot be used: locked by another agent, unreadable, or of another format."""

    exit_code = 2
    default_hint = "One agent owns one state directory; `trailseal check --config FILE` says what is wrong with it."


class StateInUseError(StateError):
    """The state directory belongs to another agent, or to a command, that still runs; the exit code is sysexits.h's ``EX_TEMPFAIL``."""

    exit_code = 75
    default_hint = "Stop the other one, or give this one a state directory of its own."


class DurabilityError(TrailsealError):
    """The disk refused to make bytes durable; going on would acknowledge what may not be there.

    After a failed fsync the kernel may have thrown the pages away, so a retry that succeeds proves nothing
    (the 2018 "fsyncgate" of PostgreSQL). The process must end and read its state again.
    """

    default_hint = "Look at the disk (dmesg, smartctl). The agent reads its state anew when it is started again."
