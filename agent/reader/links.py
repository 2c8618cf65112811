"""How the epochs of one instance, or of one that was given another name, follow each other.

Invariants: a trail is walked after the one it continues, so that offsets can be carried over; a claim is judged only by roots
that were met while walking. What is read ahead here (the first seal of each trail) proves nothing by itself: the walk checks the
same bytes later. This module must not judge what is inside a trail.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from ..errors import FormatError, NotVerifiedError
from ..trail.layout import Origin, seal_key
from ..trail.manifest import Continues, ContinuesWhy
from ..trail.seal import parse_seal
from .findings import Code, Finding
from .trustfile import MAX_SEAL_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from .fetch import StoreReader
    from .findings import FindingLog


@dataclass(frozen=True, slots=True)
class Claim:
    """One trail says that it continues another.

    Attributes:
        successor: The trail that says so.
        link: What it says.
    """

    successor: Origin
    link: Continues


@dataclass(frozen=True, slots=True)
class Walk:
    """What is known of a trail once it was walked.

    Attributes:
        origin: The trail.
        size: The leaves up to its newest checkpoint; 0 if there is none that can be used.
        head_batch: That checkpoint's batch.
        opened: Whether its first seal can be used.
        continues: What that seal says about a predecessor.
        roots: Of the sizes asked for, the roots (hex) of those that were met; every trail begins with the empty tree.
    """

    origin: Origin
    size: int
    head_batch: int | None
    opened: bool
    continues: Continues | None
    roots: Mapping[int, str]


def instance_of(origin: Origin) -> tuple[str, str, str]:
    """Return what an epoch does not change: namespace, service, instance."""
    return origin.namespace, origin.service, origin.instance


def read_claim(store: StoreReader, origin: Origin) -> Claim | None:
    """Return what a trail's first seal says about its predecessor; None if nothing, or if it cannot be read."""
    try:
        raw = store.read(seal_key(origin, 0), MAX_SEAL_BYTES)
        link = parse_seal(raw).manifest.continues if raw is not None else None
    except (FormatError, NotVerifiedError):
        return None
    return Claim(origin, link) if isinstance(link, Continues) else None


def read_claims(store: StoreReader, origins: Iterable[Origin]) -> dict[str, Claim]:
    """Return what the trails say about their predecessors, by origin."""
    found = (read_claim(store, origin) for origin in origins)
    return {str(claim.successor): claim for claim in found if claim}


def families(origins: Iterable[Origin], claims: Mapping[str, Claim]) -> Iterator[tuple[Origin, ...]]:
    """Yield the trails that are judged together: those of one instance, and of instances that say they continue each other."""
    leaders: dict[tuple[str, str, str], tuple[str, str, str]] = {}

    def leader(instance: tuple[str, str, str]) -> tuple[str, str, str]:
        while (above := leaders.setdefault(instance, instance)) != instance:
            leaders[instance] = instance = leaders.setdefault(above, above)
        return instance

    for claim in claims.values():
        older = _instance_named(claim.link.origin)
        if older is not None:
            leaders[leader(instance_of(claim.successor))] = leader(older)
    ordered = sorted(origins, key=lambda origin: (leader(instance_of(origin)), str(origin)))
    yield from (tuple(family) for _, family in groupby(ordered, lambda origin: leader(instance_of(origin))))


def _instance_named(origin: str) -> tuple[str, str, str] | None:
    try:
        return instance_of(Origin.parse(origin))
    except FormatError:
        return None


