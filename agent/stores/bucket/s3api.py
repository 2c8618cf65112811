"""S3's own API, for those who have to know more of a bucket than an agent does: versions, retention, the bucket's settings.

The client is aiobotocore's, from the extra ``attest``; it is loaded where it is used and never by an agent that ships. Credentials
come by the same chain as in access.py, and by what Amazon's library can work out besides: assumed roles, single sign-on.

Invariants: nothing is connected to before the first request; a request is tried three times at most. It must not decide anything.
"""

from __future__ import annotations

import contextlib
import importlib
import ssl
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ... import __version__
from ...errors import ConfigError
from .access import CONNECT_SECONDS, OTHER_REGION, REQUEST_SECONDS
from .words import Answer, one_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from .access import Access

MAX_ATTEMPTS: Final = 3
_MISSING: Final = "this needs the library aiobotocore, which is not installed"
_MISSING_HINT: Final = "Install Trailseal with its extra: pip install 'trailseal[attest]'."


@asynccontextmanager
async def s3_client(access: Access, *, attempts: int = MAX_ATTEMPTS) -> AsyncIterator[Any]:
    """Yield an S3 client of aiobotocore for a bucket; keys are whole, with the prefix of the bucket's address.

    Args:
        access: How the bucket is reached; `Access.complete` has been applied.
        attempts: How often a request is tried at most.

    Raises:
        ConfigError: It is not an S3 bucket, the extra is not installed, or the profile or the certificates cannot be used.
    """
    if access.address.provider != "s3":
        message = f"{access.address} is not an S3 bucket"
        raise ConfigError(message, hint="Only S3 shows what is asked for here.")
    try:
        session_module, config_module = importlib.import_module("aiobotocore.session"), importlib.import_module("aiobotocore.config")
    except ImportError as error:
        raise ConfigError(_MISSING, hint=_MISSING_HINT) from error
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415  a part of the extra

    options: dict[str, Any] = {
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": REQUEST_SECONDS,
        "retries": {"mode": "standard", "total_max_attempts": attempts},
        "user_agent_extra": f"trailseal/{__version__}",
    }
    region = access.region
    if access.endpoint is not None:
        region = region or OTHER_REGION
        # Servers other than Amazon's often know neither buckets as host names nor the newer checksums in trailers.
        options |= {
            "s3": {"addressing_style": "path"},
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }
    with _trusted(access.ca_file) as bundle:
        try:
            session = session_module.AioSession(profile=access.profile)
            made = session.create_client(
                "s3", region_name=region, endpoint_url=access.endpoint, verify=bundle, config=config_module.AioConfig(**options)
            )
            client = await made.__aenter__()
        except (BotoCoreError, ValueError) as error:
            message = f"cannot open {access.address}: {one_line(str(error))}"
            raise ConfigError(message, hint="Look at the profile and the region.") from error
        try:
            yield client
        finally:
            await made.__aexit__(None, None, None)


@contextlib.contextmanager
def _trusted(ca_file: str | None) -> Iterator[str | None]:
    """Yield the path of the system's certificates and those of a file in one, as the library knows only one file."""
    if ca_file is None:
        yield None
        return
    with tempfile.NamedTemporaryFile(prefix="trailseal-certificates-", suffix=".pem") as bundle:
        try:
            for path in (ssl.get_default_verify_paths().cafile, ca_file):
                bundle.write(Path(path).read_bytes() + b"\n" if path else b"")
        except OSError as error:
            raise ConfigError(f"cannot read the certificates: {error.strerror}", file=ca_file) from error
        bundle.flush()
        yield bundle.name


def read_client_error(error: Exception) -> Answer:
    """Return what an exception of the client says: the server's status, code and words, or why there was no answer.

    Args:
        error: A ``ClientError`` or ``BotoCoreError`` of botocore, or what a connection raises.
    """
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return Answer(None, "", one_line(str(error) or type(error).__name__))
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    said = response.get("Error", {})
    code, message = str(said.get("Code", "")), str(said.get("Message", ""))
    shown = [str(status or ""), code if code != str(status) else "", "" if message in ("None", "UnknownError") else message]
    return Answer(status, code, one_line(": ".join(part for part in shown if part)))
