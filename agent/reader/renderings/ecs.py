"""ECS 8.17.0: the categorization fields of an event, and what of it goes into which field.

Categories and types are only paired as ECS expects them. ECS knows no outcome "denied": a denied event is a ``failure``, and where the
category knows the type ``denied`` it has it; ``trailseal.outcome`` always has the schema's word.

Invariants: fields are nested objects, never dotted keys; every custom field is below ``trailseal``, and whatever a service chose as
a name is below ``trailseal.context``, so that one field set to ``flattened`` bounds an index's mapping. This module must not open files.
"""

from __future__ import annotations

from typing import Any, Final

from .stored import Context, Stored, present, text, verb

ECS_VERSION: Final = "8.17.0"
"""The version of the schema that is followed."""

_EXACT: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "auth.login": (("authentication",), ("start",)),
    "auth.logout": (("authentication",), ("end",)),
    "session.create": (("session",), ("start",)),
    "session.end": (("session",), ("end",)),
    "session.revoke": (("session",), ("end",)),
    "auth.password.change": (("iam",), ("user", "change")),
    "auth.password.reset": (("iam",), ("user", "change")),
    "user.create": (("iam",), ("user", "creation")),
    "user.delete": (("iam",), ("user", "deletion")),
    "group.create": (("iam",), ("group", "creation")),
    "group.delete": (("iam",), ("group", "deletion")),
    "role.create": (("iam",), ("admin", "creation")),
    "role.delete": (("iam",), ("admin", "deletion")),
    "role.grant": (("iam",), ("admin", "change")),
    "role.revoke": (("iam",), ("admin", "change")),
    "permission.grant": (("iam",), ("admin", "change")),
    "permission.revoke": (("iam",), ("admin", "change")),
    "key.create": (("iam",), ("creation",)),
    "key.delete": (("iam",), ("deletion",)),
    "key.rotate": (("iam",), ("change",)),
    "config.change": (("configuration",), ("change",)),
    "policy.create": (("configuration",), ("creation",)),
    "policy.delete": (("configuration",), ("deletion",)),
    "policy.update": (("configuration",), ("change",)),
    "audit.disable": (("configuration",), ("change",)),
    "audit.enable": (("configuration",), ("change",)),
    "schema.create": (("database",), ("change",)),
    "schema.alter": (("database",), ("change",)),
    "schema.drop": (("database",), ("change",)),
    "command.run": (("process",), ("start",)),
    "http.request": (("web",), ("access",)),
}
_BEGINNINGS: Final[tuple[tuple[str, tuple[tuple[str, ...], tuple[str, ...]]], ...]] = (
    ("auth.", (("authentication",), ("info",))),
    ("user.", (("iam",), ("user", "change"))),
    ("group.", (("iam",), ("group", "change"))),
    ("role.", (("iam",), ("admin", "change"))),
    ("policy.", (("configuration",), ("change",))),
)
_TYPES_OF_VERBS: Final = {
    **dict.fromkeys(("create", "add", "insert", "register", "post"), "creation"),
    **dict.fromkeys(("delete", "remove", "drop", "destroy", "deletecollection", "purge"), "deletion"),
    **dict.fromkeys(("read", "get", "list", "describe", "view", "watch", "export", "search", "lookup"), "access"),
    **dict.fromkeys(("update", "change", "set", "write", "patch", "put", "modify", "alter", "rotate", "rename"), "change"),
}
_OF_CATEGORY: Final = {
    "authentication": ("authentication", ("info",)),
    "authorization": ("iam", ("admin", "change")),
    "administration": ("iam", ("admin",)),
    "configuration": ("configuration", ("change",)),
}
_DATA_KINDS: Final = frozenset({"database", "schema", "table", "view", "sequence", "index", "collection", "relation", "keyspace"})
_FILE_KINDS: Final = frozenset({"file", "object", "directory"})
_DATABASE_TYPES: Final = {"creation": "change", "deletion": "change", "change": "change", "access": "access"}
_PEOPLE: Final = ("user", "account", "role", "service")
_GROUPS: Final = ("group", "team")
_METHODS: Final = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
_HIGHEST_PORT: Final = 65_535
_HIGHEST_STATUS: Final = 999


