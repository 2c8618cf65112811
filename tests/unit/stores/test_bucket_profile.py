"""AWS's credentials file: what is found in it, in which order it is looked for, and what is refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.errors import ConfigError
from agent.stores.bucket.profile import Profile, find_profile

if TYPE_CHECKING:
    from pathlib import Path

KEYS = {"access_key_id": "AK", "secret_access_key": "SK"}
STATIC = "aws_access_key_id = AK\naws_secret_access_key = SK\n"


def home(tmp_path: Path, credentials: str = "", config: str = "") -> dict[str, str]:
    folder = tmp_path / ".aws"
    folder.mkdir()
    (folder / "credentials").write_text(credentials)
    (folder / "config").write_text(config)
    return {"HOME": str(tmp_path)}


def test_a_profile_named_in_the_configuration_goes_before_the_environment(tmp_path: Path) -> None:
    environ = home(tmp_path, f"[audit]\n{STATIC}aws_session_token = T%T\n", "[profile audit]\nregion = eu-central-1\n")
    found = find_profile("audit", {**environ, "AWS_ACCESS_KEY_ID": "OTHER"})
    assert found == Profile("audit", {**KEYS, "session_token": "T%T"}, "eu-central-1")


def test_keys_in_the_environment_go_before_aws_profile_and_the_file(tmp_path: Path) -> None:
    environ = home(tmp_path, f"[default]\n{STATIC}[other]\n{STATIC}")
    assert find_profile(None, {**environ, "AWS_ACCESS_KEY_ID": "X"}) is None
    assert find_profile(None, {**environ, "AWS_ACCESS_KEY_ID": "X", "AWS_PROFILE": "other"}) is None


def test_aws_profile_goes_before_a_web_identity_and_that_before_the_default_profile(tmp_path: Path) -> None:
    environ = home(tmp_path, f"[default]\n{STATIC}[other]\n{STATIC}") | {"AWS_WEB_IDENTITY_TOKEN_FILE": "/token"}
    assert find_profile(None, environ) is None
    named = find_profile(None, {**environ, "AWS_PROFILE": "other"})
    assert named is not None
    assert named.name == "other"


def test_the_default_profile_is_used_where_nothing_else_is_said(tmp_path: Path) -> None:
    found = find_profile(None, home(tmp_path, f"[default]\n{STATIC}", "[default]\nregion = x\n"))
    assert found == Profile("default", KEYS, "x")


def test_no_file_means_the_chain_goes_on(tmp_path: Path) -> None:
    assert find_profile(None, {"HOME": str(tmp_path)}) is None
    assert find_profile(None, {}) is None


def test_the_files_can_lie_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"[audit]\n{STATIC}")
    environ = {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "keys"), "AWS_CONFIG_FILE": str(tmp_path / "none")}
    assert find_profile("audit", environ) == Profile("audit", KEYS, None)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("", "no AWS profile audit with an access key"),
        ("[profile audit]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = default\n", r"has to be worked out \(role_arn\)"),
        ("[profile audit]\ncredential_process = /bin/x\n", r"has to be worked out \(credential_process\)"),
        ("[profile audit]\nsso_session = corp\n", r"has to be worked out \(sso_session\)"),
        ("not an ini file\n", "cannot be read as a file of AWS profiles"),
    ],
)
def test_a_profile_that_cannot_be_used_is_an_error_with_a_way_out(tmp_path: Path, config: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        find_profile("audit", home(tmp_path, "", config))
    assert "AK" not in caught.value.message
