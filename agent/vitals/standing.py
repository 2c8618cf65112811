"""What a store was found to guarantee: the value that stores return and metrics and status show.

This module must not know any store.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Say what a store was found to guarantee, beyond what every store does.

    Attributes:
        exclusive: Whether the store itself creates an object only if there is none. If not, it is asked first, which leaves a
            moment for two writers: ``weak create``.
        lock_mode: The retention lock that a new object was found under; None without one, or where nobody could look.
        lock_seconds: For how long it was locked from the moment it was stored; None likewise.
        lock_wanted_seconds: For how long the configuration wants it locked; None where it does not say.
        clock_offset_seconds: The store's clock minus ours; None where it does not tell.
        certificate_until: When the certificate that the store has shown expires, seconds since the epoch; None without TLS.
        warnings: One sentence for a person for each thing that is weaker than it should be.
    """

    exclusive: bool = True
    lock_mode: Literal["compliance", "governance"] | None = None
    lock_seconds: float | None = None
    lock_wanted_seconds: float | None = None
    clock_offset_seconds: float | None = None
    certificate_until: float | None = None
    warnings: tuple[str, ...] = ()


PLAIN: Final = Standing()
"""The standing of a store that creates exclusively, and has neither a lock nor a clock of its own."""
