"""The policies in `deploy/policies/` let an agent ship, an auditor read, and nobody do more; shown on Ceph, which refuses for real.

Amazon's policies are translated to Ceph by dropping what Ceph 16 does not know, and nothing else: the lists of that are here.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from botocore.exceptions import ClientError

from tests.support import loggen
from tests.support.agent_process import TRAILSEAL, believe, verify
from tests.support.object_servers.rgw import Credentials, Rgw, refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

POLICIES: Final = Path(__file__).parents[2] / "deploy" / "policies"
BUCKET: Final = "audit"
ELSEWHERE: Final = "trails/demo/orders/01k0000000000000000000000a/web-1/000000000000.seal"

UNKNOWN_ACTIONS: Final = {
    "s3:PutBucketOwnershipControls",
    "s3:PutEncryptionConfiguration",
    "s3:ReplicateDelete",
    "s3:ReplicateObject",
    "s3:ReplicateTags",
}
"""What Ceph 16 refuses to read in a policy at all."""
UNKNOWN_CONDITIONS: Final = {"aws:SecureTransport", "s3:if-none-match", "s3:object-lock-remaining-retention-days"}
"""What Ceph 16 reads and then takes for absent, so that a statement with it denies everything or nothing."""
EXEMPTION: Final = "aws:PrincipalArn"
"""How Amazon's policy spares the administrator; on Ceph the statements name whom they bind instead."""

LATER: Final = dt.datetime(2040, 1, 1, tzinfo=dt.UTC)
REFUSED: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "hide an object": ("delete_object", {"Key": "{own}"}),
    "delete a version": ("delete_object", {"Key": "{own}", "VersionId": "{version}"}),
    "hide many": ("delete_objects", {"Delete": {"Objects": [{"Key": "probes/demo/payments/web-1/2026-01-01"}]}}),
    "set a retention": ("put_object_retention", {"Key": "{own}", "Retention": {"Mode": "COMPLIANCE", "RetainUntilDate": LATER}}),
    "lift a legal hold": ("put_object_legal_hold", {"Key": "{own}", "LegalHold": {"Status": "OFF"}}),
    "publish an object": ("put_object_acl", {"Key": "{own}", "ACL": "public-read"}),
    "write another service's": ("put_object", {"Key": ELSEWHERE, "Body": b""}),
    "read another service's": ("get_object", {"Key": ELSEWHERE}),
    "look at another service's": ("head_object", {"Key": ELSEWHERE}),
    "list versions": ("list_object_versions", {}),
    "read the versioning": ("get_bucket_versioning", {}),
    "suspend versioning": ("put_bucket_versioning", {"VersioningConfiguration": {"Status": "Suspended"}}),
    "lower the default": ("put_object_lock_configuration", {"ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled"}}),
    "let it expire": ("put_bucket_lifecycle_configuration", {"LifecycleConfiguration": {"Rules": []}}),
    "replicate": ("put_bucket_replication", {"ReplicationConfiguration": {"Role": "", "Rules": []}}),
    "write a policy": ("put_bucket_policy", {"Policy": "{}"}),
    "remove the policy": ("delete_bucket_policy", {}),
    "publish the bucket": ("put_bucket_acl", {"ACL": "public-read"}),
    "delete the bucket": ("delete_bucket", {}),
}
"""What a thief of the agent's key might do."""


def statements(name: str) -> list[dict[str, Any]]:
    """Return the statements of one of Amazon's policies."""
    found: list[dict[str, Any]] = json.loads((POLICIES / "aws" / name).read_text(encoding="utf-8"))["Statement"]
    return found


def for_ceph(name: str, principal: str) -> list[dict[str, Any]]:
    """Return the statements of one of Amazon's policies as Ceph 16 understands them."""
    translated = []
    for statement in statements(name):
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        known = [action for action in actions if action not in UNKNOWN_ACTIONS]
        conditions = {
            operator: {key: value for key, value in keys.items() if key != EXEMPTION}
            for operator, keys in statement.get("Condition", {}).items()
        }
        if not known or any(key in UNKNOWN_CONDITIONS for keys in conditions.values() for key in keys):
            continue
        kept = {operator: keys for operator, keys in conditions.items() if keys}
        translated.append(
            {"Sid": statement["Sid"], "Effect": statement["Effect"], "Principal": {"AWS": [principal]}, "Action": known}
            | {"Resource": statement["Resource"]}
            | ({"Condition": kept} if kept else {})
        )
    return translated


