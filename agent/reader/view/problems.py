"""The ways in which a request is turned down, as a client sees them: a status and a sentence, and nothing of the inside.

Invariants: no sentence says whether something exists that the client may not see. This module must not know HTTP beyond the status.
"""

from __future__ import annotations

from typing import ClassVar


class Problem(Exception):  # noqa: N818 -- it is an answer, not an error of ours
    """Answer with an error page.

    Attributes:
        status: The HTTP status.
        title: The heading.
        message: What the person can do.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Something went wrong"
    default: ClassVar[str] = "The server could not answer. Its log says why."

    def __init__(self, message: str | None = None) -> None:
        """Keep the sentence."""
        self.message = message or self.default
        super().__init__(self.message)


class Malformed(Problem):
    """A parameter is not what it has to be."""

    status = 400
    title = "The request cannot be read"
    default = "A value of the address is wrong."


class NotLetIn(Problem):
    """There is no grant, or it is worth nothing."""

    status = 401
    title = "No access"
    default = "Open the link that you were given. If it does not work, ask for a new one."


class Forbidden(Problem):
    """There was a grant, and it was taken back; or a page of another site sent the request."""

    status = 403
    title = "No access"
    default = "This access was withdrawn. Ask whoever gave you the link."


class NotThere(Problem):
    """There is nothing, or nothing that may be seen: the two look the same."""

    status = 404
    title = "Not in your scope, or not there"
    default = "There is nothing here that this access allows to be seen."


class WrongMethod(Problem):
    """Nothing here can be changed."""

    status = 405
    title = "Nothing can be changed here"
    default = "This page only shows what is there."


class TooLong(Problem):
    """The request is longer than any page of ours makes it."""

    status = 414
    title = "The request is too long"
    default = "Use fewer or shorter filters."


class TooMany(Problem):
    """Too many tokens were wrong."""

    status = 429
    title = "Too many attempts"
    default = "Wait a minute, and try again."


class TooMuch(Problem):
    """More was asked for than one answer holds."""

    status = 413
    title = "That is too much for one answer"
    default = "Narrow the time or the filters."


class Unavailable(Problem):
    """It cannot be answered now."""

    status = 503
    title = "Not available now"
    default = "Try again in a moment."


class TooSlow(Unavailable):
    """The question took longer than it may."""

    title = "The question took too long"
    default = "It was stopped. Narrow the time or the filters."


class NotRecorded(Unavailable):
    """The access could not be recorded, so nothing is shown."""

    title = "Access cannot be recorded"
    default = "Every access is written to an audit trail. That is not possible now, so nothing is shown. Try again in a moment."
