"""Which proxy a URL is reached by, as the library that ships decides it.

The library reads the customary environment variables: ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and, for what goes past them,
``NO_PROXY`` with names, domains, addresses and networks. Python's own reading knows no networks, and two ways to one store would mean
that one of them may be closed.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping


def proxy_for(url: str, environ: Mapping[str, str]) -> str | None:
    """Return the proxy's URL; None to go straight.

    Args:
        url: Where to.
        environ: The environment.
    """
    parts = urlsplit(url)
    found = _first(environ, f"{parts.scheme}_proxy") or _first(environ, "all_proxy")
    if not found or passes_by(parts.hostname or "", _first(environ, "no_proxy") or ""):
        return None
    return found if "://" in found else f"http://{found}"


def passes_by(host: str, no_proxy: str) -> bool:
    """Tell whether a host is reached without a proxy.

    Args:
        host: A name or an address, without brackets.
        no_proxy: Names, domains (with or without a dot before them), addresses and networks, separated by commas; ``*`` for all.
    """
    for entry in filter(None, (each.strip().lower() for each in no_proxy.split(","))):
        if entry == "*":
            return True
        try:
            if ip_address(host) in ip_network(entry, strict=False):
                return True
        except ValueError:
            domain = entry.removeprefix(".")
            if host.lower() == domain or host.lower().endswith(f".{domain}"):
                return True
    return False


def _first(environ: Mapping[str, str], name: str) -> str | None:
    return environ.get(name) or environ.get(name.upper())