def filled(text: str, agent: Credentials, reader: Credentials) -> str:
    """Return a policy's text with names in place of its placeholders."""
    for placeholder, name in {
        "arn:aws:iam:::user/AGENT": agent.principal,
        "arn:aws:iam:::user/READER": reader.principal,
        "BUCKET": BUCKET,
        "NAMESPACE": "demo",
        "SERVICE": "payments",
    }.items():
        text = text.replace(placeholder, name)
    return text


class TestTheFiles:
    def test_cephs_policy_is_amazons_without_what_ceph_does_not_know_and_with_the_right_to_tell_what_is_absent(self) -> None:
        ours = json.loads((POLICIES / "ceph/bucket-policy.json").read_text(encoding="utf-8"))["Statement"]
        added = [statement for statement in ours if statement["Sid"] == "TellWhatIsAbsent"]
        assert [(each["Effect"], each["Action"], "Condition" in each) for each in added] == [("Allow", ["s3:ListBucket"], False)]
        agent, reader = "arn:aws:iam:::user/AGENT", "arn:aws:iam:::user/READER"
        expected = for_ceph("agent-policy.json", agent) + for_ceph("bucket-policy.json", agent) + for_ceph("reader-policy.json", reader)
        assert [statement for statement in ours if statement not in added] == expected

    def test_every_statement_is_explained_and_every_explained_statement_exists(self) -> None:
        named = {statement["Sid"] for path in POLICIES.rglob("*.json") for statement in json.loads(path.read_text()).get("Statement", [])}
        explained = set(re.findall(r"(?m)^\| `(\w+)` \|", (POLICIES / "README.md").read_text(encoding="utf-8")))
        assert named == explained

    def test_every_file_is_named_in_the_readme(self) -> None:
        text = (POLICIES / "README.md").read_text(encoding="utf-8")
        files = {str(path.relative_to(POLICIES)) for path in POLICIES.rglob("*") if path.is_file()} - {"README.md"}
        assert {name for name in files if name not in text} == set()

    def test_the_agent_may_create_and_read_below_its_own_names_and_nothing_else(self) -> None:
        allowed = statements("agent-policy.json")
        assert {each["Effect"] for each in allowed} == {"Allow"}
        actions = {action for each in allowed for action in ([each["Action"]] if isinstance(each["Action"], str) else each["Action"])}
        assert actions == {"s3:PutObject", "s3:GetObject", "s3:GetObjectRetention"}
        resources = {resource.removeprefix("arn:aws:s3:::BUCKET/") for each in allowed for resource in each["Resource"]}
        assert resources == {
            "trails/NAMESPACE/SERVICE/*",
            "records/namespace=NAMESPACE/service=SERVICE/*",
            "probes/NAMESPACE/SERVICE/*",
        }

    def test_only_the_administrator_is_spared_and_only_where_an_administrator_is_needed(self) -> None:
        denied = statements("bucket-policy.json")
        assert {(each["Effect"], each["Principal"]) for each in denied} == {("Deny", "*")}
        spared = {each["Sid"] for each in denied if EXEMPTION in each.get("Condition", {}).get("ArnNotLike", {})}
        assert {each["Sid"] for each in denied} - spared == {
            "DenyInsecureTransport",
            "DenyUnconditionalWrites",
            "DenyShortRetention",
        }

    def test_other_clouds_roles_create_and_read_and_nothing_else(self) -> None:
        google = json.loads((POLICIES / "gcs/agent-role.json").read_text(encoding="utf-8"))
        assert google["includedPermissions"] == ["storage.objects.create", "storage.objects.get"]
        azure = json.loads((POLICIES / "azure/agent-role.json").read_text(encoding="utf-8"))
        blobs = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
        assert (azure["Actions"], azure["DataActions"]) == ([], [f"{blobs}/read", f"{blobs}/add/action"])


@pytest.fixture(scope="module")
def rgw(tmp_path_factory) -> Iterator[Rgw]:
    with Rgw(tmp_path_factory.mktemp("rgw")) as server:
        server.bucket(BUCKET, lock="compliance", days=400)
        yield server


@pytest.fixture(scope="module")
def agent(rgw: Rgw) -> Credentials:
    return rgw.user("agent")


