"""What can be checked of where the program comes from: the wheel's hash, the bills of materials, the audit of the lock."""

from __future__ import annotations

import http.server
import json
import re
import subprocess
import sys
import tarfile
import threading
import tomllib
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from agent.cli import COMMANDS
from tests.support.podman import environment, trailseal_image

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROOT: Final = Path(__file__).parents[2]
VERSION: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
LOCKED: Final = set(re.findall(r"(?m)^([a-z0-9-]+)==(\S+)", (ROOT / "requirements/runtime.txt").read_text()))


def script(*words: str | Path, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the project with this test's interpreter."""
    done = subprocess.run(
        list(map(str, words)), capture_output=True, text=True, check=False, timeout=200, cwd=ROOT,
        env={**environment(), "PYTHON": sys.executable, **variables},
    )  # fmt: skip
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done


class TestTheWheel:
    def test_two_builds_by_different_hands_are_the_same_file_and_the_hash_is_printed(self, tmp_path):
        # The script itself builds twice, in other folders, with other file times and another umask, and compares.
        said = script("scripts/wheel.sh", tmp_path).stdout
        name = f"trailseal-{VERSION}-py3-none-any.whl"
        assert said == f"{sha256((tmp_path / name).read_bytes()).hexdigest()}  {name}\n"

    def test_it_holds_every_module_and_nothing_else(self, tmp_path):
        script("scripts/wheel.sh", "--once", tmp_path)
        with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
            names = {name for name in wheel.namelist() if not name.startswith(f"trailseal-{VERSION}.dist-info/")}
            assert {entry.date_time for entry in wheel.infolist()} == {(2020, 2, 2, 0, 0, 0)}
            assert {entry.external_attr >> 16 & 0o777 for entry in wheel.infolist()} <= {0o644, 0o755}
        assert {module.replace(".", "/") + ".py" for module, _ in COMMANDS.values()} < names
        assert names == {
            str(path.relative_to(ROOT)) for path in (ROOT / "agent").rglob("*") if path.is_file() and "__pycache__" not in path.parts
        }

    def test_a_build_that_differs_is_refused(self, tmp_path):
        # A builder that puts the time of day into the wheel is what the comparison is there for.
        module = tmp_path / "hatchling"
        module.mkdir()
        (module / "__init__.py").touch()
        (module / "__main__.py").write_text(
            "import pathlib, sys, time\n"
            "out = pathlib.Path(sys.argv[sys.argv.index('--directory') + 1])\n"
            "out.mkdir(parents=True)\n"
            "(out / 'trailseal-0-py3-none-any.whl').write_text(str(time.time_ns()))\n"
        )
        done = script("scripts/wheel.sh", tmp_path / "dist", code=1, PYTHONPATH=str(tmp_path))
        assert "two builds of the same source differ" in done.stderr
        assert not (tmp_path / "dist").exists()


class TestTheBillsOfMaterials:
    def test_they_name_everything_locked_and_everything_in_the_image_the_same_each_time(self, tmp_path):
        image = trailseal_image()
        for turn in ("first", "second"):
            script("scripts/sbom.sh", tmp_path / turn, image, ENGINE="podman")
        names = {f"trailseal-{VERSION}.cdx.json", f"trailseal-image-{VERSION}.cdx.json"}
        assert {path.name for path in (tmp_path / "first").iterdir()} == names
        assert all((tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes() for name in names)

        lock = json.loads((tmp_path / "first" / f"trailseal-{VERSION}.cdx.json").read_bytes())
        assert {(each["name"], each["version"]) for each in lock["components"]} == LOCKED
        assert all(hashes(each) == hashes_in_the_lock(each["name"]) != set() for each in lock["components"])

        whole = json.loads((tmp_path / "first" / f"trailseal-image-{VERSION}.cdx.json").read_bytes())
        kinds = {
            kind: [each for each in whole["components"] if each["purl"].startswith(f"pkg:{kind}/")] for kind in ("pypi", "deb", "generic")
        }
        assert {(each["name"], each["version"]) for each in kinds["pypi"]} == {*LOCKED, ("trailseal", VERSION)}
        assert [each["name"] for each in kinds["generic"]] == ["python"]
        debian = {each["name"]: each for each in kinds["deb"]}
        assert {"libc6", "libssl3", "libsqlite3-0", "ca-certificates"} <= debian.keys()
        assert not {"dash", "bash", "apt", "dpkg", "perl-base"} & debian.keys()
        assert re.fullmatch(r"pkg:deb/debian/libc6@[^?]+\?arch=\w+&distro=debian-\d+", debian["libc6"]["purl"])
        assert {"name": "trailseal:debian:source", "value": "glibc"} in debian["libc6"]["properties"]
        needs = {each["ref"]: each["dependsOn"] for each in whole["dependencies"]}
        assert any(ref.startswith("pkg:pypi/cryptography@") for ref in needs[f"pkg:pypi/trailseal@{VERSION}"])

    def test_an_image_that_is_not_ours_gets_no_bill(self, tmp_path):
        with tarfile.open(tmp_path / "image.tar", "w") as archive:
            archive.add(ROOT / "LICENSE", "usr/share/doc/libc6/copyright")
        (tmp_path / "inspect.json").write_text("[{}]")
        done = script(sys.executable, "deploy/container/sbom.py", tmp_path / "image.tar", tmp_path / "inspect.json", code=1)
        assert "this is no image of Trailseal" in done.stderr
        assert not done.stdout


def hashes(component: dict[str, Any]) -> set[str]:
    """Return the hashes of a component's files."""
    return {found["content"] for reference in component["externalReferences"] for found in reference["hashes"]}


def hashes_in_the_lock(name: str) -> set[str]:
    """Return the hashes that the lock holds a requirement to."""
    text = (ROOT / "requirements/runtime.txt").read_text()
    entry = re.search(rf"(?m)^{re.escape(name)}==.*\n(?:    --hash=.*\n)+", text)
    assert entry
    return set(re.findall(r"--hash=sha256:([0-9a-f]{64})", entry[0]))


class Service:
    """Answer as OSV does, with what a test wants known.

    Attributes:
        known: The advisories, by name and version.
        asked: What was asked about.
        status: The HTTP status of every answer.
    """

    def __init__(self) -> None:
        """Know of the release that everybody knows of."""
        self.known: dict[tuple[str, str], list[str]] = {("jinja2", "2.4.1"): ["PYSEC-2014-8"]}
        self.asked: list[tuple[str, str]] = []
        self.status = 200
        self.url = ""

    def answer(self, body: bytes) -> bytes:
        """Return the answer to one query."""
        query = json.loads(body)
        assert query["package"]["ecosystem"] == "PyPI"
        wanted = (query["package"]["name"], query["version"])
        self.asked.append(wanted)
        package = {"name": wanted[0], "ecosystem": "PyPI"}
        ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.1"}]}]
        found = [
            {"id": name, "summary": f"{wanted[0]} lets everybody in", "affected": [{"package": package, "ranges": ranges}]}
            for name in self.known.get(wanted, [])
        ]
        return json.dumps({"vulns": found} if found else {}).encode()


@pytest.fixture
def service() -> Iterator[Service]:
    """Run a vulnerability service on this machine."""
    service = Service()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = service.answer(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(service.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        service.url = f"http://127.0.0.1:{server.server_port}/v1/query"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield service
        server.shutdown()
        thread.join()


def audit(service_url: str, code: int, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the audit of the runtime lock."""
    return script(sys.executable, "scripts/audit.py", "--service-url", service_url, *words, "requirements/runtime.txt", code=code)


class TestTheAudit:
    def test_it_asks_about_exactly_what_is_locked_and_passes_when_nothing_is_known(self, service):
        said = audit(service.url, 0).stdout
        assert sorted(service.asked) == sorted({*LOCKED, ("jinja2", "2.4.1")})
        assert said == f"{len(LOCKED)} requirements of requirements/runtime.txt asked about, 0 vulnerabilities known\n"

    def test_one_vulnerable_requirement_fails_it_until_it_is_accepted_by_name(self, service):
        aiohttp = next(each for each in LOCKED if each[0] == "aiohttp")
        service.known[aiohttp] = ["PYSEC-2026-1"]
        said = audit(service.url, 1).stdout.splitlines()
        assert said[0] == f"VULNERABLE: aiohttp=={aiohttp[1]}: PYSEC-2026-1: aiohttp lets everybody in (fixed in 99.1)"
        assert audit(service.url, 0, "--accept", "PYSEC-2026-1").stdout.startswith("accepted: aiohttp==")

    def test_a_service_that_cannot_be_reached_is_no_pass(self, service):
        done = audit("http://127.0.0.1:1/v1/query", 2)
        assert "NOT AUDITED: http://127.0.0.1:1/v1/query could not be asked" in done.stderr
        service.status = 503
        assert "NOT AUDITED" in audit(service.url, 2).stderr

    def test_the_silence_of_a_service_that_knows_nothing_is_no_pass(self, service):
        service.known = {}
        assert "its silence means nothing" in audit(service.url, 2).stderr

    def test_a_lock_that_holds_nothing_or_is_not_there_is_no_pass(self, service, tmp_path):
        (tmp_path / "empty.txt").write_text("# nothing\n")
        for name, why in (("empty.txt", "locks nothing"), ("missing.txt", "No such file")):
            done = script(sys.executable, "scripts/audit.py", "--service-url", service.url, tmp_path / name, code=2)
            assert "NOT AUDITED" in done.stderr
            assert why in done.stderr
        assert service.asked == []
