"""`trailseal doctor` against real servers: what it finds, what it leaves behind, and how it ends."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.agent_process import TRAILSEAL, free_port
from tests.support.object_servers.azurite import Azurite
from tests.support.object_servers.rgw import Rgw

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rgw(tmp_path_factory) -> Iterator[Rgw]:
    with Rgw(tmp_path_factory.mktemp("rgw")) as server:
        server.bucket("locked", lock="compliance", days=400)
        server.bucket("short", lock="compliance", days=30)
        server.bucket("governed", lock="governance", days=400)
        server.bucket("plain")
        server.client().put_object(Bucket="locked", Key="trails/demo/orders/x/web-1/000000000000.seal", Body=b"another service's")
        yield server


def doctor(
    folder: Path, *stores: dict[str, Any], options: tuple[str, ...] = ("--json",), environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the doctor over some stores."""
    file = folder / "trailseal.yaml"
    settings = {"namespace": "demo", "service": "payments", "instance": "web-1", "state": "state", "stores": stores}
    file.write_text(json.dumps(settings), encoding="utf-8")
    command = [TRAILSEAL, "doctor", "--config", str(file), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, env={**os.environ, **(environment or {})})


def keys(rgw: Rgw) -> dict[str, str]:
    """Return the admin's keys as an environment."""
    return {"AWS_ACCESS_KEY_ID": rgw.access_key, "AWS_SECRET_ACCESS_KEY": rgw.secret_key}


def verdicts(done: subprocess.CompletedProcess[str], store: int = 0) -> dict[str, str]:
    """Return a store's verdicts by check."""
    assert done.stdout, done.stderr
    return {each["check"]: each["verdict"] for each in json.loads(done.stdout)["stores"][store]["findings"]}


def bad(done: subprocess.CompletedProcess[str]) -> set[str]:
    """Return the checks that are BAD."""
    return {check for check, verdict in verdicts(done).items() if verdict == "BAD"}


class TestOnCeph:
    @pytest.fixture
    def central(self, rgw: Rgw) -> dict[str, Any]:
        """Return the settings of a store in the locked bucket."""
        return {"id": "central", "bucket": "s3://locked", "endpoint": rgw.endpoint, "retention": {"days": 400}}

    def test_an_owners_rights_are_all_found_and_nothing_of_the_bucket_is_changed(self, rgw, central, tmp_path) -> None:
        client = rgw.client()
        rules = [{"ID": "r", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 3}}]
        client.put_bucket_lifecycle_configuration(Bucket="locked", LifecycleConfiguration={"Rules": rules})

        def state() -> list[Any]:
            return [
                client.get_bucket_versioning(Bucket="locked")["Status"],
                client.get_object_lock_configuration(Bucket="locked")["ObjectLockConfiguration"],
                client.get_bucket_lifecycle_configuration(Bucket="locked")["Rules"],
            ]

        before = state()
        done = doctor(tmp_path, central, environment=keys(rgw))
        assert state() == before
        client.delete_bucket_lifecycle(Bucket="locked")
        assert done.returncode == 1
        assert bad(done) == {"delete", "read_others", "write_others", "change_lock", "change_lifecycle"}
        found = verdicts(done)
        assert [found[check] for check in ("versioning", "object_lock", "default_retention", "new_object")] == ["ok"] * 4
        assert [found[check] for check in ("create", "lifecycle", "delete_version", "change_versioning")] == ["warning"] * 4

        left = client.list_object_versions(Bucket="locked")
        assert left.get("DeleteMarkers", []) == []
        others = {each["Key"] for each in left["Versions"] if not each["Key"].startswith("probes/demo/payments/web-1/")}
        assert others == {"trails/demo/orders/x/web-1/000000000000.seal"}
        probe = json.loads(done.stdout)["stores"][0]["probe"]
        assert client.head_object(Bucket="locked", Key=probe)["ContentLength"] < 100

    def test_a_bucket_without_a_lock_is_bad_unless_that_was_accepted(self, rgw, central, tmp_path) -> None:
        lacking = {"versioning", "object_lock", "new_object", "overwrite"}
        found = doctor(tmp_path, {**central, "bucket": "s3://plain"}, environment=keys(rgw))
        assert lacking <= bad(found)
        assert verdicts(found)["clock"] == "ok"
        accepted = {"id": "central", "bucket": "s3://plain", "endpoint": rgw.endpoint, "allow_unlocked": True}
        found = doctor(tmp_path, accepted, environment=keys(rgw))
        assert {verdicts(found)[check] for check in lacking} == {"warning"}
        assert verdicts(found)["create"] == "ok"

    def test_a_lock_below_the_policy_is_bad(self, rgw, central, tmp_path) -> None:
        assert {"default_retention", "new_object"} <= bad(doctor(tmp_path, {**central, "bucket": "s3://short"}, environment=keys(rgw)))

    def test_governance_mode_is_bad_for_whoever_goes_past_it_and_is_put_back(self, rgw, central, tmp_path) -> None:
        done = doctor(
            tmp_path, {**central, "bucket": "s3://governed", "retention": {"days": 400, "mode": "governance"}}, environment=keys(rgw)
        )
        assert "shorten_retention" in bad(done)
        key = json.loads(done.stdout)["stores"][0]["probe"]
        head = rgw.client().head_object(Bucket="governed", Key=key)
        assert (head["ObjectLockRetainUntilDate"] - head["LastModified"]).days >= 399

    def test_objects_that_ask_for_their_own_retention_need_no_default(self, rgw, central, tmp_path) -> None:
        store = {**central, "bucket": "s3://short", "retention": {"days": 90, "by": "object"}}
        assert {"default_retention", "new_object"}.isdisjoint(bad(doctor(tmp_path, store, environment=keys(rgw))))

    def test_a_prefix_is_kept_to(self, rgw, central, tmp_path) -> None:
        done = doctor(tmp_path, {**central, "bucket": "s3://locked/team/a"}, environment=keys(rgw))
        probe = json.loads(done.stdout)["stores"][0]["probe"]
        assert rgw.client().head_object(Bucket="locked", Key=f"team/a/{probe}")["ContentLength"]
        assert verdicts(done)["read_others"] == "not tested"

    @pytest.mark.parametrize(
        ("changed", "environment", "seen"),
        [
            ({"bucket": "s3://absent-bucket"}, {}, "NoSuchBucket"),
            ({}, {"AWS_SECRET_ACCESS_KEY": "wrong"}, "SignatureDoesNotMatch"),
            ({}, {"AWS_ACCESS_KEY_ID": "nobody"}, "InvalidAccessKeyId"),
            ({"endpoint": "http://127.0.0.1:{free}"}, {}, "refused"),
        ],
    )
    def test_a_store_that_takes_nothing_is_bad_and_the_rest_is_not_tested(self, rgw, central, tmp_path, changed, environment, seen) -> None:
        changed = {key: value.format(free=free_port()) for key, value in changed.items()}
        done = doctor(tmp_path, {**central, **changed}, environment={**keys(rgw), **environment})
        first = json.loads(done.stdout)["stores"][0]["findings"][0]
        assert (done.returncode, first["check"], first["verdict"]) == (1, "reachable", "BAD")
        assert seen in first["seen"]
        assert bad(done) == {"reachable"}

    def test_a_table_for_people_says_what_to_do(self, rgw, central, tmp_path) -> None:
        done = doctor(tmp_path, central, options=(), environment={**keys(rgw), "COLUMNS": "90"})
        assert (done.returncode, done.stderr) == (1, "")
        assert "statement" in done.stdout
        assert max(map(len, done.stdout.splitlines())) <= 90
        assert done.stdout.rstrip().splitlines()[-1].startswith("BAD: 1 store: ")


