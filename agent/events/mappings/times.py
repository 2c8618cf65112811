"""Read times in the formats that logs have, and write them in the one that an event has: RFC 3339 in UTC.

Invariants: a time that cannot be read is None and never a guess; what has no year gets the year that brings it closest before the
moment it was read. Locale does not matter: month names are English. Pure.
"""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .place import Place

_READY: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z", re.ASCII)
_RFC3339: Final = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)[Tt ](?P<time>\d\d:\d\d:\d\d)(?:[.,](?P<decimals>\d{1,9})\d*)?\s?"
    r"(?P<zone>[Zz]|UTC|GMT|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII,
)
_SYSLOG: Final = re.compile(
    r"(?P<month>[A-Z][a-z]{2}) {1,2}(?P<day>\d{1,2}) (?P<time>\d\d:\d\d:\d\d)(?:\.(?P<decimals>\d{1,9}))?", re.ASCII
)
_OFFSET: Final = re.compile(r"(?P<sign>[+-])(?P<hours>\d\d):?(?P<minutes>\d\d)?", re.ASCII)
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS: Final = {"epoch_seconds": 1_000_000, "epoch_milliseconds": 1_000, "epoch_microseconds": 1}
_ZONE_NAMES: Final = {"UTC": "+00:00", "GMT": "+00:00", "Z": "+00:00"}
_ZONE_AT_END: Final = re.compile(r"(?P<rest>.*\S)\s+(?P<name>[A-Z][A-Za-z]{0,4}|[+-]\d\d)", re.DOTALL)
_MAX_CHARS: Final = 64
FORMATS: Final = ("rfc3339", *_UNITS, "syslog")


def write_utc(moment: datetime) -> str:
    """Return a moment as RFC 3339 in UTC, with microseconds if it has some."""
    text = moment.astimezone(UTC).isoformat(timespec="microseconds" if moment.microsecond else "seconds")
    return text.removesuffix("+00:00") + "Z"


def parse_zone(name: str, place: Place) -> tzinfo:
    """Return a time zone.

    Args:
        name: ``UTC``, an offset such as ``+02:00``, or a name of the IANA time zone database.
        place: Where it stands, for the message.

    Raises:
        ConfigError: There is no such zone, or this machine does not know it.
    """
    zone = zone_of(name)
    if zone is None:
        raise place.error(f"{name!r} is no time zone that is known here", "UTC, an offset such as +02:00, or a name such as Europe/Berlin.")
    return zone


def zone_of(name: str) -> tzinfo | None:
    """Return a time zone by name or offset; None if it is not known."""
    # A line may name the zone: nothing long is looked up, or remembered.
    return _known_zone(name) if len(name) <= _MAX_CHARS else None


@functools.lru_cache(maxsize=64)
def _known_zone(name: str) -> tzinfo | None:
    offset = _OFFSET.fullmatch(_ZONE_NAMES.get(name, name))
    if offset is not None:
        minutes = int(offset["hours"]) * 60 + int(offset["minutes"] or 0)
        if minutes >= 24 * 60:
            return None
        return timezone(timedelta(minutes=-minutes if offset["sign"] == "-" else minutes))
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        return None


