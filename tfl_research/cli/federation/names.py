"""Names of sites, which are also names of files, folders and clients of engines."""

from __future__ import annotations

from tfl_research.errors import UserError, alternatives
from tfl_research.federation.wire.authentication import check_name

# FLARE's names of other participants.
_RESERVED = ("administrator", "localhost", "server")


def site_names(flag: str, text: str) -> tuple[str, ...]:
    """Reads names from a list separated by commas.

    Raises:
      UserError: there is no name, a name occurs twice, or a name is not allowed for a
        site.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UserError(f"{flag}={text}: is empty; give the names of all sites")
    for name in names:
        check_name(name, flag)
        if any(word in name.lower() for word in _RESERVED):
            raise UserError(
                f"{flag}={text}: {name} must not contain {alternatives(_RESERVED)}; "
                "give another name"
            )
        if names.count(name) > 1:
            raise UserError(f"{flag}={text}: names {name} twice; name each site once")
    return tuple(names)
