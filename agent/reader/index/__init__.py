"""The index: what a store holds, verified while it is built, in one DuckDB file that answers questions.

It is made of the store and can be made anew at any time; it is not the evidence. The exact bytes stay in the store, and are
read again and checked again for every proof.
"""

from .build import Refreshed, refresh
from .reading import Index, IndexedTrail, default_path, open_index

__all__ = ["Index", "IndexedTrail", "Refreshed", "default_path", "open_index", "refresh"]
