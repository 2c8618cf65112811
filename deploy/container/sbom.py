# ruff: noqa: INP001  a command, not a package
"""Write the software bill of materials of an exported image, as CycloneDX 1.6 JSON on standard output.

    sbom.py IMAGE.tar INSPECT.json

Purpose: name everything in the image that has a name: Python itself, each Python package by its own metadata, each Debian package
by the entry that `rootfs.py` left in ``/var/lib/dpkg/status.d``. `scripts/sbom.sh` exports the image and calls this.

Invariants: what is written depends on the image alone (no time, no random number); it obeys CycloneDX's schema, or nothing is written;
an image in which no Python, Debian or Trailseal package is found is an error, not a short list.
"""

from __future__ import annotations

import json
import re
import sys
import tarfile
import uuid
from email.parser import HeaderParser
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message

METADATA: Final = re.compile(r"(?:^|/)site-packages/([^/]+)\.dist-info/METADATA$")
OWN_BILL: Final = re.compile(r"(?:^|/)site-packages/([^/]+)\.dist-info/sboms/[^/]+\.json$")
DEBIAN_ENTRY: Final = re.compile(r"^(?:\./)?var/lib/dpkg/status\.d/[^/]+$")
NAMESPACE: Final = uuid.UUID("5b1f0a52-64c9-4c0e-9c5c-2f3f6f0d7a11")
"""Where the document's serial number comes from, together with its content."""


