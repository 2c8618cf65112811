"""Run Azurite, the emulator of Azure Blob Storage, on the loopback interface.

It is there for the protocol: conditional creation, listing, signatures, errors. It says nothing about immutability, which it does
not have, nor about durability: what it acknowledged may be lost when it is killed, because it writes its index down later.
`scripts/azurite.sh` installs it into the environment, unless it is there already.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import hashlib
import hmac
import http.client
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self
from urllib.parse import parse_qsl, urlsplit

from obstore.store import AzureStore

from tests.support.object_servers import Daemons, lasting_port

if TYPE_CHECKING:
    from collections.abc import Mapping

ACCOUNT: Final = "devstoreaccount1"
KEY: Final = base64.b64encode(hashlib.sha512(b"a made-up account of the tests").digest()).decode()
"""The account's key, which Azurite takes from its environment."""

INSTALLATION_SECONDS: Final = 300.0
_INSTALL: Final = Path(__file__).parents[3] / "scripts" / "azurite.sh"


class Response(NamedTuple):
    """Be one answer: status, headers in small letters, body."""

    status: int
    headers: dict[str, str]
    body: bytes


def install() -> str:
    """Return the program's path, after installing it if need be, which takes half a minute."""
    environment = {**os.environ, "VENV": sys.prefix}
    done = subprocess.run([_INSTALL], capture_output=True, text=True, timeout=INSTALLATION_SECONDS, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Azurite:
    """Be one Blob server of its own; leaving the `with` block ends it."""

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        """Name the folder that holds everything, and the port if it matters; nothing is started yet."""
        self.folder = folder
        self.port: Final = port or lasting_port()
        self.account: Final = ACCOUNT
        self.key: Final = KEY
        self.endpoint: Final = f"http://127.0.0.1:{self.port}/{ACCOUNT}"
        self._daemons = Daemons(folder / "logs", {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"})

    def __enter__(self) -> Self:
        """Start it; return when requests are answered."""
        self._program = install()
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._daemons)
            self.start()
            self._end = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Kill it; the folder keeps its log."""
        self._end.close()

    def start(self) -> None:
        """Start it on the data that is there, and wait until requests are answered."""
        # It reports to its makers unless told not to.
        options = ("--disableTelemetry", "--blobHost", "127.0.0.1", "--blobPort", str(self.port), "--location", str(self.folder))
        self._daemons.start("azurite", self._program, *options)
        self._daemons.wait(self._answers, f"Azurite answers at {self.endpoint}")

    def stop(self) -> None:
        """End it in order, so that it keeps what it has."""
        self._daemons.end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it, as a power cut would; containers and blobs of the last seconds are gone then."""
        self._daemons.end(signal.SIGKILL)

    def container(self, name: str) -> str:
        """Make a container; return its name (3 to 63 small letters, digits and hyphens)."""
        done = self.request("PUT", f"/{name}?restype=container")
        assert done.status == http.client.CREATED, done
        return name

    def store(self, container: str, prefix: str | None = None, **config: Any) -> AzureStore:
        """Return obstore's store on a container, without retries; `config` replaces settings."""
        settings: dict[str, Any] = {
            "account_name": self.account,
            "account_key": self.key,
            "endpoint": self.endpoint,
            "client_options": {"allow_http": True},
            "retry_config": {"max_retries": 0},
            **config,
        }
        return AzureStore(container, prefix=prefix, **settings)

    def request(self, method: str, target: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Response:
        """Ask the server something obstore cannot, signed with the account's key; `target` is the path below the account."""
        now = dt.datetime.now(dt.UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        sent = {"x-ms-date": now, "x-ms-version": "2021-12-02", **(headers or {})}
        sent["Authorization"] = f"SharedKey {self.account}:{self._signature(method, target, len(body), sent)}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10.0)
        with contextlib.closing(connection):
            connection.request(method, f"/{self.account}{target}", body, {**sent, "Content-Length": str(len(body))})
            answer = connection.getresponse()
            return Response(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())

    def _signature(self, method: str, target: str, length: int, headers: Mapping[str, str]) -> str:
        """Sign as "Authorize with Shared Key" of the Azure Storage REST reference says, for versions since 2015-02-21."""
        lowered = {name.lower(): value for name, value in headers.items()}
        plain = [lowered.get(name, "") for name in ("content-encoding", "content-language")]
        plain += [str(length) if length else ""]
        names = ("content-md5", "content-type", "date", "if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range")
        plain += [lowered.get(name, "") for name in names]
        own = [f"{name}:{value}" for name, value in sorted(lowered.items()) if name.startswith("x-ms-")]
        parts = urlsplit(target)
        # The account stands twice, because it is a part of the path here and not of the host's name.
        resource = [f"/{self.account}/{self.account}{parts.path}"]
        resource += [f"{name}:{value}" for name, value in sorted(parse_qsl(parts.query, keep_blank_values=True))]
        text = "\n".join([method, *plain, *own, *resource])
        return base64.b64encode(hmac.digest(base64.b64decode(self.key), text.encode(), "sha256")).decode()

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.request("GET", "/?comp=list").status == http.client.OK
        return False
