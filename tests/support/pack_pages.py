"""Pages of packs for a browser, what somebody with an editor may do to them, and browsers that are not what they should be.

This module must not judge what a page says.
"""

from __future__ import annotations

import json
import re
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final
from zipfile import ZipFile

from agent.reader.ask.filters import Filter
from agent.reader.evidence.pack import write_pack
from agent.reader.evidence.selecting import Question
from agent.reader.fetch import MemoryReader
from agent.reader.index import open_index, refresh
from agent.reader.trustfile import TrustFile
from agent.trail.manifest import ManifestReason, Window
from agent.trail.note import SigningKey
from agent.trail.records import event_bodies
from tests.support.trail_factory import TrailFactory, sample_trail, stamp

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.browser import Visit

    Data = dict[str, Any]

ENROLMENT: Final = SigningKey.from_seed("acme-enrolment", sha256(b"enrolment").digest())
_DATA: Final = re.compile(r'(<script type="application/json" id="data">)(.*?)(</script>)', re.DOTALL)
INJECTIONS: Final = (
    "</script><script>globalThis.ran = 1</script>",
    '</script><img src="x" onerror="globalThis.ran = 1">',
    "<img src=x onerror=globalThis.ran=1>",
    "<!--<script>globalThis.ran=1</script>",
    "javascript:globalThis.ran=1",
    "\u2028\u2029\u202e\u0007${globalThis.ran=1}",
)
NO_ED25519: Final = """
const keep = crypto.subtle.importKey.bind(crypto.subtle);
crypto.subtle.importKey = (format, key, algorithm, ...rest) =>
  (algorithm.name ?? algorithm) === 'Ed25519'
    ? Promise.reject(new DOMException('no', 'NotSupportedError')) : keep(format, key, algorithm, ...rest);
"""


def write_page(folder: Path, *trails: TrailFactory, trust: str | None = None) -> Path:
    """Pack trails, and return the path of the page; their own keys are trusted unless told otherwise."""
    text = trust or "".join(trail.trust_line for trail in trails)
    objects: dict[str, bytes] = {}
    for trail in trails:
        objects |= trail.objects
    now = max(trail.now for trail in trails) + timedelta(seconds=1)
    believed = TrustFile.parse(text, "trust")
    store = MemoryReader(objects)
    refresh(store, folder / "index", trust=believed, now=now)
    with open_index(folder / "index") as index:
        write_pack(folder / "out.zip", index, store, Question(Filter()), trust=believed, now=now)
    with ZipFile(folder / "out.zip") as pack:
        pack.extract("index.html", folder)
    return folder / "index.html"


def changed(page: Path, change: Callable[[Data], None]) -> Path:
    """Write the page with other data beside it, as somebody with an editor would, and return its path."""
    text = page.read_text("utf-8")
    data = json.loads(_DATA.findall(text)[0][1])
    change(data)
    name = f"forged-{sha256(repr(data).encode()).hexdigest()[:12]}.html"
    return with_data(page, name, json.dumps(data).replace("<", "\\u003c"))


def with_data(page: Path, name: str, data: str) -> Path:
    """Write the page under another name and with other data in it, as it stands, and return its path."""
    forged = page.with_name(name)
    forged.write_text(_DATA.sub(lambda found: found[1] + data + found[3], page.read_text("utf-8")), "utf-8")
    return forged


def opened(visit: Visit) -> Visit:
    visit.page.locator("body[data-state=done]").wait_for()
    return visit


def rows_of(visit: Visit) -> Any:
    return visit.page.locator("#events tbody tr")


def verdict(visit: Visit) -> str:
    return visit.page.locator("#verdict").inner_text()


def another_byte_of_an_event(data: Data) -> None:
    data["records"][3]["leaf"] = data["records"][3]["leaf"].replace('"outcome":"', '"outcome":"X', 1)


def another_hash_of_a_proof(data: Data) -> None:
    proof = data["records"][3]["proof"]
    proof[1] = ("B" if proof[1][0] != "B" else "C") + proof[1][1:]


def a_hash_too_few(data: Data) -> None:
    data["records"][3]["proof"].pop()


def a_hash_too_many(data: Data) -> None:
    data["records"][3]["proof"] += [data["records"][3]["proof"][0]] * 40


def another_number(data: Data) -> None:
    data["records"][3]["seq"] += 1


def another_signature(data: Data) -> None:
    head, _, tail = data["trails"][0]["note"].rpartition(" ")
    data["trails"][0]["note"] = f"{head} {tail[:30]}{'B' if tail[30] != 'B' else 'C'}{tail[31:]}"


def another_root(data: Data) -> None:
    origin, size, root, *rest = data["trails"][0]["note"].split("\n")
    data["trails"][0]["note"] = "\n".join([origin, size, ("B" if root[0] != "B" else "C") + root[1:], *rest])


def another_size(data: Data) -> None:
    origin, size, *rest = data["trails"][0]["note"].split("\n")
    data["trails"][0]["note"] = "\n".join([origin, str(int(size) + 1), *rest])


def the_key_of_a_thief(data: Data) -> None:
    data["trails"][0]["key"] = sample_trail(seed=b"other", service="console", signer_seed=b"thief").vkey


def the_seals_of_another_trail(data: Data) -> None:
    first, second = data["trails"]
    first["note"], first["opening"], first["key"] = second["note"], second["opening"], second["key"]


def an_opening_with_another_key(data: Data) -> None:
    trail = data["trails"][0]
    thief = sample_trail(seed=b"other", service="console", signer_seed=b"thief").vkey
    trail["opening"] = trail["opening"].replace(trail["key"], thief)


def with_injections() -> TrailFactory:
    trail = TrailFactory()
    at = stamp(trail.now)
    lines = [
        json.dumps(
            {
                "stream": "audit",
                "event_id": f"{number} {text}",
                "occurred_at": at,
                "actor": {"type": text, "id": text, "session": text},
                "action": "data.read",
                "target": {"type": text, "id": text},
                "outcome": "success",
                "context": {"note": text, text: {text: [text]}},
            }
        ).encode()
        for number, text in enumerate(INJECTIONS)
    ]
    window = Window(at, at, at, at)
    trail.seal(
        ManifestReason.AGE, after_seconds=1, bodies=event_bodies("app", at, lines, None), counts={"events": len(lines)}, window=window
    )
    trail.stop()
    return trail
