"""The store in a bucket; fulfils `agent.stores.base.Store`.

How an object comes to be: one PUT with ``If-None-Match: *`` (or what the cloud has for it), the SHA-256 of the body in the signed request,
never in parts. The server answers when the object is durable, by its own promise. Where the server is known to ignore the condition
(`examine`), the key is read first: then two writers may both create, and the verifier sees two versions.

Google and Azure check no SHA-256, so there what was written is read back and compared before it counts.

Invariants: the library repeats nothing; nothing is overwritten or deleted; an object that is larger than anything we write is read
only as far as is needed to see that it is another one.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from ...errors import ConfigError, RefusedError, TransientError
from ...trail.layout import probe_key
from .access import Access, file_states, open_bucket
from .examine import find_exclusive, judge, lock_headers
from .look import look
from .words import NO_KEY, read_answer, translate

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from ...config import Store as StoreSettings
    from ...vitals.clock import Clock
    from ...vitals.standing import Standing

PARALLEL: Final = 4
MAX_READ_BYTES: Final = 16 << 20
EXAMINED_SECONDS: Final = 3590.0
"""How long a store's standing is believed."""
AGAIN_SECONDS: Final = 60.0
"""How long an older standing serves when a newer one cannot be had just now."""


class BucketStore:
    """Store objects in a bucket."""

    def __init__(self, settings: StoreSettings, who: tuple[str, str, str], clock: Clock) -> None:
        """Describe a store; nothing is connected to.

        Args:
            settings: The store's settings; its kind is a bucket.
            who: Namespace, service and instance, for the probe's key.
            clock: Tells the time.

        Raises:
            ConfigError: The settings, the environment's or the credentials' files cannot be used.
        """
        self._settings = settings
        self._who = who
        self._clock = clock
        self._access = Access.of(settings)
        self._files = file_states(self._access)
        self._reading: Any = open_bucket(self._access)
        self._writing: Any = self._reading
        self._headers: dict[str, str] = {}
        self._standing: Standing | None = None
        self._believed_until = 0.0
        self._examining = asyncio.Lock()
        self._reads_back = self._access.address.provider != "s3"

    @property
    def id(self) -> str:
        """Return the store's id."""
        return self._settings.id

    @property
    def parallel(self) -> int:
        """Return how many requests hide each other's way to the store and back."""
        return PARALLEL

    async def examine(self) -> Standing:
        """Find out with a probe what the bucket guarantees; see Store.examine and agent/stores/bucket/examine.py."""
        async with self._examining:
            now = asyncio.get_running_loop().time()
            if self._standing is not None and now < self._believed_until:
                return self._standing
            try:
                self._standing, self._believed_until = await self._probe(), now + EXAMINED_SECONDS
            except RefusedError:
                self._standing = None
                raise
            except TransientError:
                # What passes by itself must not stop a store that works; if it does not work, creating will show it.
                if self._standing is None:
                    raise
                self._believed_until = now + AGAIN_SECONDS
            return self._standing

    async def _probe(self) -> Standing:
        now = self._clock.now()
        key = probe_key(*self._who, f"{now:%Y-%m-%dT%H}{now.minute // 10}0")
        try:
            exclusive = await find_exclusive(key, self._put, self.read)
        except RefusedError as error:
            if self._headers and "InvalidRequest" in error.message:
                hint = "Has the bucket Object Lock? It is switched on for a bucket, then each object can ask for its retention."
                raise RefusedError(
                    f"{self._settings.place} refuses an object with a retention of its own: {error.message}", hint=hint
                ) from error
            raise
        facts = await look(self._reading, self._access.address.provider, key, self._access.ca_file)
        return judge(facts, self._settings, exclusive=exclusive, now=self._clock.now())

    async def create(self, key: str, data: bytes) -> bool:
        """Create an object if there is none under the key; see Store.create."""
        standing = self._standing or await self.examine()
        if not standing.exclusive and await self._is_there(key):
            return False
        created = await self._put(key, data)
        if created and self._reads_back and await self.read(key) != data:
            message = f"{self._url(key)} was written and reads back as something else"
            raise TransientError(
                message, hint="Something between the agent and the store changes what it carries. It is tried again by itself."
            )
        return created

    async def _is_there(self, key: str) -> bool:
        """Look first, where the server does not keep create-if-absent."""
        try:
            return await self.read(key) is not None
        except RefusedError as error:
            hint = (
                "This server does not keep create-if-absent on this bucket, so the agent must see whether a key is there, and who may not "
                "list is told 'forbidden' of what is absent: give it s3:ListBucket. It is tried again by itself."
            )
            raise RefusedError(error.message, hint=hint) from error

    async def _put(self, key: str, data: bytes) -> bool:
        from obstore import put_async  # noqa: PLC0415  as in access.py
        from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError  # noqa: PLC0415  as in access.py

        try:
            await put_async(self._writer(self._clock.now()), key, data, mode="create", use_multipart=False)
        except (AlreadyExistsError, PreconditionError):
            return False
        except (BaseError, OSError, ValueError) as error:
            raise self._told("create", key, error) from error
        return True

    def _writer(self, now: datetime) -> Any:
        """Return the bucket with the headers that a new object needs today (TransientError if it cannot be opened anew)."""
        headers = lock_headers(self._settings, now)
        if headers != self._headers:
            self._writing, self._headers = self._open(headers), headers
        return self._writing

    def _open(self, headers: Mapping[str, str]) -> Any:
        try:
            return open_bucket(self._access, headers)
        except ConfigError as error:
            # It could be opened when the agent started, so what is missing now may come back.
            raise RefusedError(error.message, hint=error.hint) from error

    def _told(self, operation: str, key: str, error: BaseException) -> TransientError:
        """Translate an exception; after a refusal, credentials and certificates that have changed on disk are read again."""
        told = translate(operation, self._url(key), error)
        files = file_states(self._access)
        if isinstance(told, RefusedError) and files != self._files:
            self._reading = self._open({})
            self._writing, self._headers, self._files = self._reading, {}, files
        return told

    async def read(self, key: str) -> bytes | None:
        """Return an object's bytes, or None; see Store.read. Of one that is too large to be ours, only its beginning."""
        from obstore import get_async, get_range_async  # noqa: PLC0415  as in access.py
        from obstore.exceptions import BaseError  # noqa: PLC0415  as in access.py

        try:
            found = await get_async(self._reading, key)
            if found.meta["size"] > MAX_READ_BYTES:
                return bytes(await get_range_async(self._reading, key, start=0, end=MAX_READ_BYTES))
            return bytes(await found.bytes_async())
        except FileNotFoundError as error:
            answer = read_answer(error)
            if answer.code in NO_KEY or not answer.code:
                return None
            raise self._told("read", key, error) from error
        except (BaseError, OSError, ValueError) as error:
            raise self._told("read", key, error) from error

    def _url(self, key: str) -> str:
        return f"{self._settings.place}/{key}"

    async def close(self) -> None:
        """Do nothing: connections end with the process, or when they have been idle."""
