"""Which OCSF class and activity an action is.

Invariants: every class and activity named here is one of OCSF 1.8.0; a class that requires what the event does not say is not chosen.
This module must not build attributes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from .stored import verb

if TYPE_CHECKING:
    from .stored import Context, Stored

ACCOUNT: Final = 3001
AUTHENTICATION: Final = 3002
SESSION: Final = 3003
ENTITY: Final = 3004
PRIVILEGES: Final = 3005
GROUP: Final = 3006
API: Final = 6003
DATASTORE: Final = 6005
OTHER: Final = 99
"""What OCSF calls what is not in a list."""

_IAM: Final = (3, "Identity & Access Management")
_APPLICATION: Final = (6, "Application Activity")

CLASSES: Final = {
    ACCOUNT: ("Account Change", *_IAM),
    AUTHENTICATION: ("Authentication", *_IAM),
    SESSION: ("Authorize Session", *_IAM),
    ENTITY: ("Entity Management", *_IAM),
    PRIVILEGES: ("User Access Management", *_IAM),
    GROUP: ("Group Management", *_IAM),
    API: ("API Activity", *_APPLICATION),
    DATASTORE: ("Datastore Activity", *_APPLICATION),
}
"""Class by number: its caption, the category's number and caption."""

CAPTIONS: Final[dict[int, dict[int, str]]] = {
    ACCOUNT: {
        1: "Create",
        2: "Enable",
        3: "Password Change",
        4: "Password Reset",
        5: "Disable",
        6: "Delete",
        9: "Lock",
        10: "MFA Factor Enable",
        11: "MFA Factor Disable",
        12: "Unlock",
    },
    AUTHENTICATION: {1: "Logon", 2: "Logoff"},
    SESSION: {1: "Assign Privileges"},
    ENTITY: {1: "Create", 2: "Read", 3: "Update", 4: "Delete", 8: "Enable", 9: "Disable"},
    PRIVILEGES: {1: "Assign Privileges", 2: "Revoke Privileges"},
    GROUP: {1: "Assign Privileges", 2: "Revoke Privileges", 3: "Add User", 4: "Remove User", 5: "Delete", 6: "Create"},
    API: {1: "Create", 2: "Read", 3: "Update", 4: "Delete"},
    DATASTORE: {1: "Read", 2: "Update", 5: "Write", 6: "Create", 7: "Delete"},
}
"""The captions of the activities that are used, by class."""

DATASTORE_KINDS: Final[dict[str, tuple[str, int, str]]] = {
    **dict.fromkeys(("database", "schema", "keyspace"), ("database", 1, "Database")),
    **dict.fromkeys(("bucket", "object", "databucket"), ("databucket", 2, "Databucket")),
    **dict.fromkeys(("table", "view", "sequence", "index", "collection", "relation"), ("table", 3, "Table")),
}
"""Kinds of targets that are data stores: the attribute, and the store's type."""


@dataclass(frozen=True, slots=True)
class _Activities:
    """Activities of Group Management that carry more than the group."""

    with_privileges: tuple[int, ...] = (1, 2)
    with_member: tuple[int, ...] = (3, 4)


ACTIVITIES: Final = _Activities()


class Place(NamedTuple):
    """A class and an activity.

    Attributes:
        class_uid: The class.
        activity_id: The activity; 99 where the class has no word for it.
    """

    class_uid: int
    activity_id: int


