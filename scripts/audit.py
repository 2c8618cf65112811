#!/usr/bin/env python3
"""Ask a vulnerability service about every locked requirement, and believe its silence only if it proves that it can speak.

    .venv/bin/python scripts/audit.py [--service-url URL] [--accept ID]… [LOCK…]

`pip-audit` does the asking, of OSV by default (https://osv.dev). It ends with 0, "no known vulnerabilities found", also when it could
not ask: a package that the service does not know is skipped. So this command counts: every requirement of the lock, whatever
platform it is for, must have been answered, and a release that is known everywhere to be vulnerable is asked about with them and has
to be found.

Exit code 0: all were answered, nothing is known against them. 1: something is known. 2: the audit could not be made.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

LOCKS: Final = ["requirements/evidence.txt"]
"""What an installation can have: the agent's requirements and those of the extras ``attest`` and ``evidence``."""

CANARY: Final = ("jinja2", "2.4.1")
"""A release of 2010 with several advisories, which nobody withdraws; must not be in a lock."""

OSV: Final = "https://api.osv.dev/v1/query"
PINNED: Final = re.compile(r"(?m)^([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)")
SECONDS: Final = 600


class NotMadeError(Exception):
    """The audit could not be made."""


def locked(files: list[Path]) -> set[tuple[str, str]]:
    """Return name and version of every requirement of the locks.

    Raises:
        NotMadeError: A lock cannot be read, is empty, or holds the canary.
    """
    found: set[tuple[str, str]] = set()
    for file in files:
        try:
            pinned = set(PINNED.findall(file.read_text(encoding="utf-8")))
        except OSError as error:
            raise NotMadeError(f"{file}: {error.strerror}") from error
        if not pinned:
            raise NotMadeError(f"{file} locks nothing")
        found |= pinned
    if CANARY[0] in {name for name, _ in found}:
        raise NotMadeError(f"a lock holds {CANARY[0]}, which this command needs for its own proof; choose another in {Path(__file__).name}")
    return found


def ask(requirements: set[tuple[str, str]], service_url: str) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Return what the service knows against each of the requirements, by name and version.

    Raises:
        NotMadeError: The service could not be asked.
    """
    with tempfile.TemporaryDirectory() as work:
        wanted, report = Path(work, "requirements.txt"), Path(work, "report.json")
        wanted.write_text("".join(f"{name}=={version}\n" for name, version in sorted(requirements)), encoding="utf-8")
        command = [
            sys.executable, "-m", "pip_audit", "--requirement", wanted, "--no-deps", "--disable-pip", "--strict",
            "--vulnerability-service", "osv", "--osv-url", service_url, "--cache-dir", Path(work, "cache"), "--progress-spinner", "off",
            "--format", "json", "--output", report,
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
        except subprocess.TimeoutExpired as error:
            raise NotMadeError(f"{service_url} did not answer within {SECONDS} s") from error
        if not report.exists():
            said = done.stderr.strip().splitlines() or [f"pip-audit ended with {done.returncode}"]
            raise NotMadeError(f"{service_url} could not be asked: {said[-1]}")
        entries = json.loads(report.read_text(encoding="utf-8"))["dependencies"]
    return {(entry["name"], entry["version"]): entry["vulns"] for entry in entries if "vulns" in entry}


def audit(files: list[Path], service_url: str, accepted: set[str]) -> int:
    """Audit the locks, print what is known, and return the exit code.

    Raises:
        NotMadeError: The service could not be asked, or its answer cannot be believed.
    """
    requirements = locked(files)
    answers = ask(requirements | {CANARY}, service_url)
    if missing := sorted(requirements - answers.keys()):
        raise NotMadeError(f"no answer about {', '.join('=='.join(each) for each in missing)}")
    if not answers.get(CANARY):
        raise NotMadeError(
            f"{service_url} knows nothing against {'=='.join(CANARY)}, which is known to be vulnerable: its silence means nothing"
        )
    known = 0
    for name, version in sorted(requirements):
        for found in answers[name, version]:
            names = {found["id"], *found["aliases"]}
            note = "accepted" if names & accepted else "VULNERABLE"
            known += note != "accepted"
            fixed = ", ".join(found["fix_versions"]) or "no version"
            print(f"{note}: {name}=={version}: {', '.join(sorted(names))}: {found['description']} (fixed in {fixed})")
    print(f"{len(requirements)} requirements of {', '.join(map(str, files))} asked about, {known} vulnerabilities known")
    return 1 if known else 0


def main() -> int:
    """Read the command line, audit, and return the exit code."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--service-url", default=OSV, metavar="URL", help=f"where OSV's `v1/query` is asked (default {OSV})")
    parser.add_argument(
        "--accept", action="append", default=[], metavar="ID", help="a vulnerability that was looked at and does not concern us"
    )
    parser.add_argument("locks", nargs="*", type=Path, metavar="LOCK", help=f"the locks to audit (default {' '.join(LOCKS)})")
    options = parser.parse_args()
    try:
        return audit(options.locks or [Path(__file__).parents[1] / name for name in LOCKS], options.service_url, set(options.accept))
    except NotMadeError as error:
        print(f"audit.py: NOT AUDITED: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
