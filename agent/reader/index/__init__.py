"""The index: what a store holds, verified while it is built, in one DuckDB file that answers questions.

It is made of the store and can be made anew at any time; it is not the evidence. The exact bytes stay in the store, and are
read again and checked again for every proof.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .build import Refreshed, refresh, update
    from .reading import Index, IndexedTrail, default_path, open_index

__all__ = ["Index", "IndexedTrail", "Refreshed", "default_path", "open_index", "refresh", "update"]


def __getattr__(name: str) -> object:
    """Import what is asked for, so that a command can say by itself that the database is not installed."""
    if name in {"Refreshed", "refresh", "update"}:
        from . import build as module  # noqa: PLC0415
    elif name in __all__:
        from . import reading as module  # type: ignore[no-redef]  # noqa: PLC0415
    else:
        raise AttributeError(name)
    return getattr(module, name)
