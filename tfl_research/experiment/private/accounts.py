"""Opens a run's account: opens the ledger, prints first lines, translates errors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO, TypeVar

from tfl_research import privacy
from tfl_research.errors import SettingError, message_for_command_line
from tfl_research.program import progress
from tfl_research.storage import RunFolder

Account = TypeVar("Account")


@contextlib.contextmanager
def opened(
    folder: RunFolder,
    out: TextIO,
    build: Callable[[privacy.Ledger, contextlib.ExitStack], Account],
    lines: Callable[[Account], Iterable[str]],
) -> Iterator[Account]:
    """Opens the ledger of a run, builds its account, and prints the guarantee.

    Args:
      folder: the folder of the run.
      out: where the lines are printed.
      build: makes the account from the run's ledger and an exit stack for further
        ledgers.
      lines: returns the guarantee in a few lines.

    Raises:
      SettingError: a ledger is damaged, in use, or does not fit the run, now or when a
        round is to be charged.
    """
    with contextlib.ExitStack() as stack:
        try:
            run = privacy.RunIdentity(privacy.run_id(folder.path), folder.run_seed)
            own = stack.enter_context(privacy.Ledger(folder.ledger_path, run))
            account = build(own, stack)
        except ValueError as error:
            raise SettingError(message_for_command_line(error)) from error
        told = [f"privacy: {line}" for line in lines(account)]
        if out.isatty():
            told = [progress.for_terminal(line) for line in told]
        out.write("".join(f"{line}\n" for line in told))
        out.flush()
        try:
            yield account
        except privacy.ChargeError as error:
            raise SettingError(message_for_command_line(error)) from error
