"""Ask a bucket, by S3's own API, what it guarantees and what the agent's credentials may do.

How a right is tried without using it:
    overwrite        a PUT whose checksum does not fit its body: who may not write is refused, who may is told of the checksum
    write elsewhere  the same, under another service's name, and only on a server that was just seen to compare checksums
    delete           with a condition that cannot hold; a server that ignores it puts a delete marker, which is removed again
    a version        deleting the doctor's own: a lock refuses it, and without a lock nothing but a probe is lost
    retention        set to what it is; then to less, which is put back where it was allowed
    settings         written as they were read, or as they are known to be

Invariants: as in the package; every answer becomes a fact, and only what is no answer at all ends the asking.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ..config.bucket import DAY_SECONDS
from ..stores.bucket.examine import lock_headers
from ..stores.bucket.look import read_time
from ..stores.bucket.s3api import read_client_error, s3_client
from .facts import Examined, Outcome, S3Facts, Tried

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from ..config import Store as StoreSettings
    from ..stores.bucket import Access
    from ..vitals.clock import Clock

BODY: Final = b"trailseal doctor: an object that shows what this store does with new ones\n"
ATTEMPTS: Final = 2
_REFUSED: Final = frozenset({401, 403, 405, 409})
_MODES: Final = ("compliance", "governance")
_MAX_NAMESPACES: Final = 20
_NO_SUCH_ETAG: Final = '"00000000000000000000000000000000"'


def _md5(data: bytes) -> str:
    """Return a body's Content-MD5, which S3 asks for where a lock is asked for; it protects nothing here."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


_WRONG_MD5: Final = _md5(b"of another body")


