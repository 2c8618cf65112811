"""Packs taken apart and put together again, as an exporter or somebody on the way could."""

from __future__ import annotations

import zipfile
from hashlib import sha256

from agent.reader.findings import Severity


def contents(path):
    with zipfile.ZipFile(path) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def rewrite(path, files, *, honest_manifest=True):
    """Write a pack anew; with a manifest that fits, as a forger would."""
    if honest_manifest:
        lines = [f"{sha256(raw).hexdigest()}  {name}\n" for name, raw in sorted(files.items()) if name != "MANIFEST.sha256"]
        files = {**files, "MANIFEST.sha256": "".join(lines).encode()}
    with zipfile.ZipFile(path, "w") as opened:
        for name, raw in files.items():
            opened.writestr(name, raw)


def places(report, severity=Severity.TAMPERED):
    return [fault.place for fault in report.faults if fault.severity is severity]


def proofs_of(files):
    return sorted(name for name in files if name.startswith("proofs/"))
