"""Ask every store of a configuration, one after the other.

Invariants: a store that does not answer is a finding, and the next one is asked; only settings that cannot be used end the doctor.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import TransientError
from ..stores import BucketStore
from ..stores.bucket import Access, open_bucket
from ..trail.layout import probe_key
from .facts import Examined
from .findings import Report, StoreReport
from .folder import ask_folder, fix_of
from .folder_judge import judge_folder
from .generic import ask_bucket
from .generic_judge import judge_generic
from .s3 import ask_s3
from .s3_judge import judge_s3

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config import Settings
    from ..config import Store as StoreSettings
    from ..vitals.clock import Clock


async def examine_stores(settings: Settings, store_id: str | None, clock: Clock, progress: Callable[[str], None]) -> Report:
    """Return what every store is found to guarantee, and what the agent's credentials could do to it.

    Args:
        settings: The configuration.
        store_id: The only store to ask, or None for all.
        clock: Tells the time.
        progress: Is told what is being asked.

    Raises:
        ConfigError: There is no such store; or the extra that is needed is not installed; or credentials' files cannot be used.
    """
    chosen = [store for store in settings.stores if store_id in (None, store.id)]
    if not chosen:
        known = ", ".join(store.id for store in settings.stores)
        raise settings.error("stores", f"there is no store {store_id}", f"The configuration has: {known}.")
    who = (settings.namespace, settings.service, settings.instance)
    checked_at = clock.now()
    reports = [await _examine(store, who, Path(settings.state), clock, progress) for store in chosen]
    return Report(file=settings.file, checked_at=checked_at, stores=tuple(reports))


async def _examine(
    store: StoreSettings, who: tuple[str, str, str], state: Path, clock: Clock, progress: Callable[[str], None]
) -> StoreReport:
    now = clock.now()

    def tell(step: str) -> None:
        progress(f"{store.id}: {step}")

    if store.bucket is None:
        probe = probe_key(*who, f"{now:%Y-%m-%d}")
        tell("writing")
        folder = await ask_folder(store, probe, state)
        findings, left = judge_folder(folder, store.place), not folder.trouble
    else:
        # One a run and not one a day: an older one may be gone, hidden, or locked before the lock was changed.
        probe = probe_key(*who, f"{now:%Y-%m-%dT%H%M}")
        access = Access.of(store)
        tell("what the agent itself finds")
        examined = await _as_the_agent(BucketStore(store, who, clock))
        if store.bucket.provider == "s3":
            facts = await ask_s3(store, access, who, probe, clock, examined, tell)
            findings, left = judge_s3(facts, store, access.endpoint), facts.create.allowed and not facts.gone
        else:
            some = await ask_bucket(open_bucket(access), probe, examined, tell)
            findings, left = judge_generic(some, store, store.bucket.provider, access.endpoint), some.create.allowed and not some.gone
    return StoreReport(
        id=store.id,
        kind="directory" if store.bucket is None else store.bucket.provider,
        place=store.place,
        required=store.required,
        probe=probe if left else "",
        findings=findings,
    )


async def _as_the_agent(store: BucketStore) -> Examined:
    """Return what the agent finds when it looks at a bucket before it ships."""
    try:
        return Examined(standing=await store.examine())
    except TransientError as error:
        return Examined(standing=None, trouble=error.message, hint=fix_of(error))
    finally:
        await store.close()
