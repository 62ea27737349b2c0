"""Who may look at the page: this machine, or whoever has the token."""

from __future__ import annotations

import hmac
import ipaddress
import secrets
from typing import Optional

COOKIE = "tfl_dashboard"
PARAMETER = "token"
_LOCAL_NAMES = frozenset({"localhost", "localhost.localdomain"})


def is_loopback(host: str) -> bool:
    """Whether a name or address belongs to this machine alone.

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
    """A secret of 192 random bits."""
    return secrets.token_urlsafe(24)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def allows(
    token: Optional[str], *, host: str, given: Optional[str], kept: Optional[str]
) -> bool:
    """Whether a request is answered.

    Without a token the server is on loopback and turns other users away
    (`cli.dashboard`), and the name that the browser asked for
    must be one of this machine: a page from elsewhere, with a name that was pointed to
    this machine, has another name.

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
