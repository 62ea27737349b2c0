"""Whether an engine's certificates are valid by this machine's clock."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable, Sequence

from tfl_research.errors import UserError
from tfl_research.federation.engines import environments, processes

_DATES = pathlib.Path(__file__).with_name("relays") / "tfl_certificate_dates.py"
# A line says that certificates end when fewer days are left.
_DAYS_TO_TELL = 30
_RENEW = (
    "new ones are made when you move the federation's folder away and give its command "
    "scripts/federation provision again; hand each site its new site.key and engine/"
)


def check(
    environment: environments.Environment,
    paths: Sequence[pathlib.Path],
    say: Callable[[str], None],
) -> None:
    """Refuses certificates that are not valid now.

    The other side would refuse them too, but the engines do not say so.

    Args:
      environment: an engine's environment; its Python reads the files.
      paths: the certificates of this machine.
      say: prints a line if a certificate ends soon.

    Raises:
      UserError: a file cannot be read, or the clock is outside of the dates.
    """
    printed = processes.run(
        "reading certificates",
        [str(environment.python), str(_DATES), *map(str, paths)],
        folder=paths[0].parent,
    )
    now = time.time()
    for path, line in zip(paths, printed.splitlines()):
        begin, end = map(int, line.split())
        dates = f"valid from {_date(begin)} to {_date(end)}"
        if now < begin:
            raise UserError(
                f"{path}: is {dates}, but the clock of this machine says {_date(now)}; "
                "set the clock"
            )
        if now > end:
            raise UserError(
                f"{path}: is {dates}, and the clock of this machine says "
                f"{_date(now)}; set the clock if it is wrong; if not, {_RENEW}"
            )
        days = (end - now) / 86400
        if days < _DAYS_TO_TELL:
            say(f"{path}: ends in {days:.0f} days, on {_date(end)}; {_RENEW}")


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