_EXACT: Final = {
    "auth.login": Place(AUTHENTICATION, 1),
    "session.create": Place(AUTHENTICATION, 1),
    "auth.logout": Place(AUTHENTICATION, 2),
    "session.end": Place(AUTHENTICATION, 2),
    "session.revoke": Place(AUTHENTICATION, 2),
    "auth.password.change": Place(ACCOUNT, 3),
    "auth.password.reset": Place(ACCOUNT, 4),
    "auth.mfa.enroll": Place(ACCOUNT, 10),
    "auth.mfa.enable": Place(ACCOUNT, 10),
    "auth.mfa.remove": Place(ACCOUNT, 11),
    "auth.mfa.disable": Place(ACCOUNT, 11),
    "auth.mfa.reset": Place(ACCOUNT, 11),
    "user.create": Place(ACCOUNT, 1),
    "user.enable": Place(ACCOUNT, 2),
    "user.disable": Place(ACCOUNT, 5),
    "user.delete": Place(ACCOUNT, 6),
    "user.lock": Place(ACCOUNT, 9),
    "user.unlock": Place(ACCOUNT, 12),
    "user.update": Place(ENTITY, 3),
    "group.create": Place(GROUP, 6),
    "group.delete": Place(GROUP, 5),
    "group.update": Place(ENTITY, 3),
    "group.member.add": Place(GROUP, 3),
    "group.member.remove": Place(GROUP, 4),
    "key.rotate": Place(ENTITY, 3),
    "config.change": Place(ENTITY, 3),
    "audit.disable": Place(ENTITY, 9),
    "audit.enable": Place(ENTITY, 8),
    "secret.read": Place(API, 2),
    "secret.write": Place(API, 3),
    "secret.delete": Place(API, 4),
}
_GRANTS: Final = {"role.grant": 1, "permission.grant": 1, "role.revoke": 2, "permission.revoke": 2}
_ENTITIES: Final = ("role.", "policy.", "key.")
_VERBS: Final = {
    **dict.fromkeys(("create", "add", "insert", "register", "post", "put"), 1),
    **dict.fromkeys(("read", "get", "list", "describe", "view", "watch", "head", "search", "lookup"), 2),
    **dict.fromkeys(("update", "change", "set", "write", "patch", "modify", "alter", "rotate", "rename", "edit"), 3),
    **dict.fromkeys(("delete", "remove", "drop", "destroy", "deletecollection", "purge"), 4),
}
_DATA: Final = {
    "data.read": 1,
    "data.write": 5,
    "data.delete": 7,
    "data.export": OTHER,
    "schema.create": 6,
    "schema.alter": 2,
    "schema.drop": 7,
}
_DATA_CATEGORIES: Final = ("data_access", "data_change", "data_export")
_ADMINISTERING: Final = ("authorization", "administration", "configuration", "security")
_OF_HTTP: Final = {"GET": 2, "HEAD": 2, "OPTIONS": 2, "POST": 1, "PUT": 3, "PATCH": 3, "DELETE": 4}
_VERB_IN_DATASTORE: Final = {1: 6, 2: 1, 3: 2, 4: 7}


def choose(stored: Stored, context: Context) -> Place:
    """Return the class and the activity of an event.

    Args:
        stored: The event.
        context: Its context; only looked at.
    """
    action = stored.action
    if (found := _EXACT.get(action)) is not None:
        return found
    if action in _GRANTS:
        return _grant(stored, context)
    if action == "privilege.use" and _names_any(context, "permission", "privilege", "command"):
        return Place(SESSION, 1)
    if action == "http.request":
        method = context.rest.get("method")
        return Place(API, _OF_HTTP.get(method, OTHER) if isinstance(method, str) else OTHER)
    return _by_verb(stored, _VERBS.get(verb(action), OTHER))


def _by_verb(stored: Stored, activity: int) -> Place:
    action, category = stored.action, stored.category
    if action in _DATA or (category in _DATA_CATEGORIES and activity != OTHER):
        return _data(stored, activity)
    if action.startswith("auth.") or category == "authentication":
        return Place(AUTHENTICATION, OTHER)
    if activity != OTHER and (action.startswith(_ENTITIES) or category in _ADMINISTERING):
        return Place(ENTITY, activity)
    return Place(API, activity)


def _grant(stored: Stored, context: Context) -> Place:
    if not _names_any(context, "granted_role", "revoked_role", "permission"):
        # The class for grants requires what was granted; without it the event is a change of whoever got it.
        return Place(ENTITY, 3)
    return Place(GROUP if stored.target_type in ("group", "team") else PRIVILEGES, _GRANTS[stored.action])


def _data(stored: Stored, activity: int) -> Place:
    if stored.target_type in DATASTORE_KINDS:
        return Place(DATASTORE, _DATA.get(stored.action) or _VERB_IN_DATASTORE[activity])
    return Place(API, activity)


def _names_any(context: Context, *names: str) -> bool:
    return any(
        (isinstance(value, str) and value) or (isinstance(value, list) and value and all(isinstance(one, str) and one for one in value))
        for value in (context.rest.get(name) for name in names)
    )
