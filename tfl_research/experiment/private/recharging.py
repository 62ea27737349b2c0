"""Gives a changed private run new noise, and charges the repeated rounds again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TextIO

from tfl_research.errors import SettingError, UserError, message_for_command_line
from tfl_research.privacy.accounting.rounding import rounded_up
from tfl_research.privacy.ledger.lines.entries import Restart
from tfl_research.storage import CheckpointStore, RunFolder
from tfl_research.storage.fingerprint import Fingerprint


def restarts(account: Any) -> int:
    """Counts the restarts in a run's ledger; 0 without a ledger."""
    if account is None:
        return 0
    return sum(isinstance(entry, Restart) for entry in account.ledger.entries)


def planned_again(account: Any) -> str:
    """Writes a sentence with the planned ε of a run that charged rounds again."""
    return (
        "Planned with what was charged for repeated rounds: "
        f"ε = {rounded_up(account.planned_epsilon())} at "
        f"δ = {rounded_up(account.delta, 6)}."
    )


def recharge(
    folder: RunFolder,
    account: Any,
    fingerprint: Fingerprint,
    check: Callable[[], None],
    out: TextIO,
) -> None:
    """Begins a new attempt of a run, unless the run can continue unchanged.

    The ledger is written first, and computation.json second. After a kill between the
    two writes, the ledger charges repeated rounds again, and computation.json has fewer
    restarts. Such a run cannot continue without this function. The noise of the new
    attempt is drawn after both writes.

    Args:
      folder: the folder of the run.
      account: the account of the run.
      fingerprint: the fingerprint of this start.
      check: raises an error if the run cannot have new noise.
      out: the stream for printed lines.

    Raises:
      UserError: settings or plan have changed, which new noise does not help, or the
        ledgers cannot charge rounds again.
    """
    has_rounds = folder.has_rounds(len(account.ledger))
    changes = folder.computation.changes(
        fingerprint, has_rounds=has_rounds, restarts=restarts(account)
    )
    store = CheckpointStore(folder.checkpoints_path, key=folder.checkpoint_key)
    after, base = store.newest()
    if not changes:
        attempts = folder.computation.attempts()
        if not store.fit(attempts):
            changes = [f"the checkpoint of round {attempts.after} is lost"]
    if not changes:
        out.write(
            "recharge: nothing has changed that the noise covers; the run goes on with "
            "the same noise, and no round is charged again\n"
        )
        return
    check()
    try:
        account.recharge_after(after)
    except UserError:
        raise
    except ValueError as error:
        raise SettingError(message_for_command_line(error)) from error
    folder.computation.begin_attempt(
        after, base, fingerprint, restarts=restarts(account)
    )
    where = f"the rounds after round {after}" if after else "all rounds"
    out.write(
        f"recharge: {', '.join(changes)}; {where} are executed with new noise, and "
        "rounds that were done before are charged again\nprivacy: "
        f"{planned_again(account)}\n"
    )
    out.flush()
