"""Where batches go: a store creates objects once and hands them back; it never changes one."""

from __future__ import annotations

from .base import Store
from .directory import DirectoryStore
from .memory import MemoryStore

__all__ = ["DirectoryStore", "MemoryStore", "Store"]
