"""Prints, charges and states ε of a user's own process."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Optional, TextIO

from tfl_research import privacy
from tfl_research.errors import SettingError, UserError, message_for_command_line
from tfl_research.experiment.private import accounts, on_workers, recharging, run_seed
from tfl_research.experiment.private.releases import given_out
from tfl_research.privacy import DeclaredPlan
from tfl_research.privacy.ledger.statements.statement import (
    opening_lines,
    privacy_statement,
)
from tfl_research.privacy.ledger.statements.statement_outputs import GivenOut
from tfl_research.program.evaluation.deciding import deciding_column
from tfl_research.sampling import Sampler, Successive
from tfl_research.storage import CheckpointStore, RunFolder
from tfl_research.storage.files import atomic
from tfl_research.storage.fingerprint import Fingerprint

if TYPE_CHECKING:
    from tfl_research.experiment.own_process.prepared import Prepared

_AT_EVERY = (
    "The process draws new noise at every execution. So every execution is charged, "
    "before it begins, also of a round that is repeated after a kill."
)
_ONCE = (
    "The noise of the process is a function of its state, which checkpoints keep. So a "
    "round that is repeated after a kill has the same noise, and is charged once."
)
_NOT_FOUND = (
    "Warning: no operation of the process draws random numbers in a round. So ε holds "
    "only if the clients' values already have the declared noise, or if the process "
    "makes noise without random operations."
)
_DECLARED = (
    "The noise is what the builder of the process declares. Neither the noise nor the "
    "clip was measured or tested."
)


def undeclared_line(prepared: Prepared) -> str:
    """Returns the line that a run prints if its process declares no noise."""
    drawn = prepared.randomness.drawn
    how = "declare it by privacy=tfl.ProcessPrivacy(...)"
    if any("Normal" in name for name in drawn):
        return (
            f"privacy: this process draws noise ({', '.join(drawn)}); ε is not "
            f"accounted unless you {how}"
        )
    if drawn:
        return (
            f"privacy: this process draws random numbers ({', '.join(drawn)}); if they "
            f"are noise for privacy, ε is not accounted unless you {how}"
        )
    return (
        "privacy: no ε is known, since the process declares no noise; if it has some, "
        f"{how}"
    )


def secret_cohorts(prepared: Prepared, folder: RunFolder) -> Sampler:
    """Returns the cohorts of a run; a private run draws them from its secret seed.

    An attempt with new noise also has new cohorts, since amplification by sampling
    assumes that cohorts are independent of each other.
    """
    if prepared.plan is None or prepared.form.client_type is None:
        return prepared.cohorts

    def drawn(seed: int) -> Sampler:
        return prepared.cohort_settings.build(
            prepared.clients.client_ids, run_seed.cohort_seed(seed)
        )

    later = folder.attempts.later_seeds(folder.run_seed)
    first = drawn(folder.run_seed)
    if not later:
        return first
    return Successive(((0, first), *((after, drawn(seed)) for after, seed in later)))


@contextlib.contextmanager
def opened_account(
    prepared: Prepared, folder: RunFolder, out: TextIO
) -> Iterator[Optional[privacy.RoundAccount]]:
    """Opens the run's ledger and prints the guarantee in a few lines.

    Yields:
      The account; None if the user declares no noise.

    Raises:
      SettingError: the ledger is damaged, in use, or belongs to another run.
    """
    plan = prepared.plan
    if plan is None:
        out.write(f"{undeclared_line(prepared)}\n")
        out.flush()
        yield None
        return

    def lines(account: privacy.RoundAccount) -> list[str]:
        found = [
            *opening_lines(
                account.event,
                delta=account.delta,
                accountant=account.accountant,
                planned_rounds=account.planned_rounds,
                budget_epsilon=account.budget_epsilon,
            ),
            _how_charged(prepared),
        ]
        if recharging.restarts(account):
            found.append(recharging.planned_again(account))
        return found

    with accounts.opened(
        folder, out, lambda own, _: privacy.RoundAccount(own, plan), lines
    ) as account:
        yield account


def _how_charged(prepared: Prepared) -> str:
    randomness = prepared.randomness
    # Calls of Python may draw numbers too.
    if not randomness.drawn and not randomness.anew:
        return _NOT_FOUND
    return _ONCE if prepared.is_repeatable else _AT_EVERY


def check_start(
    prepared: Prepared,
    folder: RunFolder,
    account: Optional[privacy.RoundAccount],
    fingerprint: Fingerprint,
    out: TextIO,
    *,
    recharge: bool,
) -> None:
    """Compares a start with the first start, and charges repeated rounds again.

    The ledger is written first, and computation.json second. After a kill between the
    two writes, the ledger has one more restart, and the next start begins that attempt.

    Args:
      prepared: the prepared parts of the run.
      folder: the folder of the run.
      account: the account of the run.
      fingerprint: the fingerprint of this start.
      out: the stream for printed lines.
      recharge: whether the rounds after the last checkpoint may be repeated by another
        process; only for noise that is drawn anew at each execution.

    Raises:
      UserError: the start differs from the first start, noise by a seed would be added
        to other sums, or correlated noise would be repeated.
    """
    charged = 0 if account is None else len(account.ledger)
    store = CheckpointStore(folder.checkpoints_path, key=folder.checkpoint_key)
    if account is None or prepared.is_repeatable:
        folder.check_computation(fingerprint, charged_rounds=charged)
        if charged and not store.newest()[1]:
            raise UserError(
                f"{folder.checkpoints_path} has lost every checkpoint, and the "
                "initial state of the process cannot be made again, so the same noise "
                "would be used on other sums; restore the checkpoints, or choose "
                "another --output_dir"
            )
        return
    restarts, recorded = recharging.restarts(account), folder.computation.restarts()
    changes: list[str] = []
    if recharge:
        changes = folder.computation.changes(
            fingerprint, has_rounds=folder.has_rounds(charged), restarts=recorded
        )
    if not changes:
        folder.check_computation(fingerprint, charged_rounds=charged, restarts=recorded)
    after, base = store.newest()
    repeated = charged > after
    if not repeated and restarts == recorded and not changes:
        return
    if repeated:
        try:
            account.recharge_after(after)
        except ValueError as error:
            raise SettingError(
                f"{folder.path}: round {after + 1} was begun but is in no checkpoint, "
                f"so its noise would be drawn anew: {message_for_command_line(error)}"
            ) from error
    folder.attempts = folder.computation.begin_attempt(
        after, base, fingerprint, restarts=recharging.restarts(account)
    )
    if repeated:
        out.write(
            f"privacy: the rounds {after + 1} to {charged}, after the last "
            "checkpoint, may have been executed; they are executed again with new "
            f"noise, and charged again\nprivacy: {recharging.planned_again(account)}\n"
        )
        out.flush()


def statement_writer(
    prepared: Prepared, folder: RunFolder, account: Optional[privacy.RoundAccount]
) -> Optional[Callable[[], None]]:
    """Returns the function that writes privacy.txt; None if no noise is declared."""
    if account is None:
        return None
    return functools.partial(_write_statement, prepared, folder, account)


def _write_statement(
    prepared: Prepared, folder: RunFolder, account: privacy.RoundAccount
) -> None:
    done = len(account.ledger)
    assumptions = [
        "Whatever was computed from clients' data before they reached the process is "
        "not covered.",
    ]
    if isinstance(prepared.plan, DeclaredPlan):
        assumptions.append(_DECLARED)
    outside = run_seed.outside_lines(folder)
    outside += on_workers.outside_lines(prepared.experiment.runtime)
    if prepared.is_repeatable:
        outside.append(
            "Whoever sees another run of the process from the same initial state: its "
            "noise is the same."
        )
    text = privacy_statement(
        account.event,
        delta=account.delta,
        accountant=account.accountant,
        spent=account.groups(done),
        planned_rounds=account.planned_rounds,
        budget_epsilon=account.budget_epsilon,
        outside=outside,
        notes=[_how_charged(prepared)],
        rounds=done,
        given=_given_out(prepared, folder),
        assumptions=assumptions,
    )
    atomic.write(folder.privacy_path, text.encode())


def _given_out(prepared: Prepared, folder: RunFolder) -> GivenOut:
    columns = given_out.columns_of(folder)
    columns = [name for name in columns if not name.startswith("held_out_")]
    measured = given_out.measured_of(folder)
    columns += measured
    files = [folder.measurements_path.name] if measured else []
    decided_by = given_out.decided(folder, _deciding_column(prepared))
    files += given_out.results(
        prepared.training, decided_by, has_model=prepared.exporter.has_model
    )
    if prepared.training.tensorboard:
        files.append("logdir")
    return GivenOut(
        prepared.release(),
        columns,
        [*files, *given_out.further(folder, files)],
        decided_by,
        is_complete=folder.summary_path.exists(),
        evaluated=(
            "by the user's function"
            if prepared.experiment.test is None
            else "on the test examples that the user gave"
        ),
    )


def _deciding_column(prepared: Prepared) -> Optional[str]:
    """Returns the column that selects the best model, or None."""
    metric = prepared.training.selection_metric
    of_test = prepared.selection_metric
    if metric is None and of_test is None:
        return None
    try:
        return deciding_column(metric, of_test or "", prepared.release(), ["eval"])
    except ValueError:
        # The run is refused because of its selection metric.
        return None
