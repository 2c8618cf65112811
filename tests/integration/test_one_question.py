"""Three systems with audit logs of their own, one agent, one store, one question: who granted what to whom, and was it denied anywhere?

PostgreSQL and its log are real; the lines of Kubernetes and CloudTrail have the form that those write.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from typing import TYPE_CHECKING, Any, Final

import pytest

from agent.trail.manifest import Where
from tests.support.agent_process import TRAILSEAL, Site, until
from tests.support.postgres import ADMINISTRATOR, postgres

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

SHIPPED: Final = ["shipped:kubernetes", "shipped:aws-cloudtrail", "shipped:postgresql"]
QUESTION: Final = """
    SELECT source, actor_id, action, target_id, outcome,
        coalesce(context->>'granted_role', context->>'permission') AS what
    FROM events WHERE action IN ('role.grant', 'permission.grant', 'group.member.add') AND source <> 'prepared'
    ORDER BY source, occurred_at, seq
"""
POD: Final = {"namespace": "shop", "pod": "audit-0", "node": "node-7"}


def binding(number: int, user: str, role: str, subject: str, code: int) -> dict[str, Any]:
    """Return what the API server writes of a role binding that somebody creates."""
    return {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "RequestResponse",
        "auditID": f"00000000-0000-4000-8000-{number:012}",
        "stage": "ResponseComplete",
        "requestURI": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings?fieldManager=kubectl-create",
        "verb": "create",
        "user": {"username": user, "groups": ["system:authenticated"]},
        "sourceIPs": ["192.0.2.14"],
        "userAgent": "kubectl/v1.30.2 (linux/amd64)",
        "objectRef": {
            "resource": "clusterrolebindings",
            "name": f"binding-{number}",
            "apiGroup": "rbac.authorization.k8s.io",
            "apiVersion": "v1",
        },
        "responseStatus": {"metadata": {}, "code": code},
        "requestObject": {
            "kind": "ClusterRoleBinding",
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "metadata": {"name": f"binding-{number}"},
            "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": subject}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        },
        "requestReceivedTimestamp": f"2026-06-30T10:00:0{number}.100000Z",
        "stageTimestamp": f"2026-06-30T10:00:0{number}.200000Z",
    }


def attachment(number: int, user: str, policy: str, subject: str, error: str | None = None) -> dict[str, Any]:
    """Return what CloudTrail writes of a policy that somebody attaches to a user."""
    refused = {"errorCode": error, "errorMessage": f"User: {user} is not authorized"} if error else {}
    return {
        "eventVersion": "1.09",
        "userIdentity": {
            "type": "IAMUser",
            "principalId": "AIDAEXAMPLEEXAMPLE001",
            "arn": f"arn:aws:iam::111122223333:user/{user}",
            "accountId": "111122223333",
            "accessKeyId": "AKIAEXAMPLEEXAMPLE01",
            "userName": user,
        },
        "eventTime": f"2026-06-30T11:00:0{number}Z",
        "eventSource": "iam.amazonaws.com",
        "eventName": "AttachUserPolicy",
        "awsRegion": "us-east-1",
        "sourceIPAddress": "198.51.100.9",
        "userAgent": "aws-cli/2.17.0",
        **refused,
        "requestParameters": {"userName": subject, "policyArn": policy},
        "responseElements": None,
        "requestID": f"11111111-1111-4111-8111-{number:012}",
        "eventID": f"22222222-2222-4222-8222-{number:012}",
        "readOnly": False,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": "111122223333",
        "eventCategory": "Management",
    }


KUBERNETES: Final = (
    binding(1, "olga@example.com", "cluster-admin", "peter@example.com", 201),
    binding(2, "peter@example.com", "cluster-admin", "mallory@example.com", 403),
)
CLOUDTRAIL: Final = (
    attachment(1, "olga", "arn:aws:iam::aws:policy/AdministratorAccess", "peter"),
    attachment(2, "mallory", "arn:aws:iam::aws:policy/AdministratorAccess", "mallory", "AccessDenied"),
)
GRANTS: Final = """
CREATE ROLE reporting;
CREATE ROLE mallory LOGIN PASSWORD 'guess-me-not';
GRANT reporting TO mallory;
GRANT SELECT ON watched TO mallory;
SELECT note FROM watched;
CREATE TABLE gone (id int);
DROP TABLE gone;
"""


class Asked:
    """What the machine's agent stored, and how it is asked about.

    Attributes:
        site: The machine.
        originals: The lines as they were written, by source.
    """

    def __init__(self, site: Site, originals: dict[str, list[bytes]]) -> None:
        """Keep them."""
        self.site = site
        self.originals = originals

    def query(self, *options: str | Path) -> subprocess.CompletedProcess[str]:
        """Run `trailseal query`."""
        site = self.site
        words = [TRAILSEAL, "query", site.store, "--trust", site.folder / "trust.txt", "--index", site.folder / "index.duckdb", *options]
        environment = {**os.environ, "COLUMNS": "200"}
        return subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=50, check=False, env=environment)

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Return what a query in SQL finds."""
        done = self.query("--sql", sql, "--json")
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        return [dict(zip(document["columns"], row, strict=True)) if isinstance(row, list) else row for row in document["rows"]]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    folder = tmp_path_factory.mktemp("machine")
    with postgres("jsonlog") as server:
        server.run(GRANTS, ADMINISTRATOR)
        server.run("SELECT 1", "mallory", "wrong")
        server.run(
            "GRANT reporting TO mallory; GRANT ALL ON secrets TO mallory; GRANT ALL ON watched TO mallory;", "mallory", "guess-me-not"
        )
        server.stop()
        logs = {
            "postgres": server.log("jsonlog").read_bytes().splitlines(),
            "kubernetes": [json.dumps(line, separators=(",", ":")).encode() for line in KUBERNETES],
            "cloudtrail": [json.dumps(line, separators=(",", ":")).encode() for line in CLOUDTRAIL],
        }
    mappings = {"postgres": "postgresql-json", "kubernetes": "kubernetes-audit", "cloudtrail": "aws-cloudtrail"}
    site = Site(folder, catalog=SHIPPED, where=POD, sources=[
        {"id": name, "file": str(folder / "logs" / f"{name}.log"), "mapping": mapping} for name, mapping in mappings.items()
    ])  # fmt: skip
    for name, lines in logs.items():
        (site.logs / f"{name}.log").write_bytes(b"\n".join([*lines, b""]))
    size = sum(path.stat().st_size for path in site.logs.iterdir())
    with site.run() as agent:
        until(lambda: site.trails.accounted_bytes() == size, "everything is in the store")
        assert agent.stop() == 0
    assert site.verify().code == 0
    return Asked(site, logs)


