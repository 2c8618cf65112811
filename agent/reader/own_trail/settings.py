"""Where the reader's own trail lives, and the configuration with which an ordinary agent writes it.

A folder holds all of it: the configuration (`agent.yaml`), the agent's state, its log, a lock, and the socket where there is one.

Invariants: the folder is made for the user alone (0700), and so are the files in it (0600), whatever the umask; one process at a time
writes the configuration and runs the agent; no path or name is taken for a variable (`$`) by the configuration's reader. This module must
not start anything.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ...errors import ConfigError, StateInUseError
from ..opening import Reach
from .events import OWN_CATALOG

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMESPACE: Final = "trailseal"
MAX_SOCKET_PATH_BYTES: Final = 107
"""What fits into ``sockaddr_un`` with the NUL behind it (unix(7))."""
_NAME_CHARACTERS: Final = 16
_LOCK_STEP_SECONDS: Final = 0.05
_NOT_FOR_THE_CHILD: Final = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "TRAILSEAL_RELAY")
"""The child must not speak to our service manager in our name, nor take itself for a worker of somebody else's relay."""


def default_folder(service: str, store: str) -> Path:
    """Return the default folder of a trail of our own: below ``$XDG_STATE_HOME`` or ``~/.local/state``, one for each store.

    A trail lies in one store: one folder for two would leave each of them with half of its batches.
    """
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return state / "trailseal" / service / sha256(os.fsencode(store)).hexdigest()[:_NAME_CHARACTERS]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTrail:
    """Say where our own events are recorded, and under which name.

    Attributes:
        store: The folder or the bucket's URL (``s3://``, ``gs://``, ``az://``).
        service: The second part of the origin, such as ``reviews`` or ``view``.
        namespace: The first part.
        instance: The last part; this machine's name by default.
        folder: The folder of configuration, state and log; `default_folder` by default, one for each store.
        reach: How a bucket is reached.
        allow_unlocked: Whether a bucket without a retention lock will do.
        enrolment_key: The key that certifies the trail's own key, or None.
        max_age_seconds: How long an event waits at most until it is sealed.
        heartbeat_seconds: How often a long-running agent seals an empty batch.
        grace_seconds: How long an orderly end may wait for the store.
        umask: The agent's, which bounds who may look into the folders of a store; -1: this process's. The agent's state is for its
            owner alone in any case.
    """

    store: str
    service: str
    namespace: str = NAMESPACE
    instance: str = field(default_factory=socket.gethostname)
    folder: Path | None = None
    reach: Reach = field(default_factory=Reach)
    allow_unlocked: bool = False
    enrolment_key: Path | None = None
    max_age_seconds: float = 1.0
    heartbeat_seconds: float = 60.0
    grace_seconds: float = 25.0
    umask: int = -1

    @property
    def home(self) -> Path:
        """The folder of configuration, state and log, absolute."""
        return (default_folder(self.service, self.place) if self.folder is None else self.folder).absolute()

    @property
    def place(self) -> str:
        """The store under a name that is the same from every folder."""
        return self.store if "://" in self.store else str(Path(self.store).resolve())

    @property
    def config_file(self) -> Path:
        """The configuration that is written for the agent."""
        return self.home / "agent.yaml"

    @property
    def log_file(self) -> Path:
        """What the agent says, as JSON lines."""
        return self.home / "agent.log"

    @property
    def process_file(self) -> Path:
        """The process id of a long-running agent."""
        return self.home / "agent.pid"

    @property
    def socket_path(self) -> Path:
        """Where a long-running agent takes events.

        Raises:
            ConfigError: The path is too long for a socket.
        """
        path = self.home / "events.sock"
        if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
            raise ConfigError(f"{path} is too long for a socket: at most {MAX_SOCKET_PATH_BYTES} bytes", hint="Name a shorter folder.")
        return path

    def configuration(self, source: dict[str, Any]) -> dict[str, Any]:
        """Return the agent's configuration with one source."""
        return {
            "namespace": self.namespace,
            "service": self.service,
            "instance": self.instance,
            "state": str(self.home / "state"),
            "sources": [{"id": self.service, "audit": {"all": True}, **source}],
            "catalog": OWN_CATALOG,
            "observability": "none",
            "seal": {"max_age": f"{self.max_age_seconds}s", "heartbeat": f"{self.heartbeat_seconds}s"},
            "spool": {"max_bytes": "256MiB", "when_full": "block"},
            "stores": [{"id": "main", "required": True, **self._store()}],
            "vitals": {"listen": "none"},
            **({} if self.enrolment_key is None else {"enrolment_key": str(self.enrolment_key.absolute())}),
            "shutdown_grace": f"{self.grace_seconds}s",
            "log": {"level": "info"},
            "reload": "on_signal",
        }

    def _store(self) -> dict[str, Any]:
        if "://" not in self.store:
            return {"directory": str(Path(self.store).absolute())}
        named = {"endpoint": self.reach.endpoint, "region": self.reach.region, "profile": self.reach.profile, "ca_file": self.reach.ca_file}
        unlocked = {"allow_unlocked": True} if self.allow_unlocked else {}
        return {"bucket": self.store, **{key: value for key, value in named.items() if value is not None}, **unlocked}

    def prepare(self, source: dict[str, Any]) -> None:
        """Make the folder and write the configuration.

        Raises:
            ConfigError: The folder cannot be made or written, or its trail lies in another store.
        """
        text = json.dumps(_literal(self.configuration(source)), indent=1, ensure_ascii=False)
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._claim()
            new = self.config_file.with_suffix(".new")
            with open(new, "w", encoding="utf-8", opener=for_owner) as file:
                file.write(f"# Written by trailseal for the trail of its own events; changes are lost.\n{text}\n")
            new.replace(self.config_file)
        except OSError as error:
            raise ConfigError(f"cannot write in {self.home}: {error.strerror}", hint="Name a folder that you can write.") from error
        except UnicodeEncodeError as error:
            raise ConfigError(f"a path is no text: {error.reason}", hint="Name paths in UTF-8.") from error

    def _claim(self) -> None:
        """See that the folder's trail has never been written to another store, and remember this one."""
        remembered = self.home / "store"
        try:
            known = os.fsdecode(remembered.read_bytes())
        except FileNotFoundError:
            with open(remembered, "wb", opener=for_owner) as file:
                file.write(os.fsencode(self.place))
            return
        if known != self.place:
            raise ConfigError(
                f"the trail of {self.home} lies in {known}, and cannot go on in {self.place}",
                hint="Name another folder for its state: a trail that is spread over two stores verifies in neither.",
            )

    @contextmanager
    def alone(self, patience_seconds: float) -> Iterator[None]:
        """Hold the folder for this process, waiting for another one if need be.

        Raises:
            StateInUseError: Another process has held it all the time.
            ConfigError: The folder cannot be made or written.
        """
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise ConfigError(f"cannot write in {self.home}: {error.strerror}", hint="Name a folder that you can write.") from error
        try:
            end = time.monotonic() + patience_seconds
            while not _locked(lock):
                if time.monotonic() >= end:
                    raise StateInUseError(f"another trailseal is using {self.home}")
                time.sleep(_LOCK_STEP_SECONDS)
            yield
        finally:
            os.close(lock)


def for_owner(path: str, flags: int) -> int:
    """Open a file so that one that is new can be read by its owner alone: an opener for `open`."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _literal(value: Any) -> Any:
    """Return a value in which no text is taken for a variable."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, dict):
        return {key: _literal(each) for key, each in value.items()}
    return [_literal(each) for each in value] if isinstance(value, list) else value


def agent_command(command: str, settings: OwnTrail) -> list[str]:
    """Return the words that start this very program as an agent; ``-P``: whatever the working folder holds."""
    return [sys.executable, "-P", "-m", "agent", command, "--config", str(settings.config_file)]


def agent_environment() -> dict[str, str]:
    """Return the environment for it: ours, with the credentials in it, but for what is meant for us alone."""
    return {key: value for key, value in os.environ.items() if key not in _NOT_FOR_THE_CHILD}
