"""Checks shared ledgers before a run's folder records their setting."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Optional

from tfl_research import privacy
from tfl_research.errors import SettingError, message_for_command_line
from tfl_research.privacy.accounting.rounding import rounded_up
from tfl_research.privacy.ledger.clients.other_clients import beside_lines
from tfl_research.tasks import Task

# The partition of tasks with natural clients, see `data.partitions`.
_NATURAL = (None, "natural")


def check(
    path: Optional[str], task: Task, event: privacy.Event
) -> Optional[privacy.Population]:
    """Checks the shared ledger of a user-level run, and makes a missing file.

    Args:
      path: the path of --ledger, or None.
      task: the task of the run.
      event: the event of each round.

    Returns:
      The population of the ledger; None without a ledger.

    Raises:
      SettingError: the ledger cannot be opened, is damaged, or has rounds that cannot
        be composed with the run's rounds.
    """
    if path is None:
        return None
    refused: Optional[ValueError] = None
    for there in populations(task):
        try:
            with privacy.SharedLedger(path, privacy.NO_RUN, there) as opened:
                opened.check_fits(event)
            return there
        except privacy.PopulationError as error:
            refused = refused or error
        except ValueError as error:
            raise _refused("ledger", path, error) from error
    why = "" if drawn_by(task) is None else _why_not(task)
    raise _refused("ledger", path, ValueError(f"{refused}{why}")) from refused


def populations(task: Task) -> list[privacy.Population]:
    """Returns the possible populations of a ledger of this task, the usual one first.

    The usual population has the training clients and the held-out clients, because
    --seed may decide which clients train. The ε of all runs together, on different
    parts of the clients, bounds the ε of each client. If clients are drawn from pooled
    examples, another seed draws other clients. The last population is that of earlier
    versions: only the training clients.
    """
    training = task.train.client_ids
    held_out = () if task.held_out is None else task.held_out.client_ids
    everyone = sorted({*map(str, training), *map(str, held_out)})
    drawing = drawn_by(task)
    found = privacy.Population.of(everyone, drawing)
    if drawing is not None:
        # Earlier versions did not distinguish these clients from the clients of another
        # seed.
        return [found]
    return list(dict.fromkeys([found, privacy.Population.of(training)]))


def drawn_by(task: Task) -> Optional[str]:
    """Returns settings that decide a client's examples; None for natural clients."""
    recipe = task.recipe
    if recipe is None or recipe.options.get("partition") in _NATURAL:
        return None
    options = {name: str(value) for name, value in recipe.options.items()}
    return json.dumps([recipe.name, recipe.seed, options], sort_keys=True)


def _why_not(task: Task) -> str:
    partition = "" if task.recipe is None else task.recipe.options.get("partition")
    return (
        f" (--partition={partition} draws the clients from pooled examples, so that "
        "clients of another --seed or of other options have other examples, also under "
        "the same names)"
    )


def check_clients(
    path: Optional[str],
    task: Task,
    event: privacy.RecordEvent,
    deltas: Sequence[float],
) -> None:
    """Checks the shared ledgers of clients' records, and makes a missing folder.

    Args:
      path: the path of --record_ledgers, or None.
      task: the task of the run.
      event: the event of each round.
      deltas: δ by client.

    Raises:
      SettingError: a ledger cannot be opened, is damaged, or has rounds that cannot be
        composed with the run's rounds.
    """
    if path is None:
        return
    try:
        with privacy.ClientLedgers(
            path, privacy.NO_RUN, event, deltas, drawn_by=drawn_by(task)
        ):
            pass
    except privacy.PopulationError as error:
        why = "" if drawn_by(task) is None else _why_not(task)
        message = ValueError(f"{error}{why}")
        raise _refused("record_ledgers", path, message) from error
    except ValueError as error:
        raise _refused("record_ledgers", path, error) from error


def sentences(account: privacy.RoundAccount, rounds: Optional[int] = None) -> list[str]:
    """Writes sentences about ε of all runs of the shared ledger, and its budget.

    Args:
      account: the account of the run.
      rounds: the number of rounds of this run that count; None for all planned rounds.

    Returns:
      The sentences; an empty list for a run without a shared ledger.
    """
    shared = account.shared
    if rounds is None:
        total = account.planned_shared_total()
    else:
        total = account.shared_total(rounds)
    if shared is None or total is None:
        return []
    of_records = isinstance(shared, privacy.ClientLedgers)
    whose, limit = (" for a client's records", "up to ") if of_records else ("", "= ")
    lines = [
        f"Together with the other runs of {shared.path}: ε {limit}"
        f"{rounded_up(total.epsilon)}{whose}, {total.words}."
    ]
    spent = shared.budget_spent()
    if spent is not None:
        budget, epsilon = spent
        lines.append(
            f"{shared.path} has a budget that binds all of its runs: {budget}; so far "
            f"ε = {rounded_up(epsilon)} is spent{whose}."
        )
    if isinstance(shared, privacy.ClientLedgers):
        lines += beside_lines(shared)
    return lines


def outside_lines(account: privacy.RoundAccount) -> list[str]:
    """Writes what a shared ledger tells about the clients of user-level privacy."""
    shared = account.shared
    if not isinstance(shared, privacy.SharedLedger):
        return []
    return [
        f"Whoever sees {shared.path}: each line has a SHA-256 of all clients' names, "
        "with which a guess of these names can be tested."
    ]


def _refused(setting: str, path: str, error: ValueError) -> SettingError:
    """Adds the setting that named the ledger to an error that names no setting."""
    message = message_for_command_line(error)
    if message.startswith("--"):
        return SettingError(message)
    return SettingError(f"--{setting}={path}: {message}")
