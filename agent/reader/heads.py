"""Ask an S3 store for the headers of one version after another, quickly.

Amazon's library takes 3.5 ms of processor time for such a request, three quarters of it on what these have all in common; so it only
signs (SigV4, valid for some minutes), and a plain HTTP client asks. What passes by itself is tried again.

Invariants: every answer is returned, whatever its status, but for those that say "later", which in the end are an error.
"""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import tenacity
from yarl import URL

from ..errors import NotVerifiedError, TransientError
from ..stores.bucket.look import Facts, read_facts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ..stores.bucket import Access

SIGNED_SECONDS: Final = 900
REQUEST_SECONDS: Final = 25.0
TRIES: Final = 5
_LATER: Final = frozenset({408, 425, 429})


class Heads:
    """Asks for headers; made by `open_heads`."""

    def __init__(self, client: Any, session: aiohttp.ClientSession, bucket: str) -> None:
        """Use a client for signing and a session for asking."""
        self._client, self._session, self._bucket = client, session, bucket

    async def look(self, key: str, version: str) -> Facts:
        """Return what the store says of a version.

        Args:
            key: The whole key, with the bucket's prefix.
            version: The version's id.

        Raises:
            NotVerifiedError: There was no answer, or none that lasts, in several tries.
        """
        try:
            # Nearly always enough, and what is prepared for more tries costs a tenth of a request.
            return await self._once(key, version)
        except TransientError:
            pass
        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(TRIES - 1),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=5.0),
            retry=tenacity.retry_if_exception_type(TransientError),
            reraise=True,
        )
        try:
            facts: Facts = await retrying(self._once, key, version)
        except TransientError as error:
            raise NotVerifiedError(error.message) from error
        return facts

    async def _once(self, key: str, version: str) -> Facts:
        which = {"Bucket": self._bucket, "Key": key, "VersionId": version}
        url = await self._client.generate_presigned_url("head_object", Params=which, ExpiresIn=SIGNED_SECONDS)
        try:
            async with self._session.head(URL(url, encoded=True), allow_redirects=False) as answer:
                facts = read_facts(answer.status, {name.lower(): value for name, value in answer.headers.items()})
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            why = "no answer in time" if isinstance(error, TimeoutError) else str(error).partition("\n")[0] or type(error).__name__
            raise TransientError(f"cannot look at {key}: {why}") from error
        if facts.status >= 500 or facts.status in _LATER:
            raise TransientError(f"cannot look at {key}: HTTP {facts.status}")
        return facts


@asynccontextmanager
async def open_heads(client: Any, access: Access, at_once: int) -> AsyncIterator[Heads]:
    """Yield what asks for headers.

    Args:
        client: Amazon's client, which signs.
        access: How the bucket is reached.
        at_once: How many connections there may be.
    """
    # Left to itself, the library signs URLs in the old way, which newer buckets refuse.
    client.meta.events.register_first("choose-signer.s3.HeadObject", _choose_signer)
    context = ssl.create_default_context()
    if access.ca_file is not None:
        context.load_verify_locations(cafile=access.ca_file)
    timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
    connector = aiohttp.TCPConnector(ssl=context, limit=at_once)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector, trust_env=True) as session:
        yield Heads(client, session, access.address.bucket)


def _choose_signer(**_: Any) -> str:
    return "s3v4"
