"""Decides who may see the page: this machine, or everybody who has the token."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from typing import Optional

COOKIE = "tfl_dashboard"
PARAMETER = "token"
_LOCAL_NAMES = frozenset({"localhost", "localhost.localdomain"})


def is_loopback(host: str) -> bool:
    """Whether a name or address is reachable from this machine only.

    Example:
      >>> from tfl_research.report.dashboard import access
      >>> [access.is_loopback(host) for host in ("localhost", "127.0.0.9", "0.0.0.0")]
      [True, True, False]
    """
    bare = host.strip("[]").lower()
    if bare in _LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False


def new_token() -> str:
    """Makes a token: a secret of 192 random bits."""
    return secrets.token_urlsafe(24)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def allows(
    token: Optional[str], *, host: str, given: Optional[str], kept: Optional[str]
) -> bool:
    """Whether a request is answered.

    Without a token the server is on loopback and refuses other users
    (`cli.dashboard`). The request's host must then be a name of this machine. This
    stops a page from elsewhere whose own host name was pointed to this machine (DNS
    rebinding).

    Args:
      token: the token of the server; None on loopback.
      host: the request's Host header.
      given: the token in the address, if there is one.
      kept: the token in the cookie, if there is one.
    """
    if token is None:
        return is_loopback(_without_port(host))
    return any(
        hmac.compare_digest(one.encode(), token.encode())
        for one in (given, kept)
        if one is not None
    )
