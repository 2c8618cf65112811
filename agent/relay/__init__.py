"""The small parent that owns a service's pipes, so that a worker can die at any moment and nothing is lost.

``trailseal exec``, ``trailseal pipe`` and ``run`` with stream sources are two processes. The parent, this package, reads
the pipes and keeps every byte until the worker has acknowledged it; the worker, started by the parent, is the agent.

Invariants: the parent imports the standard library's light parts only and stays below 15 MiB; it starts no event loop,
opens no file and parses no line; it must not import the worker's modules.
"""

from __future__ import annotations

from .parent import supervise
from .plan import become_parent, worker_command
from .settings import Feed, Limits

__all__ = ["Feed", "Limits", "become_parent", "supervise", "worker_command"]
