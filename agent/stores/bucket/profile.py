"""The keys in AWS's credentials file, where the library that ships does not look.

Only what can be read is used: an access key and its secret, a session's token, a region. A profile that has to be worked out (single
sign-on, an assumed role, a program to run) is refused by name, because carrying Amazon's whole client library for it would cost every
agent more memory than the agent itself needs.
"""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from ...errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_CREDENTIALS_FILE: Final = "AWS_SHARED_CREDENTIALS_FILE"
_CONFIG_FILE: Final = "AWS_CONFIG_FILE"
_KEYS: Final = {"aws_access_key_id": "access_key_id", "aws_secret_access_key": "secret_access_key", "aws_session_token": "session_token"}
_WORKED_OUT: Final = ("sso_session", "sso_start_url", "role_arn", "credential_process", "web_identity_token_file")
_EARLIER: Final = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
"""What stands for credentials before the file does, where no profile is named."""


class Profile(msgspec.Struct, frozen=True):
    """Be what a profile gives.

    Attributes:
        name: Its name.
        credentials: ``access_key_id``, ``secret_access_key`` and perhaps ``session_token``.
        region: Its region, or None.
    """

    name: str
    credentials: dict[str, str]
    region: str | None


def find_profile(name: str | None, environ: Mapping[str, str]) -> Profile | None:
    """Return the profile to use; None if credentials come from elsewhere.

    Args:
        name: The profile that the configuration names, or None.
        environ: The environment: AWS_PROFILE names one too, and two variables name the files.

    Raises:
        ConfigError: A profile that was named is not there, or is of a kind that has to be worked out.
    """
    wanted = name or environ.get("AWS_PROFILE")
    if wanted is None and any(environ.get(variable) for variable in _EARLIER):
        return None
    if name is None and environ.get("AWS_ACCESS_KEY_ID"):
        # As in Amazon's own tools, keys in the environment go before AWS_PROFILE; only a profile of the configuration goes before them.
        return None
    paths = profile_files(environ)
    chosen = wanted or "default"
    found = _section(paths[0], chosen), _section(paths[1], chosen if chosen == "default" else f"profile {chosen}")
    merged = {**found[1], **found[0]}
    credentials = {ours: merged[theirs] for theirs, ours in _KEYS.items() if theirs in merged}
    if {"access_key_id", "secret_access_key"} <= credentials.keys():
        return Profile(chosen, credentials, merged.get("region"))
    if wanted is None:
        return None
    kind = next((key for key in _WORKED_OUT if key in merged), None)
    if kind is not None:
        hint = "Give the agent keys of its own, a web identity (Kubernetes) or an instance's role, or export credentials from the profile."
        raise ConfigError(f"the AWS profile {chosen} has to be worked out ({kind}), which the agent does not do", hint=hint)
    message = f"there is no AWS profile {chosen} with an access key"
    raise ConfigError(message, hint=f"Looked in {paths[0]} and {paths[1]}, as {_CREDENTIALS_FILE}, {_CONFIG_FILE} and HOME say.")


def profile_files(environ: Mapping[str, str]) -> tuple[Path, Path]:
    """Return where AWS's credentials and its configuration are looked for."""
    home = Path(environ.get("HOME") or "/")
    credentials, config = environ.get(_CREDENTIALS_FILE), environ.get(_CONFIG_FILE)
    return Path(credentials) if credentials else home / ".aws/credentials", Path(config) if config else home / ".aws/config"


def _section(path: Path, name: str) -> dict[str, str]:
    """Return one section of a file; empty if there is none."""
    parser = configparser.RawConfigParser(default_section="")
    try:
        parser.read_string(path.read_text(encoding="utf-8"), str(path))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    except (configparser.Error, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read as a file of AWS profiles: {str(error).partition(chr(10))[0]}", file=str(path)) from error
    return dict(parser[name]) if name in parser else {}