def to_ecs(stored: Stored) -> dict[str, Any]:
    """Return an event as ECS has it, as plain data.

    Args:
        stored: A verified event.
    """
    context = Context(stored.context)
    source_ip = context.take_address("source_ip")
    source_host = context.take_text("source_host")
    method = context.rest.get("method")
    verb_taken = context.take_text("method") if isinstance(method, str) and method in _METHODS else None
    member = context.take_text("member") if stored.action in ("group.member.add", "group.member.remove") else None
    command = context.take_text("command")
    document = {
        "@timestamp": stored.occurred_at or None,
        "ecs": {"version": ECS_VERSION},
        "message": f"{stored.actor_id} {stored.action} {stored.target_type} {stored.target_id}: {stored.outcome}",
        "event": _event(stored, context),
        "user": _user(stored, context, member),
        "group": {"name": stored.target_id, "id": stored.target_id} if stored.target_type in _GROUPS else None,
        "organization": {"name": stored.target_id, "id": stored.target_id} if stored.target_type == "organization" else None,
        "source": present(
            {
                "ip": source_ip,
                "domain": source_host,
                "address": source_ip or source_host or context.take_text("source_ip"),
                "port": context.take_whole("source_port", _HIGHEST_PORT),
            }
        ),
        "user_agent": present({"original": context.take_text("user_agent")}),
        "http": present(
            {
                "request": present({"method": verb_taken, "id": context.take_text("request_id")}),
                "response": present({"status_code": context.take_whole("status", _HIGHEST_STATUS)}),
            }
        ),
        "url": present({"original": context.take_text("url"), "path": context.take_text("path")}),
        "process": present({"command_line": command}),
        "error": present({"code": context.take_text("error_code"), "message": context.take_text("error")}),
        "service": present({"name": stored.service, "node": present({"name": stored.instance})}),
        "host": present({"name": stored.host}),
        **_cluster(stored),
        "agent": {"type": "trailseal"},
        "related": present({"user": _people(stored, member), "ip": [source_ip] if source_ip else [], "hosts": _hosts(stored, source_host)}),
    }
    document["trailseal"] = stored.provenance() | present({"namespace": stored.namespace, "context": context.rest})
    return present(document)


def _event(stored: Stored, context: Context) -> dict[str, Any]:
    categories, types = _categorization(stored)
    return present(
        {
            "kind": "event",
            "category": list(categories),
            "type": list(types),
            "action": stored.action,
            "outcome": {"success": "success", "failure": "failure", "denied": "failure"}.get(stored.outcome, "unknown"),
            "id": stored.event_id,
            "created": stored.observed_at,
            "sequence": stored.seq,
            "module": "trailseal",
            "dataset": "trailseal.audit",
            "provider": stored.source,
            "reason": context.take_text("reason"),
            "original": stored.raw,
        }
    )


def _categorization(stored: Stored) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if (found := _EXACT.get(stored.action)) is not None:
        return found
    for beginning, pair in _BEGINNINGS:
        if stored.action.startswith(beginning):
            return pair
    kind = _TYPES_OF_VERBS.get(verb(stored.action))
    if stored.target_type in _DATA_KINDS:
        return ("database",), (_DATABASE_TYPES.get(kind or "", "info"),)
    if stored.target_type in _FILE_KINDS:
        return ("file",), (kind or "info",)
    if stored.category in _OF_CATEGORY:
        category, types = _OF_CATEGORY[stored.category]
        return (category,), types
    return ("api",), (kind or "info", *(("denied",) if stored.outcome == "denied" else ()))


def _user(stored: Stored, context: Context, member: str | None) -> dict[str, Any]:
    user: dict[str, Any] = {} if stored.actor_type == "host" else _named(stored.actor_id)
    if member is not None:
        user["target"] = _named(member)
    elif stored.target_type in _PEOPLE:
        user["target"] = _named(stored.target_id)
        if stored.action == "role.grant" and (roles := context.take_texts("granted_role")):
            user["changes"] = {"roles": roles}
    return user


def _cluster(stored: Stored) -> dict[str, Any]:
    place = stored.container or {}
    pod = text(place.get("pod"))
    return {
        "container": present({"id": text(place.get("id")), "name": text(place.get("container"))}),
        "orchestrator": present(
            {"namespace": text(place.get("namespace")), "resource": {"type": "pod", "name": pod} if pod is not None else None}
        ),
    }


def _named(name: str) -> dict[str, Any]:
    return present({"id": name, "name": name, "email": name if "@" in name.strip("@") else None})


def _people(stored: Stored, member: str | None) -> list[str]:
    names = [] if stored.actor_type == "host" else [stored.actor_id]
    if stored.target_type in _PEOPLE:
        names.append(stored.target_id)
    return sorted({name for name in (*names, member or "") if name})


def _hosts(stored: Stored, source_host: str | None) -> list[str]:
    return sorted({name for name in (stored.actor_id if stored.actor_type == "host" else "", source_host or "") if name})
