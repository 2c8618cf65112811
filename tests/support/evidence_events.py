"""What happens in a made-up company: people, services, everyday events, and the stories an auditor asks about.

Everything follows from a seed. Everyday events are kept as *patterns*, bytes with one hole for a number, so that ten million
of them cost a few microseconds each. Stories (a role asked for, approved and granted; guessed passwords; an export by
somebody who should not) are written one by one, and the facts in them are returned for tests to compare with.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

_HOLE: Final = "0@HOLE@0"
_FIRST: Final = (
    *("ada", "grace", "linus", "barbara", "edsger", "radia", "ken", "margaret", "alan", "frances"),
    *("donald", "shafi", "tim", "anita", "leslie", "karen", "vint", "sophie", "niklaus", "jean"),
)
_LAST: Final = ("okafor", "lindqvist", "moreau", "tanaka", "novak", "silva", "haddad", "kowalski", "byrne", "rao")
INCIDENT_ACTOR: Final = "mallory.reyes@acme.example"
"""Somebody whose password was guessed, who then tried for more rights and took data out."""
SERVICE_ACCOUNTS: Final = ("svc-billing-sync", "svc-deployer", "svc-directory-sync", "svc-report-builder")
ROLES: Final = ("admin", "billing-admin", "auditor", "support", "viewer")


@dataclass(frozen=True, slots=True)
class Pattern:
    """An everyday event without its id and time: ``head``, a number, ``tail``."""

    head: bytes
    tail: bytes
    action: str
    outcome: str
    actor: str


@dataclass(frozen=True, slots=True)
class Told:
    """An event of a story.

    Attributes:
        service: The service it happens in.
        at: When, aware, UTC, whole seconds.
        line: What the service prints.
    """

    service: str
    at: datetime
    line: bytes
    action: str
    outcome: str
    actor: str


@dataclass(frozen=True, slots=True)
class Grant:
    """One ``role.grant``, and what a test may say about it.

    Attributes:
        event_id: Its id.
        service: The service that recorded it.
        occurred_at: When, aware, UTC.
        actor: Who granted.
        target: Who got the role.
        role: Which.
        outcome: ``success`` or ``denied``.
        approval_id: What links it to its request and approval; None where the event names none.
        approved_by: Who approved; None where nobody did.
        approval_event_id: The id of the ``role.approve`` event; None where there is none.
        break_glass: Whether it was an emergency grant.
    """

    event_id: str
    service: str
    occurred_at: datetime
    actor: str
    target: str
    role: str
    outcome: str
    approval_id: str | None
    approved_by: str | None
    approval_event_id: str | None
    break_glass: bool = False


def users() -> list[str]:
    """Return the ids of the company's people; the first six may grant and approve."""
    return [f"{first}.{last}@acme.example" for last in _LAST for first in _FIRST][:120]


