"""Run a real Prometheus and a real Alertmanager on the shipped alert rules, and hear at a webhook what a person would hear.

The shipped rules wait for minutes. `scaled` makes the file under test out of the shipped one by this substitution, and by
nothing else: every duration of an expression or of a `for` is divided by the scale; so is `SPAN`, a window written in seconds;
`LAG`, which says how old records may be, is divided by 20 at most, because agents on a busy machine cannot be faster by any factor.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from ruamel.yaml import YAML

from agent.reader.watch.judge import Report
from agent.reader.watch.keep import Board
from tests.support.agent_process import PATIENCE_SECONDS, free_port, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT: Final = Path(__file__).parents[2]
RULES: Final = ROOT / "deploy" / "prometheus" / "trailseal-rules.yaml"
DASHBOARD: Final = ROOT / "deploy" / "grafana" / "trailseal.json"
SPAN: Final = re.compile(r"(?<=trailseal_start_timestamp_seconds < )900\b")
LAG: Final = re.compile(r"(?<=trailseal_store_lag_seconds > )60\b")
SLOWEST_LAG: Final = 20.0
_DURATION: Final = re.compile(r"(?<![\w.])(\d+)([smhd])\b")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SELECTOR: Final = re.compile(r"([a-zA-Z_:][\w:]*)?\{([^}]*)\}")
_GROUPING: Final = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
_NAME: Final = re.compile(r"(?<![\w.:$])[a-zA-Z_:][\w:]*(?!\s*\(|[\w:])")
_WORDS: Final = {"and", "or", "unless", "offset", "Inf", "by", "without", "on", "ignoring"}


def groups(path: Path = RULES) -> list[dict[str, Any]]:
    """Return the groups of a rule file as plain data."""
    loaded: dict[str, Any] = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    assert list(loaded) == ["groups"]
    found: list[dict[str, Any]] = loaded["groups"]
    return found


def rules(path: Path = RULES) -> list[dict[str, Any]]:
    """Return all rules of a file, those that record and those that alert."""
    return [rule for group in groups(path) for rule in group["rules"]]


def alerts(path: Path = RULES) -> dict[str, dict[str, Any]]:
    """Return the alerts by name; no name may be there twice."""
    found = [rule for rule in rules(path) if "alert" in rule]
    by_name = {rule["alert"]: rule for rule in found}
    assert len(by_name) == len(found)
    return by_name


def scaled(scale: float) -> dict[str, Any]:
    """Return the shipped rules with their times divided by a scale, as described above."""

    def shorter(found: re.Match[str]) -> str:
        return f"{max(1, round(int(found[1]) * _UNITS[found[2]] * 1000 / scale))}ms"

    def divide(expr: str) -> str:
        expr = _DURATION.sub(shorter, expr)
        expr = SPAN.sub(lambda found: f"{int(found[0]) / scale:g}", expr)
        return LAG.sub(lambda found: f"{int(found[0]) / min(scale, SLOWEST_LAG):g}", expr)

    parts = groups()
    for group in parts:
        for rule in group["rules"]:
            rule["expr"] = divide(rule["expr"])
            if "for" in rule:
                rule["for"] = _DURATION.sub(shorter, rule["for"])
    return {"groups": parts}


def metrics_in(expr: str) -> set[str]:
    """Return the names of the series in a PromQL expression."""
    bare = re.sub(r"\[[^\]]*\]", "", _GROUPING.sub("", _SELECTOR.sub(r"\1 ", expr)))
    return set(_NAME.findall(bare)) - _WORDS


def labels_in(expr: str) -> set[str]:
    """Return the labels that a PromQL expression selects or groups by."""
    selected = {word for _, inner in _SELECTOR.findall(expr) for word in re.findall(r"(\w+)\s*(?:=|!)", re.sub(r'"[^"]*"', "", inner))}
    return selected | {word.strip() for inner in _GROUPING.findall(expr) for word in inner.split(",")}


def panels() -> list[dict[str, Any]]:
    """Return the dashboard's panels without the rows' headings."""
    return [panel for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"] if panel["type"] != "row"]


def queries() -> list[tuple[str, str, str]]:
    """Return the dashboard's queries: the panel's title, the expression, the legend."""
    return [(panel["title"], target["expr"], target["legendFormat"]) for panel in panels() for target in panel["targets"]]


def with_values(expr: str) -> str:
    """Return a query of the dashboard as Grafana sends it when everything is chosen."""
    return re.sub(r"\$(?:job|instance|source|store)\b", ".*", expr.replace("$__rate_interval", "1m"))


def of_the_watch() -> dict[str, set[str]]:
    """Return the metrics that `trailseal watch` exports, with their labels."""
    board = Board()
    board.show(Report(datetime.now(UTC), (), (), ()), 0.0)
    found = {}
    for family in board.registry.collect():
        labels = set(getattr(family, "_labelnames", ())) | {label for sample in family.samples for label in sample.labels}
        found[family.name + ("_total" if family.type == "counter" else "")] = labels
    return found


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Prometheus' own tool to its end."""
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)


