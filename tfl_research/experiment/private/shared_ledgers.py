"""Ledgers that runs share, checked before a run's folder records their setting."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Optional

from tfl_research import privacy
from tfl_research.errors import SettingError, message_for_command_line


def check(
    path: Optional[str], client_ids: Iterable[str], event: privacy.Event
) -> Optional[privacy.Population]:
    """Refuses a ledger of clients' rounds; makes the file where there is none.

    Args:
      path: of --ledger, or None.
      client_ids: whom the run samples from.
      event: what each of its rounds does.

    Returns:
      Whom the ledger is about; None without one.

    Raises:
      SettingError: it cannot be opened, is damaged, or is of rounds that do not go with
        the run's.
    """
    if path is None:
        return None
    population = privacy.Population.of(client_ids)
    try:
        with privacy.SharedLedger(path, privacy.NO_RUN, population) as there:
            there.check_fits(event)
    except ValueError as error:
        raise _refused("ledger", path, error) from error
    return population


def check_clients(
    path: Optional[str], event: privacy.RecordEvent, deltas: Sequence[float]
) -> None:
    """Refuses ledgers of clients' records; makes the folder where there is none.

    Args:
      path: of --record_ledgers, or None.
      event: what each of the run's rounds does.
      deltas: by client.

    Raises:
      SettingError: see `check`.
    """
    if path is None:
        return
    try:
        with privacy.ClientLedgers(path, privacy.NO_RUN, event, deltas):
            pass
    except ValueError as error:
        raise _refused("record_ledgers", path, error) from error


def _refused(setting: str, path: str, error: ValueError) -> SettingError:
    """The error with the setting that named the ledger, unless it names one."""
    message = message_for_command_line(error)
    if message.startswith("--"):
        return SettingError(message)
    return SettingError(f"--{setting}={path}: {message}")