# action, weight, kind of actor, type of target, its id, outcomes other than success in per cent, context
_Row = tuple[str, float, str, str, str, tuple[int, int], dict[str, Any]]
_LOGIN: Final[_Row] = ("auth.login", 16, "user", "account", "self", (9, 1), {"method": "password", "ip": "203.0.113.#"})
_EVERYWHERE: Final[tuple[_Row, ...]] = (
    _LOGIN,
    ("auth.logout", 6, "user", "account", "self", (0, 0), {}),
    ("session.create", 4, "user", "session", "s-#", (0, 0), {"ip": "203.0.113.#"}),
    ("permission.check", 2, "user", "resource", "res-#", (0, 70), {"permission": "invoice.approve"}),
    ("token.issue", 1, "service", "token", "tok-#", (2, 1), {"token_id": "tok-#"}),
    ("job.cleanup", 2, "system", "job", "nightly-cleanup", (3, 0), {"removed": "#"}),
)
_MIXES: Final[dict[str, tuple[_Row, ...]]] = {
    "payments": (
        *_EVERYWHERE,
        ("data.read", 40, "user", "payment", "pay-#", (1, 3), {"fields": ["amount", "card_last4"]}),
        ("data.search", 10, "user", "payment", "all", (0, 1), {"query": "customer:#", "hits": "#"}),
        ("data.update", 7, "user", "payment", "pay-#", (2, 2), {"changed_fields": ["status"]}),
        ("billing.invoice.issue", 6, "service", "invoice", "inv-#", (1, 0), {"currency": "EUR", "amount": "#"}),
        ("billing.refund", 1.5, "user", "payment", "pay-#", (2, 6), {"amount": "#", "currency": "EUR", "reason": 'customer "complaint"'}),
        ("data.export", 0.4, "user", "table", "payments", (2, 8), {"format": "csv", "scope": "payments of day #", "rows": "#"}),
        ("report.download", 1, "user", "report", "monthly-#", (0, 1), {"format": "pdf"}),
    ),
    "console": (
        *_EVERYWHERE,
        ("auth.mfa.verify", 10, "user", "account", "self", (6, 0), {"factor": "totp"}),
        ("admin.tenant.view", 8, "admin", "tenant", "tenant-#", (0, 2), {"reason": "support case #"}),
        ("user.update", 6, "admin", "user", "any", (1, 1), {"changed_fields": ["email", "phone"]}),
        ("config.change", 1.5, "admin", "setting", "payments.limit", (1, 4), {"setting": "payments.limit", "old": 5000, "new": "#"}),
        ("feature_flag.change", 2, "admin", "flag", "new-checkout", (0, 0), {"flag": "new-checkout", "enabled": True}),
        ("secret.read", 1, "admin", "secret", "psp-api-key", (0, 5), {"secret": "psp-api-key"}),
        ("key.rotate", 0.3, "admin", "key", "key-#", (1, 0), {"key_id": "key-#"}),
        ("deploy.start", 1, "service", "service", "payments", (0, 0), {"version": "2.#.0", "environment": "production"}),
        ("deploy.finish", 1, "service", "service", "payments", (5, 0), {"version": "2.#.0", "environment": "production"}),
        ("change.approve", 1, "admin", "change", "CR-#", (0, 3), {"change_id": "CR-#"}),
        ("audit.review", 0.2, "admin", "trail", "acme/payments", (0, 0), {"period": "last week", "findings": 0}),
    ),
    "directory": (
        *_EVERYWHERE,
        ("auth.sso.login", 20, "user", "account", "self", (4, 2), {"identity_provider": "idp.acme.example"}),
        ("auth.password.change", 2, "user", "account", "self", (5, 0), {}),
        ("auth.password.reset", 1, "admin", "account", "any", (0, 1), {"initiated_by": "helpdesk"}),
        ("user.create", 1, "admin", "user", "new-user-#", (1, 0), {"department": "Büro № 5 «Zürich»"}),
        ("user.suspend", 0.5, "admin", "user", "any", (0, 0), {"reason": "left the company"}),
        ("role.revoke", 1, "admin", "user", "any", (0, 1), {"revoked_role": "support"}),
        ("service_account.rotate", 1, "service", "service_account", "self", (2, 0), {"age_days": "#"}),
        ("access.review", 0.2, "admin", "group", "finance", (0, 0), {"period": "2026-Q1"}),
    ),
}


def patterns(service: str, count: int, rng: random.Random) -> list[Pattern]:
    """Return everyday events of a service, as often as they happen; a service without a mix of its own has that of payments."""
    rows = _MIXES.get(service, _MIXES["payments"])
    people = users()
    made = []
    # Every row once, so that each action is seen in a large store; the rest by weight.
    for row in [*rows, *rng.choices(rows, [row[1] for row in rows], k=max(0, count - len(rows)))]:
        action, _, kind, target_type, target, (failing, denied), context = row
        chosen = {"user": people, "admin": people[:6], "service": SERVICE_ACCOUNTS, "system": ("system",)}[kind]
        # The square of an even draw: a few people do much, most do little.
        actor = chosen[int(len(chosen) * rng.random() ** 2)]
        draw = rng.randrange(100)
        outcome = "failure" if draw < failing else "denied" if draw < failing + denied else "success"
        target_id = {"self": actor, "any": people[rng.randrange(len(people))]}.get(target, target)
        hole = "#" in target_id
        event = {
            "actor": {"type": "user" if kind == "admin" else kind, "id": actor}
            | ({} if kind == "system" else {"session": f"{rng.getrandbits(48):012x}"}),
            "action": action,
            "target": {"type": target_type, "id": target_id.replace("#", _HOLE)},
            "outcome": outcome,
            "context": {name: _filled(value, rng) for name, value in context.items()} | ({} if hole else {"request": _HOLE}),
        }
        if event["context"] == {}:
            del event["context"]
        head, tail = msgspec.json.encode(event).split(_HOLE.encode())
        made.append(Pattern(head[1:], tail, action, outcome, actor))
    return made


def _filled(value: Any, rng: random.Random) -> Any:
    """Put a number in the place of ``#``; a text that is nothing else becomes the number."""
    if value == "#":
        return rng.randrange(1, 5000)
    return value.replace("#", str(rng.randrange(1, 250))) if isinstance(value, str) else value


