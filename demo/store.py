"""A look into a directory store with nothing but JSON, zstd and SHA-256, and the ways somebody could tamper with a copy of one.

It reads the files as docs/trail-format.md describes them, on purpose without the package `agent`: what the demo says about a
trail is then not said by the program that wrote it.

Invariants: only a copy is ever changed; every forgery changes bytes that a seal or a successor vouches for.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import zstandard

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Seal:
    """Hold a seal object as it is stored.

    Attributes:
        path: Its file.
        content: Its bytes.
        manifest: Its first line, decoded.
    """

    path: Path
    content: bytes
    manifest: dict[str, Any]

    @property
    def sha256(self) -> str:
        """The hash by which the next seal names this one."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def sealed_at(self) -> datetime:
        """When the batch was cut, by the agent's clock."""
        return datetime.fromisoformat(self.manifest["sealed_at"])


def seals(store: Path) -> list[Seal]:
    """Return the seals of a store's only trail, in order."""
    found = []
    for path in sorted((store / "trails").glob("*/*/*/*/*.seal")):
        content = path.read_bytes()
        found.append(Seal(path, content, json.loads(content.partition(b"\n")[0])))
    return found


def chain_holds(trail: list[Seal]) -> bool:
    """Tell whether every seal names the SHA-256 of the one before it."""
    return [seal.manifest["previous"] for seal in trail] == [None, *(seal.sha256 for seal in trail[:-1])]


def records(store: Path, seal: Seal) -> list[dict[str, Any]]:
    """Return the records of one batch."""
    data = seal.manifest["data"]
    return [] if data is None else [json.loads(line) for line in _unpack((store / data["key"]).read_bytes()).splitlines()]


def all_records(store: Path) -> list[dict[str, Any]]:
    """Return the records of all batches, in order."""
    return [record for seal in seals(store) for record in records(store, seal)]


def _unpack(content: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(content, max_output_size=1 << 26)


def copy(store: Path, target: Path) -> Path:
    """Copy a store; objects are read-only there, and the copy's are not."""
    shutil.copytree(store, target, copy_function=shutil.copyfile)
    return target


def find_denial(store: Path) -> tuple[Seal, int]:
    """Return the seal of the batch with the first role grant that was denied, and that record's seq."""
    for seal in seals(store):
        for record in records(store, seal):
            event = record.get("event", {})
            if (event.get("action"), event.get("outcome")) == ("role.grant", "denied"):
                return seal, record["seq"]
    raise LookupError("no role grant was denied")


def rewrite_outcome(store: Path) -> tuple[int, int]:
    """Turn the first denied role grant into one that succeeded, in its data object.

    Returns:
        The batch and the seq of the record that was changed.
    """
    seal, seq = find_denial(store)
    path = store / seal.manifest["data"]["key"]
    lines = _unpack(path.read_bytes()).splitlines(keepends=True)
    position = seq - seal.manifest["records"]["first_seq"]
    lines[position] = lines[position].replace(b'"denied"', b'"success"')
    path.write_bytes(zstandard.ZstdCompressor(level=3, write_checksum=True).compress(b"".join(lines)))
    return seal.manifest["batch"], seq


def rewrite_outcome_and_manifest(store: Path) -> tuple[int, int]:
    """Do the same, and make the batch's manifest agree: size, SHA-256 and key of the data object.

    Returns:
        The batch and the seq of the record that was changed.
    """
    batch, seq = rewrite_outcome(store)
    seal = seals(store)[batch]
    data = seal.manifest["data"]
    old = store / data["key"]
    content = old.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    key = data["key"].replace(data["sha256"][:16], digest[:16])
    old.rename(store / key)
    changed = data | {"key": key, "bytes": len(content), "sha256": digest, "raw_bytes": len(_unpack(content))}
    manifest = json.dumps(seal.manifest | {"data": changed}, separators=(",", ":"), ensure_ascii=False).encode()
    seal.path.write_bytes(manifest + b"\n" + seal.content.partition(b"\n")[2])
    return batch, seq


def remove_batch(store: Path) -> int:
    """Remove the batch with the first denied role grant, seal and data, as if it had never been.

    Returns:
        The batch.
    """
    seal, _ = find_denial(store)
    (store / seal.manifest["data"]["key"]).unlink()
    seal.path.unlink()
    return int(seal.manifest["batch"])


def cut_off_end(store: Path) -> Seal:
    """Remove the newest batches back to one that holds records and is not the trail's orderly end.

    Returns:
        The seal that is the head now.
    """
    trail = seals(store)
    for seal in reversed(trail[2:]):
        if seal.manifest["data"] is not None:
            (store / seal.manifest["data"]["key"]).unlink()
        seal.path.unlink()
        trail.pop()
        if seal.manifest["reason"] == "age":
            break
    return trail[-1]