class Family:
    """The trails of one instance (or of one that was renamed), and who continues whom.

    Attributes:
        order: The trails, each after the one it continues.
        claims: What each trail says about its predecessor, by its origin.
    """

    def __init__(self, origins: Sequence[Origin], claims: Mapping[str, Claim]) -> None:
        """Put trails in order; ``claims`` is what `read_claims` returned, for these and maybe other trails."""
        self.claims: dict[str, Claim] = {name: claims[name] for name in map(str, origins) if name in claims}
        self._claimed: dict[str, list[Claim]] = defaultdict(list)
        for claim in self.claims.values():
            self._claimed[claim.link.origin].append(claim)
        self.order = self._sorted(origins)

    def _sorted(self, origins: Sequence[Origin]) -> tuple[Origin, ...]:
        waiting = {str(origin): origin for origin in sorted(origins, key=str)}
        order: dict[str, Origin] = {}
        for name in waiting:
            # Back to the oldest that is still missing. In a ring, which only forged links can form, any trail may come
            # first: no link of it can then be right.
            missing: dict[str, Origin] = {}
            step: str | None = name
            while step in waiting and step not in order and step not in missing:
                missing[step] = waiting[step]
                step = self.claims[step].link.origin if step in self.claims else None
            order.update(reversed(missing.items()))
        return tuple(order.values())

    def wanted_sizes(self, origin: Origin) -> frozenset[int]:
        """Return the tree sizes at which others say they continue this trail."""
        return frozenset(claim.link.size for claim in self._claimed[str(origin)])

    def check(self, walks: Mapping[str, Walk], all_origins: Iterable[str], log: FindingLog) -> dict[str, Claim]:
        """Judge the links after all trails of the family were walked.

        Args:
            walks: The finished walks, by origin.
            all_origins: Every origin in the store, including those that were not selected.
            log: Where findings go.

        Returns:
            By origin, the claim that rightly continues it.
        """
        known = set(all_origins)
        right: dict[str, Claim] = {}
        for claim in self.claims.values():
            name = claim.link.origin
            older = _instance_named(name)
            if older is None or name == str(claim.successor):
                _report(log, claim, Code.LINK_WRONG, f"the trail says that it continues {name!r}, which is no other trail")
            elif name in walks:
                if not self._is_right(walks[name], claim, log):
                    continue
                if older == instance_of(claim.successor):
                    right[name] = claim
                else:
                    # Not entered as right: the key of one service must not excuse how the trail of another ends.
                    _report(log, claim, Code.RENAMED, f"the trail continues {name}, which has another name")
            elif name in known:
                _report(log, claim, Code.LINK_UNCHECKED, f"the trail continues {name}, which was left out")
            else:
                _report(log, claim, Code.PREDECESSOR_ABSENT, f"the trail continues {name}, which is not in the store")
        for name, claims in self._claimed.items():
            if len(claims) > 1:
                first, second, *more = sorted(str(claim.successor) for claim in claims)
                names = f"{first} and {second} both" + (f" (and {len(more)} more)" if more else "")
                log.add(Finding(code=Code.TWO_SUCCESSORS, message=f"{names} continue {name}", origin=str(claims[0].successor), batch=0))
        self._check_beginnings(walks, log)
        self._check_unchanged(walks, log)
        return right

    def _is_right(self, walk: Walk, claim: Claim, log: FindingLog) -> bool:
        link, size = claim.link, walk.size
        met = walk.roots.get(link.size)
        if met == link.root:
            if link.size == size:
                return True
            if link.why in (ContinuesWhy.FORK, ContinuesWhy.STATE_LOST):
                _report(
                    log, claim, Code.WENT_ON, f"{link.origin} was continued at size {link.size} ({link.why.value}) and goes on to {size}"
                )
                return True
            _report(log, claim, Code.LINK_WRONG, f"{link.origin} was continued at size {link.size} but goes on to {size}")
        elif met is None and size and link.size > size:
            message = f"the trail ends at size {size}, but {claim.successor} continues it at size {link.size}"
            log.add(Finding(code=Code.TAIL_MISSING, message=message, origin=link.origin, batch=walk.head_batch))
        else:
            _report(log, claim, Code.LINK_WRONG, f"{link.origin} has no checkpoint of size {link.size} with the root {link.root}")
        return False

    def _check_beginnings(self, walks: Mapping[str, Walk], log: FindingLog) -> None:
        first: dict[tuple[str, str, str], str] = {}
        for name, walk in walks.items():
            if not walk.opened or name in self.claims:
                continue
            began = first.setdefault(instance_of(walk.origin), name)
            if began != name:
                message = f"the instance began {began} and later this trail, and neither continues the other"
                log.add(Finding(code=Code.RESTARTED_UNLINKED, message=message, origin=name, batch=0))

    def _check_unchanged(self, walks: Mapping[str, Walk], log: FindingLog) -> None:
        """Report a claim that was another one when the walk read the same seal: somebody writes while we read."""
        for name, walk in walks.items():
            said = self.claims[name].link if name in self.claims else None
            if walk.opened and walk.continues != said:
                message = "the first seal was another one when it was read again"
                log.add(Finding(code=Code.OBJECT_UNREADABLE, message=message, origin=name, batch=0, key=seal_key(walk.origin, 0)))


def _report(log: FindingLog, claim: Claim, code: Code, message: str) -> None:
    log.add(Finding(code=code, message=message, origin=str(claim.successor), batch=0, key=seal_key(claim.successor, 0)))
