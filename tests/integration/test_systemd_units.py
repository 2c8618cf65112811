"""The units and examples of `deploy/systemd`: systemd finds nothing wrong in them, and they, the agent and the documentation agree."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from agent.config import load, require_sources
from agent.errors import ConfigError, DamagedStateError, DurabilityError, IntegrityError, StateError
from agent.runtime import OVERDUE_SECONDS
from agent.watchdog import EXIT_STALLED

CHECKOUT: Final = Path(__file__).parents[2]
SYSTEMD: Final = CHECKOUT / "deploy" / "systemd"
DOCS: Final = CHECKOUT / "docs" / "systemd.md"
UNITS: Final = ("trailseal.service", "trailseal@.service")
THRESHOLD_TENTHS: Final = 20
SETTING: Final = re.compile(r"^([A-Z]\w+)=(.*)$", re.MULTILINE)
HOSTS_PROGRAMS: Final = ("/bin/sh", "/usr/bin/payments", "/opt/trailseal/bin/trailseal")
MADE_UP: Final = "[Service]\nExecStart=/usr/bin/payments\n"
WHERE: Final = re.compile(r"^# (/etc/systemd/system/\S+)$", re.MULTILINE)


def settings(unit: str) -> dict[str, list[str]]:
    """Return every setting of a unit, and its values in their order."""
    found: dict[str, list[str]] = {}
    for name, value in SETTING.findall((SYSTEMD / unit).read_text(encoding="utf-8")):
        found.setdefault(name, []).append(value)
    return found


def seconds(value: str) -> float:
    """Return a time span of one number and one unit in seconds."""
    found = re.fullmatch(r"(\d+)(s|min)", value)
    assert found is not None
    return float(found[1]) * {"s": 1, "min": 60}[found[2]]


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Lay out what `systemd-analyze --root` needs: the units, the examples where they say they belong, and the programs."""
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    shutil.copytree("/usr/lib/systemd/system", tmp_path / "usr/lib/systemd/system", symlinks=True)
    for name in UNITS:
        shutil.copy(SYSTEMD / name, units)
    (units / "payments.service").write_text(MADE_UP)
    for program in HOSTS_PROGRAMS:
        path = tmp_path / program.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    return tmp_path


def put(example: Path, machine: Path) -> None:
    place = WHERE.search(example.read_text(encoding="utf-8"))
    assert place is not None, f"{example.name} does not say where it belongs"
    path = machine / place[1].lstrip("/")
    path.parent.mkdir(exist_ok=True)
    shutil.copy(example, path)


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False, timeout=30)


def verify(machine: Path, *units: str) -> str:
    done = analyze("verify", f"--root={machine}", *units)
    assert done.returncode == 0 or done.stderr, done
    return done.stderr + done.stdout


def test_systemd_has_nothing_to_say_about_the_units(machine: Path) -> None:
    assert verify(machine, "trailseal.service", "trailseal@payments.service") == ""


@pytest.mark.parametrize("example", sorted((SYSTEMD / "examples").iterdir()), ids=lambda path: path.name)
def test_systemd_has_nothing_to_say_about_an_example_where_it_says_it_belongs(example: Path, machine: Path) -> None:
    put(example, machine)
    if example.name == "pipe.conf":
        put(example.with_name("trailseal-pipe@.socket"), machine)
    place = WHERE.search(example.read_text(encoding="utf-8"))
    assert place is not None
    unit = Path(place[1]).parent.name.removesuffix(".d")
    unit = unit if "." in unit else "trailseal-pipe@payments.socket"
    assert verify(machine, unit) == ""
    if example.suffix == ".conf":
        # An example that is not read would be none, and systemd has nothing to say about what it does not read.
        path = machine / place[1].lstrip("/")
        path.write_text(path.read_text() + "\nNoSuchSetting=1\n")
        assert "NoSuchSetting" in verify(machine, unit)


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_is_exposed_by_two_points_of_ten_at_most(unit: str) -> None:
    done = analyze("security", "--offline=true", "--no-pager", f"--threshold={THRESHOLD_TENTHS}", str(SYSTEMD / unit))
    assert done.returncode == 0, done.stdout
    assert analyze("security", "--offline=true", "--no-pager", "--threshold=10", str(SYSTEMD / unit)).returncode != 0, "it always passes"


@pytest.mark.parametrize("unit", UNITS)
def test_every_tenth_of_the_exposure_has_its_reason_in_the_documentation(unit: str) -> None:
    done = analyze("security", "--offline=true", "--no-pager", "--json=short", str(SYSTEMD / unit))
    exposed = {each["json_field"]: float(each["exposure"]) for each in json.loads(done.stdout) if each.get("exposure")}
    rows = re.findall(r"^\| `(\w+)` \| (\d\.\d) \| .{20,} \|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert {name: float(points) for name, points in rows} == exposed


def test_the_template_is_the_unit_with_an_instances_names() -> None:
    one, other = ((SYSTEMD / name).read_text(encoding="utf-8") for name in UNITS)
    body = other.partition("[Unit]")[2].replace(" (%i)", "").replace("/%i.yaml", "/trailseal.yaml").replace("trailseal@%i", "trailseal")
    assert body == one.partition("[Unit]")[2]


def test_what_only_a_person_can_mend_is_not_started_again_and_everything_else_is() -> None:
    never = set(map(int, settings("trailseal.service")["RestartPreventExitStatus"][0].split()))
    assert never == {ConfigError.exit_code, StateError.exit_code, IntegrityError.exit_code}
    assert never.isdisjoint({0, EXIT_STALLED, DamagedStateError.exit_code, DurabilityError.exit_code})
    assert settings("trailseal.service")["Restart"] == ["always"]


def test_the_time_to_stop_is_longer_than_an_orderly_end_may_take() -> None:
    grace = load(str(SYSTEMD / "trailseal.yaml"), {}).shutdown_grace_seconds
    assert seconds(settings("trailseal.service")["TimeoutStopSec"][0]) >= grace + OVERDUE_SECONDS + 10


def test_the_first_configuration_runs_in_the_folders_that_the_unit_gives() -> None:
    first = load(str(SYSTEMD / "trailseal.yaml"), {})
    require_sources(first)
    unit = settings("trailseal.service")
    assert first.state == f"/var/lib/{unit['StateDirectory'][0]}"
    assert [store.directory for store in first.stores] == [unit["ReadWritePaths"][0].removeprefix("-")]


def test_the_documentation_says_what_each_line_of_the_unit_is_for() -> None:
    text = DOCS.read_text(encoding="utf-8")
    unexplained = [name for name in settings("trailseal.service") if f"`{name}=" not in text]
    assert unexplained == []


def test_the_installer_says_how_it_is_used() -> None:
    done = subprocess.run([str(SYSTEMD / "install.sh"), "--help"], capture_output=True, text=True, check=True)
    assert all(word in done.stdout for word in ("install.sh --wheels DIR FILE", "install.sh --check [NAME]"))
    assert "set -euo" not in done.stdout