class TestOnAzurite:
    def test_what_azure_shows_is_judged_and_the_rest_is_not_tested(self, tmp_path, tmp_path_factory) -> None:
        with Azurite(tmp_path_factory.mktemp("azurite")) as server:
            server.container("audit")
            store = {"id": "central", "bucket": f"az://{server.account}/audit", "endpoint": server.endpoint, "allow_unlocked": True}
            done = doctor(tmp_path, store, environment={"AZURE_STORAGE_ACCOUNT_KEY": server.key})
        found = verdicts(done)
        assert [found[check] for check in ("reachable", "create", "read_own")] == ["ok"] * 3
        assert bad(done) == {"delete"}
        assert {found[check] for check in ("change_lock", "bucket_policy", "lifecycle")} == {"not tested"}


class TestADirectory:
    def test_an_own_folder_is_well_and_bears_one_probe(self, tmp_path) -> None:
        store = {"id": "main", "directory": str(tmp_path / "store")}
        assert doctor(tmp_path, store).returncode == 0
        done = doctor(tmp_path, store)
        assert done.returncode == 0
        found = verdicts(done)
        assert {check: verdict for check, verdict in found.items() if verdict not in ("ok", "note")} == {"same_disk": "warning"}
        [probe] = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
        assert str(probe.relative_to(tmp_path / "store")) == json.loads(done.stdout)["stores"][0]["probe"]
        assert stat.S_IMODE(probe.stat().st_mode) == 0o444

    def test_a_folder_that_cannot_be_made_is_bad(self, tmp_path) -> None:
        (tmp_path / "file").write_text("in the way", encoding="utf-8")
        done = doctor(tmp_path, {"id": "main", "directory": str(tmp_path / "file" / "store")})
        assert (done.returncode, bad(done)) == (1, {"reachable"})

    def test_only_the_store_that_was_named_is_asked(self, tmp_path) -> None:
        stores = [{"id": name, "directory": str(tmp_path / name)} for name in ("one", "two")]
        done = doctor(tmp_path, *stores, options=("--store", "two", "--json"))
        assert [store["id"] for store in json.loads(done.stdout)["stores"]] == ["two"]
        assert not (tmp_path / "one").exists()
        done = doctor(tmp_path, *stores, options=("--store", "three"))
        assert done.returncode == 2
        assert "one, two" in done.stderr
