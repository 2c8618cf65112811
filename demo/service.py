#!/usr/bin/env python3
"""Run a small back office for payments over HTTP: the service beside which the demo puts the agent.

It knows nothing of Trailseal. It logs as services do: an access line for each request and JSON lines on stdout, stack traces
on stderr; and, also on stdout, one JSON line with `"stream": "audit"` for each thing an auditor would ask about.

Invariants: every audit event is printed before the request is answered, and the answer names it in `X-Audit-Event`, so that
a client can ask later whether it reached the trail. One handler has a bug on purpose: `POST /refunds` leaves the actor out.
The module must not import anything of the package `agent`, or anything beyond the standard library.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
import traceback
import uuid
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, ClassVar, Final, NamedTuple

VERSION: Final = "2.4.1"
JOB_SECONDS: Final = 5.0
SYSTEM: Final = MappingProxyType({"type": "system", "id": "scheduler"})
EVERYBODY: Final = MappingProxyType({"ada": "correct horse", "grace": "battery staple", "mallory": "letmein"})
ADMINS: Final = frozenset({"ada"})
LOCKED: Final = frozenset({"mallory"})
APPROVALS: Final = MappingProxyType({"CHG-1007": ("grace", "billing-admin")})

_output = threading.Lock()


def log(**fields: object) -> None:
    """Print one observability line."""
    _print({"time": _now(), "level": "info", **fields})


def audit(action: str, actor: object, target: tuple[str, str], outcome: str, **context: object) -> str:
    """Print one audit event.

    Args:
        action: What was done, a name from config/catalog.yaml.
        actor: Who did it, `{type, id, session}`; None leaves it out, which is what the bug in `POST /refunds` does.
        target: Type and id of what it was done to.
        outcome: `success`, `failure`, `denied` or `unknown`.
        context: The state that made the action what it was.

    Returns:
        The event's id.
    """
    event_id = str(uuid.uuid4())
    event: dict[str, object] = {"stream": "audit", "event_id": event_id, "occurred_at": _now()}
    event |= {} if actor is None else {"actor": actor}
    event |= {"action": action, "target": {"type": target[0], "id": target[1]}, "outcome": outcome, "context": context}
    _print(event)
    return event_id


def _print(fields: dict[str, Any]) -> None:
    _write(json.dumps(fields))


def _write(line: str) -> None:
    with _output:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class Answer(NamedTuple):
    """Say how a request ended: the status, the body, and the audit event that tells of it."""

    status: HTTPStatus
    body: dict[str, object]
    event_id: str | None = None


class BackOffice(BaseHTTPRequestHandler):
    """Answer requests; one object each."""

    protocol_version = "HTTP/1.1"
    sessions: ClassVar[dict[str, str]] = {}
    settings: ClassVar[dict[str, object]] = {"payout_limit": 1000}

    def do_GET(self) -> None:
        """Answer a GET."""
        self._answer({"/health": self._health, "/report": self._report})

    def do_POST(self) -> None:
        """Answer a POST."""
        self._answer({"/login": self._login, "/roles": self._grant, "/exports": self._export, "/refunds": self._refund})

    def do_PUT(self) -> None:
        """Answer a PUT."""
        self._answer({"/settings": self._change})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it
        """Print an access line, in the format every web server has."""
        when = datetime.now(UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
        _write(f"{self.client_address[0]} - - [{when}] {format % args}")

    def _answer(self, routes: dict[str, Any]) -> None:
        handler = routes.get(self.path)
        try:
            length = int(self.headers.get("Content-Length") or 0)
            answer = handler(json.loads(self.rfile.read(length) or b"{}")) if handler else Answer(HTTPStatus.NOT_FOUND, {})
        except Exception:  # noqa: BLE001  a web server answers 500 to whatever its handlers did wrong
            with _output:
                sys.stderr.write(traceback.format_exc())
                sys.stderr.flush()
            answer = Answer(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "see the log"})
        body = json.dumps(answer.body).encode()
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(body)))
        if answer.event_id:
            self.send_header("X-Audit-Event", answer.event_id)
        self.end_headers()
        self.wfile.write(body)

    def _actor(self) -> dict[str, str]:
        session = self.headers.get("X-Session", "")
        user = self.sessions.get(session)
        return {"type": "user", "id": user, "session": session} if user else {"type": "anonymous", "id": self.client_address[0]}

    def _health(self, _: dict[str, Any]) -> Answer:
        return Answer(HTTPStatus.OK, {"healthy": True})

    def _report(self, _: dict[str, Any]) -> Answer:
        payouts: list[int] = []
        return Answer(HTTPStatus.OK, {"average": sum(payouts) / len(payouts)})

    def _login(self, body: dict[str, Any]) -> Answer:
        user = str(body["user"])
        actor = {"type": "user", "id": user}
        if user in LOCKED:
            event = audit("auth.login", actor, ("account", user), "denied", method="password", why="account locked")
            return Answer(HTTPStatus.FORBIDDEN, {}, event)
        if EVERYBODY.get(user) != body["password"]:
            event = audit("auth.login", actor, ("account", user), "failure", method="password", why="wrong password")
            return Answer(HTTPStatus.UNAUTHORIZED, {}, event)
        session = uuid.uuid4().hex[:12]
        self.sessions[session] = user
        event = audit("auth.login", actor | {"session": session}, ("account", user), "success", method="password")
        return Answer(HTTPStatus.OK, {"session": session}, event)

    def _grant(self, body: dict[str, Any]) -> Answer:
        actor, user, role, approval_id = self._actor(), str(body["user"]), str(body["role"]), body.get("approval_id")
        approver, approved_role = APPROVALS.get(str(approval_id), (None, None))
        granted = actor["id"] in ADMINS and approver is not None and approved_role == role
        context = {"granted_role": role, "approval_id": approval_id, "approved_by": approver}
        event = audit("role.grant", actor, ("account", user), "success" if granted else "denied", **context)
        return Answer(HTTPStatus.OK if granted else HTTPStatus.FORBIDDEN, {}, event)

    def _export(self, body: dict[str, Any]) -> Answer:
        context = {"format": "csv", "scope": str(body["scope"]), "rows": 1200}
        return Answer(HTTPStatus.OK, {}, audit("data.export", self._actor(), ("dataset", "payouts"), "success", **context))

    def _change(self, body: dict[str, Any]) -> Answer:
        setting, new = str(body["setting"]), body["value"]
        old, self.settings[setting] = self.settings.get(setting), new
        event = audit("config.change", self._actor(), ("setting", setting), "success", setting=setting, old=old, new=new)
        return Answer(HTTPStatus.OK, {}, event)

    def _refund(self, body: dict[str, Any]) -> Answer:
        context = {"amount": body["amount"], "currency": "EUR", "reason": "duplicate charge"}
        return Answer(HTTPStatus.OK, {}, audit("billing.refund", None, ("payment", str(body["payment"])), "success", **context))


def work_by_schedule(stop: threading.Event) -> None:
    """Reconcile at once and every few seconds, as the system itself, until told to stop."""
    while not stop.is_set():
        log(msg="reconciling payouts", pending=0)
        audit("job.reconcile", dict(SYSTEM), ("dataset", "payouts"), "success", checked=17)
        stop.wait(JOB_SECONDS)


def main() -> int:
    """Serve on a free port of the loopback address until SIGTERM or Ctrl-C."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    with ThreadingHTTPServer(("127.0.0.1", 0), BackOffice) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        audit("system.start", dict(SYSTEM), ("service", "payments"), "success", version=VERSION)
        threading.Thread(target=work_by_schedule, args=(stop,), daemon=True).start()
        log(msg="listening", port=server.server_port)
        while not stop.wait(1.0):
            pass
        server.shutdown()
    time.sleep(0.05)  # a request in flight ends its line
    audit("system.stop", dict(SYSTEM), ("service", "payments"), "success")
    log(msg="stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