class TimeReader:
    """Read times of some formats."""

    def __init__(self, formats: Sequence[str], zone: tzinfo, zones: dict[str, tzinfo], place: Place) -> None:
        """Prepare the formats, the first that fits counts.

        Args:
            formats: Of `FORMATS`, or patterns as for strptime(3).
            zone: What a time without a zone is in.
            zones: Zones by the abbreviations that stand in the text.
            place: Where they stand, for the message.

        Raises:
            ConfigError: One is neither known nor a pattern.
        """
        for name in formats:
            if name not in FORMATS and "%" not in name:
                raise place.error(
                    f"{name!r} is no format of a time", f"One of {', '.join(FORMATS)}, or a pattern such as %Y-%m-%d %H:%M:%S."
                )
        self._zone = zone
        self._zones = zones
        self._readers: list[Callable[[Any, datetime, tzinfo], str | None]] = [self._reader(name) for name in formats]
        # Lines that follow each other have the same second more often than not.
        self._parse = functools.lru_cache(maxsize=512)(self._parse_pattern)

    def read(self, value: Any, observed_at: datetime, zone: tzinfo | None = None) -> str | None:
        """Return a time as RFC 3339 in UTC; None if it is in none of the formats.

        Args:
            value: What the line says.
            observed_at: When the line was read; gives the year where there is none.
            zone: What a time without a zone is in, if not what was configured.
        """
        if isinstance(value, str) and len(value) > _MAX_CHARS:
            # No time is so long, and what is read is remembered.
            return None
        for reader in self._readers:
            try:
                found = reader(value, observed_at, zone or self._zone)
            except (ValueError, OverflowError):
                found = None
            if found is not None:
                return found
        return None

    def _reader(self, name: str) -> Callable[[Any, datetime, tzinfo], str | None]:
        if name == "rfc3339":
            return _read_rfc3339
        if name == "syslog":
            return _read_syslog
        if name in _UNITS:
            unit = _UNITS[name]
            return lambda value, _, __: _read_epoch(value, unit)
        return lambda value, observed_at, zone: self._parse(value, name, observed_at.year, zone) if isinstance(value, str) else None

    def _parse_pattern(self, text: str, pattern: str, year: int, zone: tzinfo) -> str | None:
        if pattern.endswith("%Z"):
            named = _ZONE_AT_END.fullmatch(text)
            if named is None:
                return None
            given = self._zones.get(named["name"]) or zone_of(named["name"])
            if given is None:
                return None
            text, pattern, zone = named["rest"], pattern.removesuffix("%Z").rstrip(), given
        if not any(part in pattern for part in ("%Y", "%y", "%c")):
            text, pattern = f"{year} {text}", f"%Y {pattern}"
        moment = datetime.strptime(text, pattern)  # noqa: DTZ007 -- the zone is put in below where the pattern has none
        return write_utc(moment if moment.tzinfo else moment.replace(tzinfo=zone))


def _read_rfc3339(value: Any, _: datetime, zone: tzinfo) -> str | None:
    if not isinstance(value, str):
        return None
    if _READY.fullmatch(value):
        return value
    found = _RFC3339.fullmatch(value)
    if found is None:
        return None
    decimals = found["decimals"] or ""
    given = zone if found["zone"] is None else zone_of(found["zone"].upper())
    if given is None:
        return None
    # The decimals are carried over as they are: a zone is whole minutes, and more than six fit into no datetime.
    return f"{_second(found['date'], found['time'], given)}{'.' + decimals if decimals else ''}Z"


@functools.lru_cache(maxsize=512)
def _second(date: str, time: str, zone: tzinfo) -> str:
    """Return a second in UTC; lines that follow each other have the same one more often than not."""
    moment = datetime.fromisoformat(f"{date}T{time}").replace(tzinfo=zone).astimezone(UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}"


def _read_syslog(value: Any, observed_at: datetime, zone: tzinfo) -> str | None:
    return _syslog_time(value, observed_at, zone) if isinstance(value, str) else None


@functools.lru_cache(maxsize=512)
def _syslog_time(value: str, observed_at: datetime, zone: tzinfo) -> str | None:
    found = _SYSLOG.fullmatch(value)
    if found is None or found["month"] not in _MONTHS:
        return None
    month = _MONTHS.index(found["month"]) + 1
    decimals = (found["decimals"] or "").ljust(6, "0")[:6]
    latest = observed_at + timedelta(days=1)
    for year in range(observed_at.year + 1, observed_at.year - 9, -1):
        try:
            moment = datetime.fromisoformat(f"{year:04}-{month:02}-{int(found['day']):02}T{found['time']}.{decimals}").replace(tzinfo=zone)
        except ValueError:
            # The 29th of February of another year.
            continue
        if moment <= latest:
            return write_utc(moment)
    return None


def _read_epoch(value: Any, unit: int) -> str | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        whole, _, part = value.partition(".")
        if not whole.isdecimal() or (part and not part.isdecimal()):
            return None
        microseconds = int(whole[:20]) * unit + (int((part + "000000")[:6]) * unit // 1_000_000 if part else 0)
    elif isinstance(value, (int, float)):
        microseconds = round(value * unit)
    else:
        return None
    second, rest = divmod(microseconds, 1_000_000)
    return f"{_epoch_second(second)}.{rest:06}Z" if rest else f"{_epoch_second(second)}Z"


@functools.lru_cache(maxsize=512)
def _epoch_second(second: int) -> str:
    """Return a second in UTC; lines that follow each other have the same one more often than not."""
    return (_EPOCH + timedelta(seconds=second)).isoformat().removesuffix("+00:00")