def test_one_question_is_answered_across_three_formats(asked: Asked) -> None:
    found = [tuple(row.values()) for row in asked.rows(QUESTION)]
    admin = "arn:aws:iam::aws:policy/AdministratorAccess"
    assert [row for row in found if row[0] != "postgres"] == [
        ("cloudtrail", "olga", "role.grant", "peter", "success", admin),
        ("cloudtrail", "mallory", "role.grant", "mallory", "denied", admin),
        ("kubernetes", "olga@example.com", "role.grant", "peter@example.com", "success", "cluster-admin"),
        ("kubernetes", "peter@example.com", "role.grant", "mallory@example.com", "denied", "cluster-admin"),
    ]
    mine = [row for row in found if row[0] == "postgres" and row[3] == "mallory"]
    assert mine == [
        ("postgres", "admin", "role.grant", "mallory", "success", "reporting"),
        ("postgres", "admin", "permission.grant", "mallory", "success", "SELECT"),
        ("postgres", "mallory", "role.grant", "mallory", "denied", "reporting"),
        ("postgres", "mallory", "permission.grant", "mallory", "denied", "ALL"),
        # What pgaudit says of a statement that ran and granted nothing; the next test finds the server's own word for it.
        ("postgres", "mallory", "permission.grant", "mallory", "success", "ALL"),
    ]


def test_a_grant_that_grants_nothing_is_found_out_though_the_database_calls_it_a_success(asked: Asked) -> None:
    sql = "SELECT outcome, context->>'error' AS error FROM events WHERE source = 'postgres' AND context->>'error_code' = '01007'"
    assert asked.rows(sql) == [{"outcome": "denied", "error": 'no privileges were granted for "watched"'}]


def test_the_filters_find_the_same_without_sql(asked: Asked) -> None:
    done = asked.query("--action", "*.grant", "--outcome", "denied", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["events"]
    assert {(event["source"], event["event"]["actor"]["id"]) for event in found} == {
        ("cloudtrail", "mallory"),
        ("kubernetes", "peter@example.com"),
        ("postgres", "mallory"),
    }


def test_what_else_the_database_was_asked_is_there_too(asked: Asked) -> None:
    sql = "SELECT action, outcome, target_id FROM events WHERE source = 'postgres'"
    found = {(row["action"], row["outcome"]) for row in asked.rows(sql)}
    assert found >= {("auth.login", "denied"), ("auth.login", "success"), ("data.read", "success"), ("schema.drop", "success")}


def test_every_record_gives_the_original_line_back_byte_for_byte(asked: Asked) -> None:
    records = asked.site.trails.records()
    assert {record["kind"] for record in records} == {"event"}
    for name, lines in asked.originals.items():
        mine = [record for record in records if record["source"] == name]
        raw = [base64.b64decode(record["raw_base64"]) if "raw_base64" in record else record["raw"].encode() for record in mine]
        log = b"\n".join([*lines, b""])
        assert raw == [log[offset : offset + length] for offset, length in (record["at"] for record in mine)]
        assert len(mine) == sum(line in raw for line in lines) > 0
        if name != "postgres":
            assert raw == lines


def test_each_answer_says_who_where_and_what_made_it(asked: Asked) -> None:
    rows = asked.rows(
        "SELECT service, instance, host, container, mapping, client FROM events WHERE source = 'kubernetes' ORDER BY occurred_at"
    )
    assert {row["service"] for row in rows} == {"payments"}
    assert {row["instance"] for row in rows} == {"node-1"}
    assert all(row["host"] for row in rows)
    assert [json.loads(row["container"]) for row in rows] == [POD, POD]
    assert all(re.fullmatch(r"kubernetes-audit/[a-z-]+", row["mapping"]) for row in rows)
    assert all("context.user_agent" in row["client"] for row in rows)
    manifest = asked.site.trails.seals()[-1].manifest
    assert manifest.agent.where == Where(namespace="shop", pod="audit-0", node="node-7")