@pytest.fixture(scope="module")
def reader(rgw: Rgw) -> Credentials:
    return rgw.user("reader")


@pytest.fixture(scope="module")
def policy(rgw: Rgw, agent: Credentials, reader: Credentials) -> dict[str, Any]:
    """Put the policy on the bucket, and another service's object into it."""
    text = filled((POLICIES / "ceph/bucket-policy.json").read_text(encoding="utf-8"), agent, reader)
    rgw.client().put_bucket_policy(Bucket=BUCKET, Policy=text)
    rgw.client().put_object(Bucket=BUCKET, Key=ELSEWHERE, Body=b"another service's")
    found: dict[str, Any] = json.loads(text)
    return found


def configuration(folder: Path, rgw: Rgw, bucket: str = BUCKET, **store: Any) -> Path:
    stores = [{"id": "central", "bucket": f"s3://{bucket}", "endpoint": rgw.endpoint, **({"retention": {"days": 400}} | store)}]
    settings: dict[str, Any] = {"namespace": "demo", "service": "payments", "instance": "web-1", "state": "state"}
    settings |= {"stores": stores, "vitals": {"listen": "none"}, "seal": {"max_age": "300ms"}, "observability": "none"}
    file = folder / "trailseal.yaml"
    file.write_text(json.dumps(settings), encoding="utf-8")
    return file


def run(who: Credentials, *arguments: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": who.access_key, "AWS_SECRET_ACCESS_KEY": who.secret_key}
    command = [TRAILSEAL, *map(str, arguments)]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=50, check=False, env=environment)


