"""Every tampering that the trail format and the threat model name, in the order in which a drill does them.

Invariants: names are unique; what a copy in a folder cannot show is listed as such, with the reason. This module must not do anything.
"""

from __future__ import annotations

from typing import Final

from .batches import BATCHES, STORE_LIMITS
from .contents import CONTENTS
from .keys import KEYS
from .thief import THIEF, THIEF_LIMITS
from .values import NotTried, Tampering

CATALOGUE: Final[tuple[Tampering, ...]] = (*CONTENTS, *BATCHES, *KEYS, *THIEF, *STORE_LIMITS, *THIEF_LIMITS)

_FOLDER: Final = "the copy is a folder, which has no versions and no locks; `trailseal verify` looks at them in the bucket itself"
_AGENT: Final = "it is met by a running agent or on its host, not in a store"

NOT_IN_A_FOLDER: Final[tuple[NotTried, ...]] = (
    NotTried("delete-marker", "hide an object that a lock protects (`delete_marker`)", _FOLDER),
    NotTried("second-version", "put other bytes over an object that a lock protects (`version_altered`)", _FOLDER),
    NotTried("version-delete", "remove a version that a lock should have protected (`version_gone`)", _FOLDER),
    NotTried("retention-short", "shorten a retention, to delete later (`retention_weak`)", _FOLDER),
    NotTried("key-occupied", "put foreign bytes under the agent's next key, so that it cannot go on", _AGENT),
    NotTried("state-rollback", "restore an old copy of the agent's state (a fork)", _AGENT),
    NotTried("spool-edit", "change records before they are sealed", _AGENT),
)
