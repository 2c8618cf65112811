"""Where batches go: a store creates objects once and hands them back; it never changes one."""

from __future__ import annotations

from .base import Store
from .bucket import BucketStore
from .directory import DirectoryStore
from .memory import MemoryStore

__all__ = ["BucketStore", "DirectoryStore", "MemoryStore", "Store"]
