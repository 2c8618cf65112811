"""Stored events in the words of other schemas: OCSF 1.8.0 and ECS 8.17.0.

Invariants: a rendering is a pure function of one stored event; it never raises on what a store holds, and it loses nothing: what the
outside schema has no field for stands under ``unmapped`` (OCSF) or ``trailseal`` (ECS). A rendering is a copy for other tools, no
evidence: nothing of it can be verified. This module must not open files or ask anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from .ecs import ECS_VERSION, to_ecs
from .ocsf import OCSF_VERSION, to_ocsf
from .stored import Stored

if TYPE_CHECKING:
    from collections.abc import Callable

Rendering = Literal["ocsf", "ecs"]

RENDERINGS: Final[dict[str, Callable[[Stored], dict[str, Any]]]] = {"ocsf": to_ocsf, "ecs": to_ecs}

SCHEMAS: Final[dict[str, str]] = {"ocsf": f"OCSF {OCSF_VERSION}", "ecs": f"ECS {ECS_VERSION}"}
"""What each rendering follows, in words."""

__all__ = ["ECS_VERSION", "OCSF_VERSION", "RENDERINGS", "SCHEMAS", "Rendering", "Stored", "to_ecs", "to_ocsf"]
