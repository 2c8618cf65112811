"""Which proxy a store is reached by: the same for every request to it."""

from __future__ import annotations

import pytest

from agent.stores.bucket.proxies import passes_by, proxy_for


@pytest.mark.parametrize(
    ("host", "no_proxy", "straight"),
    [
        ("127.0.0.1", "127.0.0.0/8", True),
        ("10.1.2.3", "10.0.0.0/16", False),
        ("10.0.2.3", " 10.0.0.0/16 , x", True),
        ("::1", "::1/128", True),
        ("s3.example.com", "example.com", True),
        ("s3.example.com", ".example.com", True),
        ("badexample.com", "example.com", False),
        ("EXAMPLE.com", "example.com", True),
        ("anything", "*", True),
        ("anything", "", False),
    ],
)
def test_what_goes_past_a_proxy(host: str, no_proxy: str, *, straight: bool) -> None:
    assert passes_by(host, no_proxy) is straight


def test_the_scheme_s_own_proxy_goes_before_that_for_all() -> None:
    environ = {"https_proxy": "http://secure:1", "ALL_PROXY": "all:2", "NO_PROXY": "10.0.0.0/8"}
    assert proxy_for("https://s3.example.com/b/k?x=1", environ) == "http://secure:1"
    assert proxy_for("http://s3.example.com/b", environ) == "http://all:2"
    assert proxy_for("https://10.1.1.1:9000/b", environ) is None
    assert proxy_for("https://s3.example.com", {}) is None
