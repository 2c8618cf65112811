"""Ask a bucket of Google or Azure what can be asked of any cloud's: through the library that ships, with the agent's credentials.

Invariants: as in the package. Overwriting and deleting are tried on the doctor's object itself, in this order and last: these clouds
have no request that shows the right without using it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ..stores.bucket.words import read_answer
from .facts import BucketFacts, Examined, Outcome, Tried
from .s3 import BODY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_REFUSED: Final = frozenset({401, 403, 405, 409})


async def ask_bucket(store: Any, probe: str, examined: Examined, progress: Callable[[str], None]) -> BucketFacts:
    """Ask a bucket what can be asked of any.

    Args:
        store: obstore's store for the bucket.
        probe: The key for the doctor's object.
        examined: What the agent itself found.
        progress: Is told what is being asked.
    """
    import obstore  # noqa: PLC0415  as in agent/stores/bucket/access.py

    folder = probe.rpartition("/")[0]
    progress("a new object")
    created = await _try(lambda: obstore.put_async(store, probe, BODY, mode="create", use_multipart=False))
    exclusive = None if examined.standing is None else examined.standing.exclusive
    if created.outcome is Outcome.ABSENT:
        created = Tried(Outcome.ALLOWED, "it was there already")
    if not created.allowed:
        return BucketFacts(examined=examined, probe=probe, create=created, exclusive=exclusive)
    if exclusive is None:
        again = await _try(lambda: obstore.put_async(store, probe, BODY, mode="create", use_multipart=False))
        exclusive = True if again.outcome is Outcome.ABSENT else False if again.allowed else None
    progress("reading")
    read = await _try(lambda: obstore.head_async(store, probe))
    absent = await _try(lambda: obstore.head_async(store, f"{folder}/1970-01-01"))
    listed = await _try(lambda: _list_one(store))
    progress("writing and deleting")
    overwritten = await _try(lambda: obstore.put_async(store, probe, BODY, mode="overwrite", use_multipart=False))
    deleted = await _try(lambda: obstore.delete_async(store, probe))
    return BucketFacts(
        examined=examined,
        probe=probe,
        create=created,
        exclusive=exclusive,
        read_own=read,
        read_absent=absent,
        overwrite=overwritten,
        delete=deleted,
        list_all=listed,
    )


async def _list_one(store: Any) -> None:
    import obstore  # noqa: PLC0415  as in agent/stores/bucket/access.py

    async for _ in obstore.list(store, chunk_size=1):
        return


async def _try(request: Callable[[], Awaitable[object]]) -> Tried:
    """Do one request; return what came of it. `ABSENT` also means that a condition did not hold."""
    from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError  # noqa: PLC0415  as in agent/stores/bucket/access.py

    try:
        await request()
    except (AlreadyExistsError, PreconditionError, FileNotFoundError) as error:
        answer = read_answer(error)
        # Azure says of what its immutability policy protects that it conflicts.
        return Tried(Outcome.REFUSED if "mmutab" in answer.words or "mmutab" in answer.code else Outcome.ABSENT, answer.words)
    except (BaseError, OSError, ValueError) as error:
        answer = read_answer(error)
        return Tried(Outcome.REFUSED if answer.status in _REFUSED else Outcome.UNCLEAR, answer.words)
    return Tried(Outcome.ALLOWED)