class Stories:
    """Tells the stories of a stretch of time.

    Attributes:
        told: Their events, in no order.
        grants: The role grants among them, by time.
    """

    def __init__(self, *, since: datetime, until: datetime, services: Sequence[str], rounds: int, rng: random.Random) -> None:
        """Tell `rounds` requests for a role (most of them the ordinary way), and the incident once."""
        self.told: list[Told] = []
        self.grants: list[Grant] = []
        self._rng, self._since, self._until = rng, since, until
        self._asking = "console" if "console" in services else services[0]
        self._granting = "directory" if "directory" in services else services[-1]
        self._ids = 0
        people = users()
        self._staff, self._admins = people[6:], people[:6]
        for number in range(rounds):
            begin = self._working_time((number + rng.random()) / rounds)
            self._role(number, begin)
        if rounds:
            self._incident(self._working_time(0.6))
        self.grants.sort(key=lambda grant: (grant.occurred_at, grant.event_id))

    def _working_time(self, part: float) -> datetime:
        """Return a moment on a working day, early enough that its story ends within the time."""
        span = (self._until - self._since) * 0.94
        day = (self._since + span * part).astimezone(UTC)
        while day.isoweekday() > 5 and day - timedelta(days=1) > self._since:
            day -= timedelta(days=1)
        moment = day.replace(hour=9 + self._rng.randrange(6), minute=self._rng.randrange(60), second=self._rng.randrange(60), microsecond=0)
        return min(max(moment, self._since), self._until - timedelta(hours=2))

    def _tell(
        self, service: str, at: datetime, actor: str, action: str, target: tuple[str, str], outcome: str, context: dict[str, Any]
    ) -> str:
        self._ids += 1
        event_id = f"{service[:3]}-story-{self._ids:06d}"
        line = msgspec.json.encode(
            {
                "stream": "audit",
                "event_id": event_id,
                "occurred_at": f"{at:%Y-%m-%dT%H:%M:%SZ}",
                "actor": {"type": "user", "id": actor, "session": f"{self._rng.getrandbits(48):012x}"},
                "action": action,
                "target": {"type": target[0], "id": target[1]},
                "outcome": outcome,
                "context": context,
            }
        )
        self.told.append(Told(service, at, line, action, outcome, actor))
        return event_id

    def _role(self, number: int, begin: datetime) -> None:
        """Tell how a role was asked for and what came of it, in eight ways by turns.

        0 to 2: asked, approved, granted. 3: approved, and the grant was denied. 4: approved, but the grant does not name the approval.
        5: an emergency, nobody was asked. 6: granted though nobody approved. 7: the approval was refused, and so was the grant.
        """
        rng, way = self._rng, number % 8
        asker, target = rng.choice(self._staff), ("user", rng.choice(self._staff))
        approver, granter = rng.sample(self._admins, 2)
        role = "admin" if number % 2 else rng.choice(ROLES)
        approval_id = f"CHG-{4000 + number}"
        context: dict[str, Any] = {"granted_role": role}
        at = begin
        approval: str | None = None
        if way != 5:
            self._tell(self._asking, at, asker, "role.request", target, "success", {"approval_id": approval_id, "requested_role": role})
            context["approval_id"] = approval_id
            at += timedelta(minutes=rng.randrange(3, 50))
        if way == 7:
            refused = {"approval_id": approval_id, "approved_role": role, "reason": "not needed for the job"}
            self._tell(self._asking, at, approver, "role.approve", target, "denied", refused)
        elif way < 5:
            approval = self._tell(
                self._asking, at, approver, "role.approve", target, "success", {"approval_id": approval_id, "approved_role": role}
            )
        at += timedelta(minutes=rng.randrange(1, 30))
        if way == 4:
            del context["approval_id"]
        outcome = "denied" if way in (3, 7) else "success"
        if way == 5:
            role = context["granted_role"] = "admin"
            context |= {"break_glass": True, "reason": "payment outage"}
            self._tell(
                self._asking, at - timedelta(seconds=20), granter, "access.break_glass", target, "success", {"reason": "payment outage"}
            )
        linked = approval if way != 4 else None
        event_id = self._tell(self._granting, at, granter, "role.grant", target, outcome, context)
        self.grants.append(
            Grant(
                event_id,
                self._granting,
                at,
                granter,
                target[1],
                role,
                outcome,
                context.get("approval_id"),
                approver if linked else None,
                linked,
                break_glass=way == 5,
            )
        )

    def _incident(self, begin: datetime) -> None:
        """Tell how a password was guessed, and what was done with it."""
        me, at = ("account", INCIDENT_ACTOR), begin
        for attempt in range(1, 13):
            at += timedelta(seconds=7)
            known = {"method": "password", "ip": "198.51.100.77", "attempt": attempt}
            self._tell(self._granting, at, INCIDENT_ACTOR, "auth.login", me, "success" if attempt == 12 else "failure", known)
        at += timedelta(minutes=2)
        wanted = {"granted_role": "admin", "ip": "198.51.100.77"}
        event_id = self._tell(self._granting, at, INCIDENT_ACTOR, "role.grant", ("user", INCIDENT_ACTOR), "denied", wanted)
        self.grants.append(Grant(event_id, self._granting, at, INCIDENT_ACTOR, INCIDENT_ACTOR, "admin", "denied", None, None, None))
        at += timedelta(minutes=4)
        taken = {"format": "csv", "scope": "all customers", "rows": 48213}
        self._tell(self._asking, at, INCIDENT_ACTOR, "data.export", ("table", "customers"), "success", taken)
        self._tell(self._asking, at + timedelta(minutes=1), INCIDENT_ACTOR, "auth.logout", me, "success", {})
