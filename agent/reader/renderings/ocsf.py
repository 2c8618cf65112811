"""OCSF 1.8.0: which class an event belongs to, and what of it goes into which attribute.

Only classes that OCSF 1.8.0 has are used: 3001 Account Change, 3002 Authentication, 3003 Authorize Session, 3004 Entity Management,
3005 User Access Management, 3006 Group Management, 6003 API Activity and 6005 Datastore Activity. The action decides; where it says
nothing the catalog's category does; the last resort is 6003.

Invariants: every attribute that the chosen class requires is there; `metadata.event_code` is the action and
``unmapped.trailseal`` holds the schema's own words, so the event can be made again. This module must not open files or guess: what
an event does not say is left out, or, where OCSF requires it, ``Unknown``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from .activities import (
    ACTIVITIES,
    API,
    AUTHENTICATION,
    CAPTIONS,
    CLASSES,
    DATASTORE,
    DATASTORE_KINDS,
    ENTITY,
    GROUP,
    OTHER,
    PRIVILEGES,
    SESSION,
    choose,
)
from .stored import Context, Stored, epoch_milliseconds, present

OCSF_VERSION: Final = "1.8.0"
"""The version of the schema that is followed."""

_USER_TYPES: Final = {"user": (1, "User"), "admin": (2, "Admin"), "system": (3, "System"), "service": (4, "Service")}
_ENTITY_TYPES: Final = {
    "device": (1, "Device"),
    "host": (1, "Device"),
    "user": (2, "User"),
    "account": (2, "User"),
    "group": (3, "Group"),
    "team": (3, "Group"),
    "organization": (4, "Organization"),
    "policy": (5, "Policy"),
}
_STATUS: Final = {"success": (1, "Success"), "failure": (2, "Failure"), "denied": (2, "Failure")}
_SEVERITY: Final = {"failure": (2, "Low"), "denied": (3, "Medium")}
_INFORMATIONAL: Final = (1, "Informational")
_HIGH: Final = (4, "High")
_METHODS: Final = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
_AUTHENTICATION_PROTOCOLS: Final = {
    "ntlm": 1,
    "kerberos": 2,
    "digest": 3,
    "oidc": 4,
    "openid": 4,
    "saml": 5,
    "oauth": 6,
    "oauth2": 6,
    "radius": 10,
    "basic": 11,
    "ldap": 12,
}
_PROTOCOL_CAPTIONS: Final = {
    1: "NTLM",
    2: "Kerberos",
    3: "Digest",
    4: "OpenID",
    5: "SAML",
    6: "OAUTH 2.0",
    10: "RADIUS",
    11: "Basic Authentication",
    12: "LDAP",
}
_HIGHEST_PORT: Final = 65_535
_HIGHEST_STATUS: Final = 999


def to_ocsf(stored: Stored) -> dict[str, Any]:
    """Return an event as OCSF has it, as plain data.

    Args:
        stored: A verified event.
    """
    context = Context(stored.context)
    place = choose(stored, context)
    status_id, status = _STATUS.get(stored.outcome, (0, "Unknown"))
    severity_id, severity = _HIGH if stored.action == "audit.disable" else _SEVERITY.get(stored.outcome, _INFORMATIONAL)
    caption = CAPTIONS[place.class_uid].get(place.activity_id)
    class_name, category_uid, category_name = CLASSES[place.class_uid]
    time = epoch_milliseconds(stored.occurred_at)
    document: dict[str, Any] = {
        "metadata": _metadata(stored),
        "time": 0 if time is None else time,
        "time_dt": stored.occurred_at or None,
        "category_uid": category_uid,
        "category_name": category_name,
        "class_uid": place.class_uid,
        "class_name": class_name,
        "activity_id": place.activity_id,
        "activity_name": caption or stored.action,
        "type_uid": place.class_uid * 100 + place.activity_id,
        "type_name": f"{class_name}: {caption or 'Other'}",
        "severity_id": severity_id,
        "severity": severity,
        "status_id": status_id,
        "status": status,
        "actor": _actor(stored),
        "src_endpoint": _source(stored, context, required=place.class_uid in (API, DATASTORE)),
        **_http(context),
        **_of_class(place.class_uid, place.activity_id, stored, context),
        "status_code": context.take_text("error_code"),
        "status_detail": context.take_text("error"),
        "raw_data": stored.raw,
    }
    if stored.outcome == "denied":
        document |= {"action_id": 2, "action": "Denied", "disposition_id": 26, "disposition": "Unauthorized"}
        document["metadata"]["profiles"].append("security_control")
    document["unmapped"] = {"trailseal": stored.provenance(), **({"context": context.rest} if context.rest else {})}
    return present(document)


def _metadata(stored: Stored) -> dict[str, Any]:
    return present(
        {
            "version": OCSF_VERSION,
            "product": present({"name": stored.service or "Unknown", "uid": f"{stored.namespace}/{stored.service}".strip("/")}),
            "profiles": ["datetime"],
            "uid": stored.record_id,
            "original_event_uid": stored.event_id,
            "event_code": stored.action,
            "original_time": stored.occurred_at,
            "logged_time": epoch_milliseconds(stored.observed_at),
            "logged_time_dt": stored.observed_at,
            "sequence": stored.seq,
            "log_provider": "Trailseal",
            "log_name": stored.source,
            "log_format": stored.mapping.partition("/")[0] if stored.mapping else None,
        }
    )


def _actor(stored: Stored) -> dict[str, Any]:
    return present({"user": _user(stored.actor_id, stored.actor_type), "session": present({"uid": stored.actor_session})})


def _user(name: str, kind: str) -> dict[str, Any]:
    type_id, caption = _USER_TYPES.get(kind, (OTHER, kind or "Unknown"))
    address = name if "@" in name.strip("@") else None
    return present({"name": name or "Unknown", "uid": name or "Unknown", "email_addr": address, "type_id": type_id, "type": caption})


def _source(stored: Stored, context: Context, *, required: bool) -> dict[str, Any]:
    found = present(
        {
            "ip": context.take_address("source_ip"),
            "port": context.take_whole("source_port", _HIGHEST_PORT),
            "hostname": context.take_text("source_host"),
        }
    )
    if not found.keys() & {"ip", "hostname"} and required:
        # One of the names is demanded where OCSF demands the object.
        found |= {"svc_name": stored.actor_id} if stored.actor_type == "service" else {"name": "Unknown"}
    elif set(found) == {"port"}:
        found["name"] = "Unknown"
    return found


def _http(context: Context) -> dict[str, Any]:
    """Return request and response; a `method` that is no verb of HTTP is how somebody signed in, and stays."""
    method = context.rest.get("method")
    verb_taken = context.take_text("method") if isinstance(method, str) and method in _METHODS else None
    request = present(
        {
            "user_agent": context.take_text("user_agent"),
            "http_method": verb_taken,
            "uid": context.take_text("request_id"),
            "url": present({"url_string": context.take_text("url"), "path": context.take_text("path")}),
        }
    )
    response = present({"code": context.take_whole("status", _HIGHEST_STATUS)})
    return {"http_request": request, "http_response": response}


@dataclass(frozen=True, slots=True)
class _Subject:
    """Whom a class is about."""

    name: str
    kind: str


def _of_class(class_uid: int, activity_id: int, stored: Stored, context: Context) -> dict[str, Any]:
    target = _Subject(stored.target_id, stored.target_type)
    if class_uid == API:
        operation = {"operation": stored.action or "Unknown", "service": {"name": stored.service or "Unknown"}}
        return {"api": operation, "resources": [_resource(target)]}
    if class_uid == DATASTORE:
        kind, type_id, caption = DATASTORE_KINDS[stored.target_type]
        query = context.take_text("statement", "query")
        return {
            kind: present({"name": stored.target_id or "Unknown", "uid": stored.target_id, "type_id": None if kind == "table" else 0}),
            "type_id": type_id,
            "type": caption,
            # Its name or number is demanded; the event's own number names it as well as anything.
            "query_info": {"uid": stored.event_id or "Unknown", "query_string": query} if query else None,
        }
    if class_uid == ENTITY:
        return {"entity": _entity(target), "comment": context.take_text("reason")}
    if class_uid == GROUP:
        return _group(activity_id, stored, context)
    if class_uid == AUTHENTICATION:
        return _authentication(stored, context)
    person = target if stored.target_type in ("user", "account", "role", "service") else _Subject(stored.actor_id, stored.actor_type)
    about: dict[str, Any] = {"user": _user(person.name, person.kind)}
    if class_uid == PRIVILEGES:
        about["user"] = _user(target.name, target.kind)
        about["privileges"] = context.take_texts(*_granted(stored))
        resource = context.take_text("on")
        about["resources"] = [{"name": resource}] if resource else None
    elif class_uid == SESSION:
        about["user"] = _user(stored.actor_id, stored.actor_type)
        about["privileges"] = context.take_texts("permission", "privilege", "command")
        about["session"] = present({"uid": stored.actor_session})
    elif factor := context.take_text("factor"):
        about["auth_factors"] = [{"factor_type_id": OTHER, "factor_type": factor}]
    return about


def _group(activity_id: int, stored: Stored, context: Context) -> dict[str, Any]:
    about: dict[str, Any] = {"group": {"name": stored.target_id or "Unknown", "uid": stored.target_id or "Unknown"}}
    if activity_id in ACTIVITIES.with_privileges:
        about["privileges"] = context.take_texts(*_granted(stored))
        resource = context.take_text("on")
        about["resource"] = {"name": resource} if resource else None
    elif activity_id in ACTIVITIES.with_member and (member := context.take_text("member")):
        about["user"] = {"name": member, "uid": member}
    return about


def _granted(stored: Stored) -> tuple[str, ...]:
    """Return where the context may name what was granted or taken, the action's own name first."""
    names = ("granted_role", "revoked_role", "permission")
    return {"role.revoke": ("revoked_role", "granted_role", "permission")}.get(stored.action, names)


def _authentication(stored: Stored, context: Context) -> dict[str, Any]:
    is_person = stored.target_type in ("user", "account")
    person = _user(stored.target_id, "user") if is_person else _user(stored.actor_id, stored.actor_type)
    method = context.take_text("method")
    protocol = _AUTHENTICATION_PROTOCOLS.get(method.lower(), OTHER) if method else None
    factor = context.take_text("factor")
    return {
        "user": person,
        "service": {"name": (stored.service if is_person else stored.target_id) or "Unknown"},
        "session": present({"uid": stored.actor_session}),
        "auth_protocol_id": protocol,
        "auth_protocol": None if protocol is None else _PROTOCOL_CAPTIONS.get(protocol, method),
        "auth_factors": [{"factor_type_id": OTHER, "factor_type": factor}] if factor else None,
    }


def _resource(target: _Subject) -> dict[str, Any]:
    return present({"name": target.name or "Unknown", "uid": target.name, "type": target.kind})


def _entity(target: _Subject) -> dict[str, Any]:
    type_id, caption = _ENTITY_TYPES.get(target.kind, (OTHER, target.kind or "Unknown"))
    return {"name": target.name or "Unknown", "uid": target.name or "Unknown", "type_id": type_id, "type": caption}