class Notice(NamedTuple):
    """Be one alert of one message to the webhook.

    Attributes:
        labels: Its labels.
        annotations: Its annotations, filled in.
        firing: Whether it fires; if not, it is resolved.
        started: When Prometheus says that it began to fire, seconds since the epoch.
        heard: When the message came in, seconds since the epoch.
    """

    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    firing: bool
    started: float
    heard: float

    @property
    def name(self) -> str:
        """Return the alert's name."""
        return self.labels["alertname"]


class Webhook:
    """Be whom Alertmanager tells; keeps everything it hears."""

    def __init__(self) -> None:
        """Listen on a port of the loopback address."""
        self._heard: list[Notice] = []
        hook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                hook.take(body, time.time())
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="webhook", daemon=True)
        self._thread.start()

    def take(self, message: Mapping[str, Any], heard: float) -> None:
        """Keep the alerts of a message."""
        for one in message["alerts"]:
            started = datetime.fromisoformat(one["startsAt"]).timestamp()
            self._heard.append(Notice(one["labels"], one["annotations"], one["status"] == "firing", started, heard))

    def heard(self, instance: str, alert: str | None = None) -> list[Notice]:
        """Return what was heard about an instance, in order."""
        return [one for one in list(self._heard) if one.labels.get("instance") == instance and alert in {None, one.name}]

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Monitoring:
    """Be a Prometheus, an Alertmanager and a webhook; leaving the `with` block ends all three."""

    def __init__(self, folder: Path, targets: Mapping[str, int], watch: int, *, scale: float, interval_seconds: float) -> None:
        """Write the files.

        Args:
            folder: Where the servers keep what they have.
            targets: The agents' ports on the loopback address, by instance.
            watch: The port of a `trailseal watch`.
            scale: By how much the rules' times are divided; 1 takes the shipped file as it is.
            interval_seconds: How often the agents are scraped and the rules evaluated.
        """
        self.webhook = Webhook()
        self._folder = folder
        self._ports = {"prometheus": free_port(), "alertmanager": free_port()}
        interval = f"{round(interval_seconds * 1000)}ms"
        rule_file = RULES
        if scale != 1:
            rule_file = folder / "rules.yaml"
            rule_file.write_text(json.dumps(scaled(scale), indent=1), encoding="utf-8")
        manager = [{"static_configs": [{"targets": [f"127.0.0.1:{self._ports['alertmanager']}"]}]}]
        agents = [{"targets": [f"127.0.0.1:{port}"], "labels": {"instance": name}} for name, port in targets.items()]
        prometheus = {
            "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
            "rule_files": [str(rule_file)],
            "alerting": {"alertmanagers": manager},
            "scrape_configs": [
                {"job_name": "trailseal", "static_configs": agents},
                {"job_name": "trailseal-watch", "honor_labels": True, "static_configs": [{"targets": [f"127.0.0.1:{watch}"]}]},
            ],
        }
        # Each alert is told by itself and at once: what is measured is how long the rules take, not how patient a route is.
        route = {"receiver": "hook", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s", "repeat_interval": "10h"}
        hook = {"url": f"http://127.0.0.1:{self.webhook.port}/", "send_resolved": True}
        receivers = [{"name": "hook", "webhook_configs": [hook]}]
        (folder / "prometheus.yml").write_text(json.dumps(prometheus), encoding="utf-8")
        (folder / "alertmanager.yml").write_text(json.dumps({"route": route, "receivers": receivers}), encoding="utf-8")
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Start both servers and wait until they are ready."""
        folder = self._folder
        with self._stack as stack:
            stack.callback(self.webhook.close)
            stack.enter_context(alertmanager(folder, folder / "alertmanager.yml", self._ports["alertmanager"]))
            port, storage = self._ports["prometheus"], f"--storage.tsdb.path={folder}/tsdb"
            stack.enter_context(_served(folder, port, "prometheus", f"--config.file={folder}/prometheus.yml", storage))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End the servers."""
        self._stack.close()

    def ask(self, path: str, **query: str) -> Any:
        """Return the data of an answer of Prometheus' HTTP interface."""
        url = f"http://127.0.0.1:{self._ports['prometheus']}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as response:
            return json.load(response)["data"]

    def value(self, expr: str) -> float | None:
        """Return the value of an expression that has one series at most."""
        found = self.ask("query", query=expr)["result"]
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else None

    def problems(self) -> Iterator[str]:
        """Yield the rules that could not be evaluated, or were not yet."""
        for group in self.ask("rules")["groups"]:
            for rule in group["rules"]:
                if rule["health"] != "ok":
                    yield f"{rule['name']}: {rule['health']} {rule.get('lastError', '')}"


@contextlib.contextmanager
def alertmanager(folder: Path, config: Path, port: int) -> Iterator[None]:
    """Run an Alertmanager for the block."""
    with _served(
        folder,
        port,
        "prometheus-alertmanager",
        f"--config.file={config}",
        f"--storage.path={folder}/alertmanager",
        "--cluster.listen-address=",
    ):
        yield


@contextlib.contextmanager
def _served(folder: Path, port: int, program: str, *arguments: str) -> Iterator[None]:
    """Run a server for the block, which begins when it is ready."""
    with (folder / f"{program}.log").open("wb") as log:
        command = [program, f"--web.listen-address=127.0.0.1:{port}", *arguments]
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        until(lambda: _is_ready(port), f"a {program} that is ready")
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def _is_ready(port: int) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5) as response:
        return bool(response.status == http.HTTPStatus.OK)
    return False
