"""The command `keygen`: an enrolment key, with which a service vouches for the keys of its epochs; or a key of pseudonyms.

Invariants: a private key is readable for its owner alone from its first byte on, is never overwritten, and never printed.
"""

from __future__ import annotations

import os
from base64 import b64encode
from typing import TYPE_CHECKING

import click

from ..errors import ConfigError
from ..trail.layout import is_name
from ..trail.note import SigningKey

if TYPE_CHECKING:
    from pathlib import Path

PSEUDONYM_KEY_BYTES = 32


@click.command()
@click.argument("service", required=False)
@click.option("--out", "-o", "out", metavar="FILE", help="Where the private key goes (mode 0600, never overwritten).")
@click.option("--pseudonym", metavar="FILE", help="Make a key of pseudonyms instead; it goes to FILE, likewise.")
def keygen(service: str | None, out: str | None, pseudonym: str | None) -> None:
    """Make an enrolment key for SERVICE, written as namespace/service.

    The private key goes to FILE, for `enrolment_key:` in the agent's configuration. The line printed is the public half:
    an auditor's trust file needs this one line for all instances and all epochs of the service, now and later.

    With --pseudonym it is a key of redaction, for `redaction: {key_file: FILE}` in the agent's configuration, and for
    whoever may find people by their pseudonyms: `trailseal query --pseudonym-key FILE`. Its id is printed.

    \b
    Examples:
      trailseal keygen demo/payments --out /etc/trailseal/payments.key >> trust.txt
      trailseal keygen --pseudonym /etc/trailseal/pseudonym.key
    """
    if pseudonym is not None:
        if service is not None or out is not None:
            raise click.UsageError("--pseudonym makes a key of its own, without a service and --out")
        _pseudonym_key(pseudonym)
        return
    if service is None or out is None:
        raise click.UsageError("give a SERVICE and --out FILE, or --pseudonym FILE")
    _enrolment_key(service, out)


def _enrolment_key(service: str, out: str) -> None:
    parts = service.split("/")
    if len(parts) != 2 or not all(is_name(part) for part in parts):
        message = f"{service!r} is not namespace/service (lower-case letters, digits, dots, hyphens, underscores)"
        raise ConfigError(message, hint="Use the `namespace` and `service` of the configuration, for example demo/payments.")
    key = SigningKey.from_seed(service, os.urandom(32))
    _write_private(out, key.encode() + "\n")
    click.echo(f"{service}/*/* {key.verifier}")
    click.echo(f"The private key is in {out}; set `enrolment_key: {out}` and keep no other copy.", err=True)


def _pseudonym_key(path: str) -> None:
    from ..events.redaction import PseudonymKey

    key = PseudonymKey(os.urandom(PSEUDONYM_KEY_BYTES))
    _write_private(path, b64encode(key.secret).decode("ascii") + "\n")
    click.echo(key.id)
    click.echo(
        f"The key {key.id} is in {path}; set `redaction: {{key_file: {path}}}`. Who has it can tell whom a pseudonym means.", err=True
    )


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
