"""Where a trail's objects lie: origins, object keys, and the folding of foreign host names.

Invariants: a key is computed once, at the cut, from values that are in the seal; every key parses back to what it was
made of; keys of one trail sort in the order of the trail. This module must not open or list anything.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, NamedTuple, Self

from ..errors import ConfigError, FormatError
from .ulid import is_ulid

MAX_NAME_CHARACTERS: Final = 63
_FOLD_HASH_CHARACTERS: Final = 16
_NAME_PATTERN: Final = r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?"
_NAME: Final = re.compile(_NAME_PATTERN)
_FOREIGN: Final = re.compile(r"[^a-z0-9._-]+")
_SHA256_HEX: Final = re.compile(r"[0-9a-f]{64}")
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SEAL_KEY: Final = re.compile(r"trails/([^\n]+)/([0-9]{12})\.seal")
_DATA_KEY: Final = re.compile(
    rf"records/namespace=({_NAME_PATTERN})/service=({_NAME_PATTERN})/date=({_DAY.pattern})/"
    r"([0-9a-z]{26})-([0-9]{20})-([0-9a-f]{16})\.ndjson\.zst"
)
_PROBE_KEY: Final = re.compile(rf"probes/{_NAME_PATTERN}/{_NAME_PATTERN}/{_NAME_PATTERN}/{_DAY.pattern}(?:T[0-9]{{4}})?")
_MAX_BATCH: Final = 10**12 - 1
_MAX_SEQ: Final = 2**63 - 1
_ORIGIN_PARTS: Final = 4
_DIGEST_BYTES: Final = 32


def is_name(text: str) -> bool:
    """Tell whether the text may be a namespace, a service or an instance: ``[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?``."""
    return _NAME.fullmatch(text) is not None


def fold_name(raw: str) -> str:
    """Fold any host name into a name that an origin may contain.

    ASCII capitals become small letters and nothing else is done where that is enough: host names are the same name in
    either case (RFC 4343). Anything more would let two hosts share a name, so the result is then made of the readable
    part (each run of other characters becomes one ``-``, the ends are trimmed, at most 46 characters are kept) followed
    by ``-`` and the first 16 hex digits of the SHA-256 of the lower-cased name in UTF-8.

    The same input always gives the same name, and a folded name folds to itself.

    Raises:
        ConfigError: The name is empty.
    """
    if not raw:
        raise ConfigError("the instance's name is empty", hint="Set instance to a name that tells this host from all others.")
    lowered = raw.translate({capital: capital + 32 for capital in range(ord("A"), ord("Z") + 1)})
    if is_name(lowered):
        return lowered
    readable = _FOREIGN.sub("-", lowered).strip("._-")
    readable = readable[: MAX_NAME_CHARACTERS - 1 - _FOLD_HASH_CHARACTERS].rstrip("._-") or "host"
    return f"{readable}-{sha256(lowered.encode('utf-8', 'surrogatepass')).hexdigest()[:_FOLD_HASH_CHARACTERS]}"


@dataclass(frozen=True, slots=True)
class Origin:
    """The name of a trail: ``<namespace>/<service>/<epoch>/<instance>``.

    Attributes:
        namespace: The team, tenant or environment.
        service: The service the agent sits beside.
        epoch: The state directory's ULID, lower-case.
        instance: The host, pod or agent, folded by :func:`fold_name`.
    """

    namespace: str
    service: str
    epoch: str
    instance: str

    def __post_init__(self) -> None:
        """Refuse parts that an origin must not contain (FormatError)."""
        for part in (self.namespace, self.service, self.instance):
            if not is_name(part):
                raise FormatError(f"{part!r} cannot be part of an origin: only {_NAME_PATTERN.replace('?:', '')}")
        if not is_ulid(self.epoch):
            raise FormatError(f"the epoch {self.epoch!r} is not a lower-case ULID")

    def __str__(self) -> str:
        """Return the four parts joined by slashes."""
        return f"{self.namespace}/{self.service}/{self.epoch}/{self.instance}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what ``str`` returns.

        Raises:
            FormatError: There are not four allowed parts.
        """
        parts = text.split("/")
        if len(parts) != _ORIGIN_PARTS:
            raise FormatError(f"{text!r} is not an origin: namespace/service/epoch/instance")
        return cls(*parts)


class DataKey(NamedTuple):
    """What the key of a data object says; it does not name the instance, the manifest does.

    Attributes:
        namespace: As in the origin.
        service: As in the origin.
        day: The UTC day of the cut, ``YYYY-MM-DD``.
        epoch: The epoch's ULID.
        first_seq: The seq of the object's first record.
        sha256_start: The first 16 hex digits of the SHA-256 of the object's bytes.
    """

    namespace: str
    service: str
    day: str
    epoch: str
    first_seq: int
    sha256_start: str


def seal_key(origin: Origin, batch: int) -> str:
    """Return the key of a batch's seal, ``trails/<origin>/<batch, 12 digits>.seal``.

    Raises:
        FormatError: The batch's number is outside 0 … 10**12-1.
    """
    if not 0 <= batch <= _MAX_BATCH:
        raise FormatError(f"there is no seal key for batch {batch}")
    return f"trails/{origin}/{batch:012d}.seal"


def parse_seal_key(key: str) -> tuple[Origin, int]:
    """Return the origin and the batch number of a seal's key.

    Raises:
        FormatError: It is not the key of a seal.
    """
    found = _SEAL_KEY.fullmatch(key)
    if not found:
        raise FormatError(f"{key!r} is not the key of a seal")
    return Origin.parse(found[1]), int(found[2])


def data_key(origin: Origin, first_seq: int, day: str, digest: bytes | str) -> str:
    """Return the key of a batch's data object, inside a Hive-partitioned NDJSON data set.

    Args:
        origin: The trail.
        first_seq: The seq of the first record.
        day: The UTC day of the cut, ``YYYY-MM-DD``.
        digest: The SHA-256 of the object's bytes, 32 bytes or 64 lower-case hex digits.

    Raises:
        FormatError: An argument has another form.
    """
    digits = digest.hex() if isinstance(digest, bytes) else digest
    if not 0 <= first_seq <= _MAX_SEQ or not _is_day(day) or not _SHA256_HEX.fullmatch(digits):
        raise FormatError(f"there is no data key for seq {first_seq}, day {day!r}, SHA-256 {digits!r}")
    return (
        f"records/namespace={origin.namespace}/service={origin.service}/date={day}/{origin.epoch}-{first_seq:020d}-{digits[:16]}.ndjson.zst"
    )


def parse_data_key(key: str) -> DataKey:
    """Return what the key of a data object says.

    Raises:
        FormatError: It is not the key of a data object.
    """
    found = _DATA_KEY.fullmatch(key)
    if not found or not _is_day(found[3]) or not is_ulid(found[4]) or int(found[5]) > _MAX_SEQ:
        raise FormatError(f"{key!r} is not the key of a data object")
    return DataKey(found[1], found[2], found[3], found[4], int(found[5]), found[6])


def probe_key(namespace: str, service: str, instance: str, moment: str) -> str:
    """Return the key of a probe, with which an agent finds out what a store does: ``probes/<namespace>/<service>/<instance>/<moment>``.

    Args:
        namespace: As in the origin.
        service: As in the origin.
        instance: As in the origin.
        moment: When, ``YYYY-MM-DD`` or ``YYYY-MM-DDTHHMM``, in UTC.

    Raises:
        FormatError: An argument has another form.
    """
    key = f"probes/{namespace}/{service}/{instance}/{moment}"
    if not is_probe_key(key):
        raise FormatError(f"{key!r} is not the key of a probe")
    return key


def is_probe_key(key: str) -> bool:
    """Tell whether a key is that of a probe."""
    return _PROBE_KEY.fullmatch(key) is not None


def _is_day(text: str) -> bool:
    if not _DAY.fullmatch(text):
        return False
    try:
        dt.date.fromisoformat(text)
    except ValueError:
        return False
    return True
