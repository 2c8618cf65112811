"""The command `keygen`: an enrolment key, with which a service vouches for the keys of its epochs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from ..errors import ConfigError
from ..trail.layout import is_name
from ..trail.note import SigningKey

if TYPE_CHECKING:
    from pathlib import Path


@click.command()
@click.argument("service")
@click.option("--out", "-o", "out", required=True, metavar="FILE", help="Where the private key goes (mode 0600, never overwritten).")
def keygen(service: str, out: str) -> None:
    """Make an enrolment key for SERVICE, written as namespace/service.

    The private key goes to FILE, for `enrolment_key:` in the agent's configuration. The line printed is the public half:
    an auditor's trust file needs this one line for all instances and all epochs of the service, now and later.

    \b
    Example:
      trailseal keygen demo/payments --out /etc/trailseal/payments.key >> trust.txt
    """
    parts = service.split("/")
    if len(parts) != 2 or not all(is_name(part) for part in parts):
        message = f"{service!r} is not namespace/service (lower-case letters, digits, dots, hyphens, underscores)"
        raise ConfigError(message, hint="Use the `namespace` and `service` of the configuration, for example demo/payments.")
    key = SigningKey.from_seed(service, os.urandom(32))
    _write_private(out, key.encode() + "\n")
    click.echo(f"{service}/*/* {key.verifier}")
    click.echo(f"The private key is in {out}; set `enrolment_key: {out}` and keep no other copy.", err=True)


def _write_private(path: str | Path, text: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        message = f"{path} exists, and a key is never overwritten"
        raise ConfigError(message, hint="Choose another name, or move the old key away yourself.") from error
    except OSError as error:
        message = f"cannot write {path}: {error.strerror}"
        raise ConfigError(message) from error
    with os.fdopen(fd, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