class Image:
    """Hold what is told of in an exported image.

    Attributes:
        python: The version of the interpreter.
        system: The fields of ``/etc/os-release``.
        packages: The metadata of each Python package.
        bills: The paths of the bills of materials that a Python package brought itself, by the package's folder name.
        debian: The entry of each Debian package.
    """

    def __init__(self, path: str) -> None:
        """Read the archive once."""
        self.python = ""
        self.system: dict[str, str] = {}
        self.packages: dict[str, Message] = {}
        self.bills: dict[str, list[str]] = {}
        self.debian: list[Message] = []
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile():
                    self._look(archive, member)

    def _look(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        def text() -> str:
            opened = archive.extractfile(member)
            return opened.read().decode() if opened else ""

        if found := METADATA.search(member.name):
            self.packages[found[1]] = HeaderParser().parsestr(text())
        elif found := OWN_BILL.search(member.name):
            self.bills.setdefault(found[1], []).append("/" + member.name.removeprefix("./"))
        elif DEBIAN_ENTRY.match(member.name):
            self.debian.append(HeaderParser().parsestr(text()))
        elif member.name.endswith("usr/lib/os-release"):
            self.system = {name: value.strip('"') for name, _, value in (line.partition("=") for line in text().splitlines())}
        elif member.name.endswith("/pyvenv.cfg"):
            self.python = re.findall(r"(?m)^version = (\S+)$", text())[0]


def python_components(image: Image) -> Iterator[dict[str, Any]]:
    """Yield the Python packages, in the order of their names."""
    for folder, metadata in sorted(image.packages.items(), key=lambda item: canonicalize_name(item[1]["Name"])):
        name, version = canonicalize_name(metadata["Name"]), metadata["Version"]
        purl = f"pkg:pypi/{name}@{quote(version)}"
        component: dict[str, Any] = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
        if metadata["Summary"]:
            component["description"] = metadata["Summary"]
        if licence := licence_of(metadata):
            component["licenses"] = [licence]
        # What a wheel has compiled in is not in anybody's lock; some wheels say it themselves (PEP 770).
        if bills := sorted(image.bills.get(folder, [])):
            component["externalReferences"] = [{"type": "bom", "url": f"file://{path}"} for path in bills]
        yield component


def licence_of(metadata: Message) -> dict[str, Any] | None:
    """Return a package's licence as it states it: an SPDX expression, or else the words of its metadata."""
    if expression := metadata["License-Expression"]:
        return {"expression": expression, "acknowledgement": "declared"}
    classified = [each.rpartition(" :: ")[2] for each in metadata.get_all("Classifier", []) if each.startswith("License :: ")]
    stated = " / ".join(each for each in classified if each != "OSI Approved") or (metadata["License"] or "").partition("\n")[0]
    return {"license": {"name": stated, "acknowledgement": "declared"}} if stated else None


def debian_components(image: Image) -> Iterator[dict[str, Any]]:
    """Yield the Debian packages, in the order of their names."""
    distribution = f"{image.system['ID']}-{image.system['VERSION_ID']}"
    for entry in sorted(image.debian, key=lambda each: each["Package"]):
        name, version = entry["Package"], entry["Version"]
        source, _, source_version = (entry["Source"] or name).partition(" ")
        purl = f"pkg:deb/{image.system['ID']}/{quote(name)}@{quote(version, safe='')}?arch={entry['Architecture']}&distro={distribution}"
        yield {
            "type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl,
            "supplier": {"name": entry["Maintainer"]},
            # Debian's security notices are about source packages.
            "properties": [
                {"name": "trailseal:debian:source", "value": source},
                {"name": "trailseal:debian:source-version", "value": source_version.strip("()") or version},
            ],
        }  # fmt: skip


def needs(image: Image, components: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return which Python packages of the image need which."""
    there = {component["name"]: component["bom-ref"] for component in components}
    found = []
    # As the image's Python sees it, not the one that runs here.
    environment = {"extra": "", "python_full_version": image.python, "python_version": ".".join(image.python.split(".")[:2])}
    for metadata in image.packages.values():
        named = map(Requirement, metadata.get_all("Requires-Dist", []))
        wanted = {there.get(canonicalize_name(each.name)) for each in named if each.marker is None or each.marker.evaluate(environment)}
        found.append({"ref": there[canonicalize_name(metadata["Name"])], "dependsOn": sorted(wanted - {None})})
    return sorted(found, key=lambda each: str(each["ref"]))


def document(image: Image, inspected: dict[str, Any]) -> dict[str, Any]:
    """Return the whole document.

    Raises:
        SystemExit: The image lacks what every image of ours has.
    """
    python = list(python_components(image))
    own = next((each for each in python if each["name"] == "trailseal"), None)
    if not (own and image.python and image.debian):
        sys.exit("sbom.py: this is no image of Trailseal: no Python, no Debian package or no trailseal was found in it")
    interpreter = {
        "type": "application", "bom-ref": f"pkg:generic/python@{image.python}", "name": "python", "version": image.python,
        "purl": f"pkg:generic/python@{image.python}", "cpe": f"cpe:2.3:a:python:python:{image.python}:*:*:*:*:*:*:*",
    }  # fmt: skip
    subject = {
        "type": "container", "bom-ref": "image", "name": "trailseal", "version": own["version"],
        "properties": [
            {"name": "trailseal:image:id", "value": str(inspected["Id"]).removeprefix("sha256:")},
            {"name": "trailseal:image:architecture", "value": str(inspected["Architecture"])},
        ],
    }  # fmt: skip
    content = {
        "metadata": {"component": subject},
        "components": [interpreter, *python, *debian_components(image)],
        "dependencies": [{"ref": "image", "dependsOn": [own["bom-ref"], interpreter["bom-ref"]]}, *needs(image, python)],
    }
    serial = uuid.uuid5(NAMESPACE, json.dumps(content, sort_keys=True))
    head = {"bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": f"urn:uuid:{serial}", "version": 1}
    return {"$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json", **head, **content}


def main() -> None:
    """Read the image, check the document, write it."""
    archive, inspection = sys.argv[1:]
    with open(inspection, encoding="utf-8") as opened:  # noqa: PTH123  a path from the command line, opened once
        inspected = json.load(opened)[0]
    text = json.dumps(document(Image(archive), inspected), indent=2) + "\n"
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        sys.exit(f"sbom.py: the document breaks CycloneDX's schema: {error}")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
