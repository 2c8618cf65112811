"""How the epochs of one instance follow each other.

Invariants: a trail is walked after the one it continues, so that offsets can be carried over; a claim is judged only by roots
that were met while walking. What is read ahead here (the first seal of each trail) proves nothing by itself: the walk checks the
same bytes later. This module must not judge what is inside a trail.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import FormatError, NotVerifiedError
from ..trail.layout import Origin, seal_key
from ..trail.manifest import Continues, ContinuesWhy
from ..trail.seal import parse_seal
from .findings import Code, Finding
from .trustfile import MAX_SEAL_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .chain import TrailChecker
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


class Family:
    """The trails of one instance, and who continues whom.

    Attributes:
        order: The trails, each after the one it continues.
        claims: What each trail says about its predecessor, by its origin.
    """

    def __init__(self, store: StoreReader, origins: Sequence[Origin]) -> None:
        """Read the first seal of each trail."""
        found = (read_claim(store, origin) for origin in origins)
        self.claims: dict[str, Claim] = {str(claim.successor): claim for claim in found if claim}
        self._claimed: dict[str, list[Claim]] = defaultdict(list)
        for claim in self.claims.values():
            self._claimed[claim.link.origin].append(claim)
        self.order = self._sorted(origins)

    def _sorted(self, origins: Sequence[Origin]) -> tuple[Origin, ...]:
        waiting = {str(origin): origin for origin in sorted(origins, key=str)}
        order: list[Origin] = []
        while waiting:
            # In a ring, which only forged links can form, any trail may come first: no link of it can then be right.
            chosen = next((name for name in waiting if self._predecessor(name) not in waiting), next(iter(waiting)))
            order.append(waiting.pop(chosen))
        return tuple(order)

    def _predecessor(self, name: str) -> str | None:
        claim = self.claims.get(name)
        return claim.link.origin if claim else None

    def wanted_sizes(self, origin: Origin) -> frozenset[int]:
        """Return the tree sizes at which others say they continue this trail."""
        return frozenset(claim.link.size for claim in self._claimed[str(origin)])

    def check(self, checkers: Mapping[str, TrailChecker], all_origins: Iterable[str], log: FindingLog) -> dict[str, Claim]:
        """Judge the links after all trails of the family were walked.

        Args:
            checkers: The finished walks, by origin.
            all_origins: Every origin in the store, including those that were not selected.
            log: Where findings go.

        Returns:
            By origin, the claim that rightly continues it.
        """
        known = set(all_origins)
        right: dict[str, Claim] = {}
        for claim in self.claims.values():
            name = claim.link.origin
            try:
                same_instance = instance_of(Origin.parse(name)) == instance_of(claim.successor) and name != str(claim.successor)
            except FormatError:
                same_instance = False
            if not same_instance:
                _report(
                    log, claim, Code.LINK_WRONG, f"the trail says that it continues {name!r}, which is not an older epoch of its instance"
                )
            elif name in checkers:
                if self._is_right(checkers[name], claim, log):
                    right[name] = claim
            elif name in known:
                _report(log, claim, Code.LINK_UNCHECKED, f"the trail continues {name}, which was left out")
            else:
                _report(log, claim, Code.PREDECESSOR_ABSENT, f"the trail continues {name}, which is not in the store")
        for name, claims in self._claimed.items():
            if len(claims) > 1:
                names = " and ".join(sorted(str(claim.successor) for claim in claims))
                log.add(
                    Finding(code=Code.TWO_SUCCESSORS, message=f"{names} both continue {name}", origin=str(claims[0].successor), batch=0)
                )
        self._check_beginnings(checkers, log)
        return right

    def _is_right(self, checker: TrailChecker, claim: Claim, log: FindingLog) -> bool:
        link, head = claim.link, checker.tally.head
        size = head.seq + 1 if head else 0
        met = checker.links.get(link.size)
        if met is not None and met.root.hex() == link.root:
            if link.size == size:
                return True
            if link.why in (ContinuesWhy.FORK, ContinuesWhy.STATE_LOST):
                _report(
                    log, claim, Code.WENT_ON, f"{link.origin} was continued at size {link.size} ({link.why.value}) and goes on to {size}"
                )
                return True
            _report(log, claim, Code.LINK_WRONG, f"{link.origin} was continued at size {link.size} but goes on to {size}")
        elif met is None and head is not None and link.size > size:
            message = f"the trail ends at size {size}, but {claim.successor} continues it at size {link.size}"
            log.add(Finding(code=Code.TAIL_MISSING, message=message, origin=link.origin, batch=head.batch))
        else:
            _report(log, claim, Code.LINK_WRONG, f"{link.origin} has no checkpoint of size {link.size} with the root {link.root}")
        return False

    def _check_beginnings(self, checkers: Mapping[str, TrailChecker], log: FindingLog) -> None:
        beginnings = [name for name, checker in checkers.items() if checker.tally.key is not None and name not in self.claims]
        for name in beginnings[1:]:
            message = f"the instance began {beginnings[0]} and later this trail, and neither continues the other"
            log.add(Finding(code=Code.RESTARTED_UNLINKED, message=message, origin=name, batch=0))


def _report(log: FindingLog, claim: Claim, code: Code, message: str) -> None:
    log.add(Finding(code=code, message=message, origin=str(claim.successor), batch=0, key=seal_key(claim.successor, 0)))