class S3Asking:
    """Ask one bucket."""

    def __init__(self, client: Any, settings: StoreSettings, who: tuple[str, str, str], probe: str, clock: Clock) -> None:
        """Prepare it; nothing is asked yet.

        Args:
            client: An S3 client of aiobotocore.
            settings: The store's settings.
            who: Namespace, service and instance.
            probe: The key of the doctor's object, relative to the store.
            clock: Tells the time.
        """
        assert settings.bucket is not None  # noqa: S101  only buckets come here
        self._client = client
        self._settings = settings
        self._who = who
        self._probe = probe
        self._clock = clock
        self._bucket = settings.bucket.bucket
        self._prefix = f"{settings.bucket.prefix}/" if settings.bucket.prefix else ""

    async def _try(self, operation: str, **arguments: Any) -> tuple[Tried, dict[str, Any]]:
        """Do one request; return what came of it, and the answer's fields."""
        from aiohttp import ClientError as ConnectionTrouble  # noqa: PLC0415  loaded by the client anyway
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  a part of the extra

        try:
            answer = await getattr(self._client, operation)(Bucket=self._bucket, **arguments)
        except (ClientError, BotoCoreError, ConnectionTrouble, OSError) as error:
            said = read_client_error(error)
            outcome = Outcome.REFUSED if said.status in _REFUSED else Outcome.ABSENT if said.status == 404 else Outcome.UNCLEAR
            return Tried(outcome, said.words), {}
        return Tried(Outcome.ALLOWED), answer

    def _key(self, key: str) -> str:
        return self._prefix + key

    async def create(self, examined: Examined) -> S3Facts:
        """Create the doctor's object, and look at it.

        Args:
            examined: What the agent itself found.
        """
        arguments = {"Key": self._key(self._probe), "Body": BODY, "ContentMD5": _md5(BODY), "IfNoneMatch": "*"} | self._lock()
        created, _ = await self._try("put_object", **arguments)
        if created.said.startswith("412"):
            created = Tried(Outcome.ALLOWED, "it was there already")
        exclusive = None if examined.standing is None else examined.standing.exclusive
        if created.allowed and exclusive is None:
            again, _ = await self._try("put_object", **arguments)
            exclusive = True if again.said.startswith("412") else False if again.allowed else None
        facts = S3Facts(examined=examined, probe=self._probe, create=created, exclusive=exclusive)
        return await self._look(facts) if created.allowed else facts

    def _lock(self) -> dict[str, Any]:
        """Return what a new object asks for, as the agent does it."""
        headers = lock_headers(self._settings, self._clock.now())
        if not headers:
            return {}
        mode, until = headers.values()
        return {"ObjectLockMode": mode, "ObjectLockRetainUntilDate": read_time(until)}

    async def _look(self, facts: S3Facts) -> S3Facts:
        read, head = await self._try("head_object", Key=self._key(self._probe))
        now = self._clock.now()
        absent, _ = await self._try("get_object", Key=self._key(f"{self._probe.rpartition('/')[0]}/1970-01-01"))
        until, stored = head.get("ObjectLockRetainUntilDate"), head.get("LastModified")
        date = read_time(head.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date"))
        version, mode = head.get("VersionId"), str(head.get("ObjectLockMode", "")).lower()
        return msgspec.structs.replace(
            facts,
            # The header has whole seconds, cut off, so half a one is missing on average.
            clock_offset_seconds=None if date is None else (date - now).total_seconds() + 0.5,
            read_own=read,
            read_absent=absent,
            version=None if version == "null" else version,
            lock_mode=mode if mode in _MODES else None,
            lock_seconds=(until - stored).total_seconds() if until and stored else None,
            encryption=head.get("ServerSideEncryption"),
        )

    async def writing(self, facts: S3Facts) -> S3Facts:
        """Try to write over the doctor's object, and where another service would write."""
        overwrite, _ = await self._try("put_object", Key=self._key(self._probe), Body=BODY, ContentMD5=_WRONG_MD5)
        replaced = overwrite.allowed
        if _is_digest(overwrite):
            overwrite = Tried(Outcome.ALLOWED, "only a wrong checksum stopped it")
        own = self._key(f"{self._probe.rpartition('/')[0]}/1970-01-02")
        compared, _ = await self._try("put_object", Key=own, Body=BODY, ContentMD5=_WRONG_MD5, IfNoneMatch="*")
        others = Tried(Outcome.UNCLEAR, "this server does not compare a body with its checksum, so trying would write")
        if _is_digest(compared):
            others = await self._write_others()
        return msgspec.structs.replace(
            facts, overwrite=overwrite, replaced=replaced, digest_checked=_is_digest(compared), write_others=others
        )

    async def _write_others(self) -> Tried:
        namespace, service, _ = self._who
        tried = Tried(Outcome.UNCLEAR)
        for key in (f"trails/{namespace}/{service}-other/doctor", f"records/namespace={namespace}/service={service}-other/doctor"):
            tried, _ = await self._try("put_object", Key=self._key(key), Body=BODY, ContentMD5=_WRONG_MD5, IfNoneMatch="*")
            if tried.allowed or _is_digest(tried):
                return Tried(Outcome.ALLOWED, key)
            if not tried.refused:
                break
        return tried

    async def reading(self, facts: S3Facts) -> S3Facts:
        """Try to list the store, and to read what another service stored."""
        listed, _ = await self._try("list_objects_v2", MaxKeys=1, **({"Prefix": self._prefix} if self._prefix else {}))
        others = Tried(Outcome.UNCLEAR, "without the right to list, no object of another service is known by name")
        if listed.allowed:
            foreign = await self._foreign_key()
            others = Tried(Outcome.UNCLEAR, "no other service has anything here")
            if foreign is not None:
                others, _ = await self._try("head_object", Key=foreign)
                others = Tried(others.outcome, foreign) if others.allowed else others
        return msgspec.structs.replace(facts, list_all=listed, read_others=others)

    async def _foreign_key(self) -> str | None:
        """Return the whole key of an object of another service, or None."""
        own = f"{self._prefix}trails/{self._who[0]}/{self._who[1]}/"
        for namespace in (await self._folders(f"{self._prefix}trails/"))[:_MAX_NAMESPACES]:
            for service in await self._folders(namespace):
                if service != own:
                    _, answer = await self._try("list_objects_v2", MaxKeys=1, Prefix=service)
                    for found in answer.get("Contents", []):
                        return str(found["Key"])
        return None

    async def _folders(self, prefix: str) -> list[str]:
        _, answer = await self._try("list_objects_v2", Prefix=prefix, Delimiter="/")
        return [str(found["Prefix"]) for found in answer.get("CommonPrefixes", [])]

    async def retention(self, facts: S3Facts) -> S3Facts:
        """Try to set the retention of the doctor's object to what it is, and to less."""
        key = self._key(self._probe)
        _, answer = await self._try("head_object", Key=key)
        until: datetime | None = answer.get("ObjectLockRetainUntilDate")
        if facts.lock_mode is None or facts.version is None or until is None:
            why = Tried(Outcome.UNCLEAR, "the new object shows no retention that could be shortened")
            return msgspec.structs.replace(facts, set_retention=why, shorten=why)
        now = self._clock.now()
        same = {"Mode": facts.lock_mode.upper(), "RetainUntilDate": until}
        less = {"Mode": facts.lock_mode.upper(), "RetainUntilDate": now + (until - now) / 2}
        object_ = {"Key": key, "VersionId": facts.version}
        kept, _ = await self._try("put_object_retention", **object_, Retention=same)
        shortened, _ = await self._try("put_object_retention", **object_, Retention=less, BypassGovernanceRetention=True)
        left = False
        if shortened.allowed:
            restored, _ = await self._try("put_object_retention", **object_, Retention=same)
            left = not restored.allowed
        return msgspec.structs.replace(facts, set_retention=kept, shorten=shortened, shortened_left=left)

    async def deleting(self, facts: S3Facts) -> S3Facts:
        """Try to delete the doctor's object: its version, then by a delete marker, which is removed again."""
        key = self._key(self._probe)
        version = Tried(Outcome.UNCLEAR, "the new object has no version")
        if facts.version is not None:
            version, _ = await self._try("delete_object", Key=key, VersionId=facts.version)
        deleted, answer = await self._try("delete_object", Key=key, IfMatch=_NO_SUCH_ETAG)
        if deleted.outcome is Outcome.UNCLEAR and deleted.said[:3] in ("400", "501"):
            # The server does not know the condition, and says so.
            deleted, answer = await self._try("delete_object", Key=key)
        left = False
        if deleted.said.startswith("412"):
            deleted = Tried(Outcome.ALLOWED, "only a condition stopped it")
        elif answer.get("DeleteMarker") and answer.get("VersionId"):
            removed, _ = await self._try("delete_object", Key=key, VersionId=answer["VersionId"])
            left = not removed.allowed
        return msgspec.structs.replace(facts, delete_version=version, delete=deleted, marker_left=left)

    async def settings(self, facts: S3Facts) -> S3Facts:
        """Read the bucket's settings, and try to write them as they are."""
        versioning, answer = await self._try("get_bucket_versioning")
        status = str(answer.get("Status", "off"))
        if versioning.allowed:
            versioning = Tried(Outcome.ALLOWED, status)
        change = Tried(Outcome.UNCLEAR, "versioning is not on, so switching it on would change something")
        if facts.version is not None and (not versioning.allowed or status == "Enabled"):
            change, _ = await self._try("put_bucket_versioning", VersioningConfiguration={"Status": "Enabled"})
        encrypted, answer = await self._try("get_bucket_encryption")
        rules = answer.get("ServerSideEncryptionConfiguration", {}).get("Rules", [])
        names = [str(rule.get("ApplyServerSideEncryptionByDefault", {}).get("SSEAlgorithm", "")) for rule in rules]
        if encrypted.allowed:
            encrypted = Tried(Outcome.ALLOWED if any(names) else Outcome.ABSENT, ", ".join(filter(None, names)))
        policy, _ = await self._try("get_bucket_policy")
        facts = msgspec.structs.replace(
            facts, versioning=versioning, change_versioning=change, bucket_encryption=encrypted, read_policy=policy
        )
        return await self._lifecycle(await self._lock_settings(facts))

    async def _lock_settings(self, facts: S3Facts) -> S3Facts:
        read, answer = await self._try("get_object_lock_configuration")
        found = answer.get("ObjectLockConfiguration", {})
        if read.allowed and found.get("ObjectLockEnabled") != "Enabled":
            read = Tried(Outcome.ABSENT, "Object Lock is off")
        change = Tried(Outcome.UNCLEAR, "the lock's settings cannot be read, so they cannot be put back as they are")
        if read.allowed:
            change, _ = await self._try("put_object_lock_configuration", ObjectLockConfiguration=found)
        rule = found.get("Rule", {}).get("DefaultRetention", {})
        mode, days = str(rule.get("Mode", "")).lower(), rule.get("Days") or 365 * rule.get("Years", 0)
        return msgspec.structs.replace(
            facts,
            lock=read,
            change_lock=change,
            default_mode=mode if mode in _MODES else None,
            default_seconds=float(days * DAY_SECONDS) if days else None,
        )

    async def _lifecycle(self, facts: S3Facts) -> S3Facts:
        read, answer = await self._try("get_bucket_lifecycle_configuration")
        rules: list[dict[str, Any]] = answer.get("Rules", [])
        if read.allowed and not rules:
            read = Tried(Outcome.ABSENT, "it has no rules")
        expiring = tuple(
            str(rule.get("ID") or "unnamed")
            for rule in rules
            if rule.get("Status") == "Enabled" and {"Expiration", "NoncurrentVersionExpiration"} & rule.keys()
        )
        none = read.outcome is Outcome.ABSENT
        why = (
            "there is no rule that could be put back as it is"
            if none
            else "the rules cannot be read, so they cannot be put back as they are"
        )
        change = Tried(Outcome.UNCLEAR, why)
        if read.allowed:
            size = answer.get("TransitionDefaultMinimumObjectSize")
            kept = {} if size is None else {"TransitionDefaultMinimumObjectSize": size}
            change, _ = await self._try("put_bucket_lifecycle_configuration", LifecycleConfiguration={"Rules": rules}, **kept)
        return msgspec.structs.replace(facts, lifecycle=read, expiring=expiring, change_lifecycle=change)


def _is_digest(tried: Tried) -> bool:
    """Tell whether a server found that a body does not fit its checksum, which it looks at only for who may write."""
    return tried.said.startswith("400") and "BadDigest" in tried.said


async def ask_s3(
    settings: StoreSettings,
    access: Access,
    who: tuple[str, str, str],
    probe: str,
    clock: Clock,
    examined: Examined,
    progress: Callable[[str], None],
) -> S3Facts:
    """Ask a bucket everything.

    Args:
        settings: The store's settings.
        access: How it is reached.
        who: Namespace, service and instance.
        probe: The key for the doctor's object.
        clock: Tells the time.
        examined: What the agent itself found.
        progress: Is told what is being asked.

    Raises:
        ConfigError: The extra is not installed, or the credentials' files cannot be used.
    """
    async with s3_client(access, attempts=ATTEMPTS) as client:
        asking = S3Asking(client, settings, who, probe, clock)
        progress("a new object")
        facts = await asking.create(examined)
        if not facts.create.allowed:
            return facts
        steps: tuple[tuple[str, Callable[[S3Facts], Awaitable[S3Facts]]], ...] = (
            ("the bucket's settings", asking.settings),
            ("writing", asking.writing),
            ("reading", asking.reading),
            ("retention", asking.retention),
            # Last, because the object may then be gone.
            ("deleting", asking.deleting),
        )
        for step, ask in steps:
            progress(step)
            facts = await ask(facts)
        return facts