@pytest.mark.slow
class TestOnCeph:
    def test_an_agent_with_these_rights_ships_and_goes_on_after_a_restart(self, rgw, agent, reader, policy, tmp_path) -> None:
        file = configuration(tmp_path, rgw)
        for part in range(2):
            lines = "".join(loggen.line(number, audit_every=1).decode() for number in range(part * 50, part * 50 + 50))
            done = run(agent, "pipe", "--config", file, text=lines)
            assert done.returncode == 0, done.stderr
        # The bucket's owner may not read what an agent stored, as on Ceph it belongs to the agent; the auditor may.
        store, client = tmp_path / "copy", rgw.client(reader)
        for each in client.list_objects_v2(Bucket=BUCKET)["Contents"]:
            if "/payments/" in each["Key"] or "service=payments" in each["Key"]:
                path = store / each["Key"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(client.get_object(Bucket=BUCKET, Key=each["Key"])["Body"].read())
        verdict = verify(store, believe(store, tmp_path / "trust.txt"))
        assert (verdict.code, verdict.report["records"]) == (0, 100)
        versions = client.list_object_versions(Bucket=BUCKET, Prefix="trails/demo/payments/")["Versions"]
        assert len({each["Key"] for each in versions}) == len(versions)

    def test_the_doctor_finds_nothing_bad_with_these_rights(self, rgw, agent, policy, tmp_path) -> None:
        done = run(agent, "doctor", "--config", configuration(tmp_path, rgw), "--json")
        assert done.returncode == 0, done.stdout
        verdicts = {each["check"]: each["verdict"] for each in json.loads(done.stdout)["stores"][0]["findings"]}
        rights = ("delete", "delete_version", "shorten_retention", "read_others", "write_others", "change_versioning", "bucket_policy")
        assert {check: verdicts[check] for check in rights} == dict.fromkeys(rights, "ok")
        assert {check for check, verdict in verdicts.items() if verdict == "warning"} == {"create", "encryption", "overwrite"}

    @pytest.mark.parametrize("deed", REFUSED)
    def test_whoever_has_the_agents_key_is_refused(self, rgw, agent, policy, deed: str) -> None:
        client, own = rgw.client(agent), "probes/demo/payments/web-1/2026-01-01"
        version = client.put_object(Bucket=BUCKET, Key=own, Body=b"an agent's own")["VersionId"]
        operation, arguments = REFUSED[deed]
        given = {name: {"{own}": own, "{version}": version}.get(str(value), value) for name, value in arguments.items()}
        # Ceph 16 has no replication by bucket, whoever asks for it.
        assert refusal(getattr(client, operation), Bucket=BUCKET, **given)[0] == (405 if deed == "replicate" else 403)
        assert client.head_object(Bucket=BUCKET, Key=own)["VersionId"] == version

    def test_an_auditor_lists_reads_and_sees_every_lock_and_changes_nothing(self, rgw, reader, policy) -> None:
        client, version = rgw.client(reader), rgw.client().head_object(Bucket=BUCKET, Key=ELSEWHERE)["VersionId"]
        assert ELSEWHERE in {each["Key"] for each in client.list_object_versions(Bucket=BUCKET)["Versions"]}
        assert client.list_objects_v2(Bucket=BUCKET)["KeyCount"]
        assert client.get_object(Bucket=BUCKET, Key=ELSEWHERE, VersionId=version)["Body"].read() == b"another service's"
        assert client.get_object_retention(Bucket=BUCKET, Key=ELSEWHERE)["Retention"]["Mode"] == "COMPLIANCE"
        assert client.get_bucket_versioning(Bucket=BUCKET)["Status"] == "Enabled"
        assert client.get_object_lock_configuration(Bucket=BUCKET)["ObjectLockConfiguration"]["ObjectLockEnabled"] == "Enabled"
        for operation, arguments in (("put_object", {"Body": b""}), ("delete_object", {}), ("delete_object", {"VersionId": version})):
            assert refusal(getattr(client, operation), Bucket=BUCKET, Key=ELSEWHERE, **arguments) == (403, "AccessDenied")

    @pytest.mark.parametrize("condition", [None, {"StringLike": {"s3:prefix": ["trails/demo/payments/*"]}}], ids=["none", "of a prefix"])
    def test_without_the_right_to_list_the_whole_bucket_ceph_says_403_of_what_is_absent(self, rgw, agent, condition) -> None:
        bucket = rgw.bucket(f"told-{'nothing' if condition is None else 'a-prefix'}", lock="compliance")
        allow = [{**each, "Resource": [f"arn:aws:s3:::{bucket}/*"]} for each in for_ceph("agent-policy.json", agent.principal)]
        listing = {"Sid": "L", "Effect": "Allow", "Principal": {"AWS": [agent.principal]}, "Action": ["s3:ListBucket"]}
        listing |= {"Resource": [f"arn:aws:s3:::{bucket}"]}
        some = [] if condition is None else [{**listing, "Condition": condition}]
        put, absent = rgw.client().put_bucket_policy, {"Bucket": bucket, "Key": "trails/demo/payments/absent"}
        put(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": allow + some}))
        assert refusal(rgw.client(agent).get_object, **absent) == (403, "AccessDenied")
        put(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [*allow, listing]}))
        assert refusal(rgw.client(agent).get_object, **absent) == (404, "NoSuchKey")

    def test_without_the_denials_ceph_lets_whoever_wrote_an_object_past_governance_mode(self, rgw, agent, tmp_path) -> None:
        """Ceph 16 makes the writer the object's owner, and an owner may set its retention unless a policy denies it."""
        bucket = rgw.bucket("governed", lock="governance", days=400)
        allow = [{**each, "Resource": [f"arn:aws:s3:::{bucket}/*"]} for each in for_ceph("agent-policy.json", agent.principal)]
        rgw.client().put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": allow}))
        file = configuration(tmp_path, rgw, bucket, retention={"days": 400, "mode": "governance"})
        done = run(agent, "doctor", "--config", file, "--json")
        findings = {each["check"]: each for each in json.loads(done.stdout)["stores"][0]["findings"]}
        assert done.returncode == 1
        assert {check for check, each in findings.items() if each["verdict"] == "BAD"} == {"read_own", "shorten_retention", "write_others"}
        assert "DenyRetentionChanges" in findings["shorten_retention"]["fix"]
        key = json.loads(done.stdout)["stores"][0]["probe"]
        kept = rgw.client(agent).get_object_retention(Bucket=bucket, Key=key)["Retention"]["RetainUntilDate"]
        assert kept > dt.datetime.now(dt.UTC) + dt.timedelta(days=399)

    def test_what_is_dropped_for_ceph_is_what_ceph_does_not_know(self, rgw, agent) -> None:
        client, bucket = rgw.client(), rgw.bucket("unknown")
        for action in sorted(UNKNOWN_ACTIONS):
            statement = {
                "Effect": "Deny",
                "Principal": {"AWS": [agent.principal]},
                "Action": [action],
                "Resource": [f"arn:aws:s3:::{bucket}/*"],
            }
            with pytest.raises(ClientError, match="InvalidArgument"):
                client.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
