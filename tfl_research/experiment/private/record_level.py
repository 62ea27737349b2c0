"""Record-level privacy in an experiment: its plan, local steps, account, statement."""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING, Optional, TextIO

from tfl_research import privacy
from tfl_research.data import PoissonBatching
from tfl_research.devices import UnreliableSilos
from tfl_research.experiment.configs import RecordLevelPrivacy
from tfl_research.experiment.private import (
    accounts,
    assumptions,
    on_workers,
    over_sites,
    run_seed,
    shared_ledgers,
)
from tfl_research.experiment.private.releases import given_out, released
from tfl_research.experiment.private.sampler_delta import sampler_delta
from tfl_research.privacy.accounting.rounding import rounded_up
from tfl_research.privacy.ledger.statements.statement import (
    SharedTotal,
    opening_lines,
    privacy_statement,
)
from tfl_research.sampling import Sampler
from tfl_research.storage import RunFolder
from tfl_research.storage.files import atomic
from tfl_research.tasks import Task

if TYPE_CHECKING:
    from tfl_research.experiment.setup import Setup

# The file with each client's ε after each round, in the run's folder.
CLIENT_EPSILON_FILE = "client_epsilon.csv"


def with_poisson_steps(setup: Setup) -> Task:
    """Returns the task with local steps that are drawn by Poisson sampling.

    Raises:
      SettingError: a microbatch is larger than a batch.
    """
    settings, task = _settings(setup), setup.task
    expected = settings.record_batch_size
    if expected is None:
        expected = float(task.train.batching.batch_size)
    if settings.microbatch_size > max(1.0, expected):
        raise settings.refused(
            "microbatch_size",
            f"must be at most the expected batch size {expected:g}; lower it or raise "
            "--record_batch_size",
        )
    steps = settings.steps(setup.experiment.batches)
    return task.with_batching(
        PoissonBatching(steps, expected, settings.microbatch_size)
    )


def plan(setup: Setup) -> privacy.RecordLevelPlan:
    """Makes the plan of a run; the noise is given or calibrated for every client.

    Raises:
      SettingError: no noise meets the target, the first round exceeds the budget, or
        the shared ledgers do not fit the run.
    """
    settings = _settings(setup)
    made = privacy.RecordLevelPlan.create(
        setup.task.train,
        l2_norm_clip=settings.record_l2_norm_clip,
        rounds=setup.experiment.training.rounds,
        noise_multiplier=settings.record_noise_multiplier,
        target_epsilon=settings.record_target_epsilon,
        delta=settings.record_delta,
        accountant=settings.record_accountant,
        budget_epsilon=settings.record_budget_epsilon,
    )
    shared_ledgers.check_clients(
        settings.record_ledgers, setup.task, made.event, made.deltas
    )
    return made


def secret_cohort_seed(key: int) -> int:
    """Returns the seed of the noise and of the draw of each local step's records.

    The same noise must never be added to two different sums, so the seed comes from the
    key of the run's noise. Amplification by sampling assumes that nobody knows which
    records are drawn, so these draws come from the same secret. SHA-256 derives the
    seed, so that it shares no stream with other draws from the key.

    Args:
      key: the key of the run's noise, see `storage.Attempts.key`.
    """
    digest = hashlib.sha256(b"local steps %d" % key).digest()
    return int.from_bytes(digest, "big")


def opened_account(
    setup: Setup, made: privacy.RecordLevelPlan, folder: RunFolder, out: TextIO
) -> contextlib.AbstractContextManager[privacy.RecordAccount]:
    """Opens the run's ledger, the ledgers of --record_ledgers, and the table of ε.

    Prints the guarantee in a few lines; `kept_statement` writes all of it.

    Args:
      setup: the setup of the run.
      made: the run's plan.
      folder: the folder of the run.
      out: where the lines are printed.

    Raises:
      SettingError: the ledger is damaged, in use, or belongs to another run.
    """

    def build(
        own: privacy.Ledger, stack: contextlib.ExitStack
    ) -> privacy.RecordAccount:
        shared = _client_ledgers(setup, made, folder, own)
        if shared is not None:
            stack.enter_context(shared)
        return privacy.RecordAccount(
            own, made, table_path=folder.path / CLIENT_EPSILON_FILE, shared=shared
        )

    return accounts.opened(
        folder, out, build, lambda account: _first_lines(account, made.rounds)
    )


def _settings(setup: Setup) -> RecordLevelPrivacy:
    settings = setup.experiment.privacy
    if not isinstance(settings, RecordLevelPrivacy):
        raise TypeError(f"expected record-level privacy, got {settings!r}")
    return settings


def _client_ledgers(
    setup: Setup, made: privacy.RecordLevelPlan, folder: RunFolder, own: privacy.Ledger
) -> Optional[privacy.ClientLedgers]:
    path = _settings(setup).record_ledgers
    if path is None:
        return None
    if any(event != made.event for event in own.events):
        # The account refuses this case with a better message.
        return None
    return privacy.ClientLedgers(
        path,
        privacy.run_id(folder.path),
        made.event,
        made.deltas,
        own.entries,
        shared_ledgers.drawn_by(setup.task),
    )


def _silo_notes(sampler: Sampler) -> list[str]:
    if not isinstance(sampler, UnreliableSilos):
        return []
    return [
        f"A client is down in a round with probability {sampler.drop_out:g}, whatever "
        f"its data are, and a round with fewer than {sampler.minimum} reports is "
        "abandoned. Every client is still charged for every round, because what was "
        "sent in an abandoned round has been seen."
    ]


def _first_lines(account: privacy.RecordAccount, rounds: int) -> list[str]:
    lines = opening_lines(
        account.event,
        delta=account.delta,
        accountant=account.accountant,
        planned_rounds=None,
        budget_epsilon=account.budget_epsilon,
    )
    epsilons = account.client_epsilons(rounds)
    names = [name for name, _ in account.event.clients]
    worst = max(range(len(names)), key=epsilons.__getitem__)
    planned = (
        f"Planned: ε = {rounded_up(min(epsilons))} to {rounded_up(max(epsilons))} "
        f"after {rounds} rounds, the largest at {names[worst]} with δ = "
        f"{rounded_up(account.deltas[worst])} "
        f"({account.accountant.upper()} accountant); each client's is in "
        f"{CLIENT_EPSILON_FILE}."
    )
    together = shared_ledgers.sentences(account)
    return [*lines, planned, *together]


def _shared_total(account: privacy.RecordAccount, done: int) -> Optional[SharedTotal]:
    """Returns the total of the client with the largest ε; None without shared ledgers.

    ε is at the δ of this client, so it also holds at the largest δ of a client.
    """
    epsilon = account.shared_epsilon(done)
    if not isinstance(account.shared, privacy.ClientLedgers) or epsilon is None:
        return None
    runs, rounds = account.shared.runs_and_rounds
    return SharedTotal(str(account.shared.path), runs, rounds, epsilon)


def write_statement(
    setup: Setup,
    made: privacy.RecordLevelPlan,
    folder: RunFolder,
    account: privacy.RecordAccount,
    dimension: int,
) -> None:
    """Writes the privacy statement of the rounds in the run's ledger."""
    done, experiment = len(account.ledger), setup.experiment
    outside = run_seed.outside_lines(folder)
    outside += on_workers.outside_lines(experiment.runtime)
    outside += over_sites.outside_lines(
        experiment,
        setup.asked.amplification,
        evaluates=released.evaluates_clients(setup),
        reports=released.reports_metrics(setup),
    )
    weighting = experiment.resolved_weighting.client_weighting
    text = privacy_statement(
        account.event,
        delta=account.delta,
        accountant=account.accountant,
        spent=account.groups(done),
        planned_rounds=account.planned_rounds,
        budget_epsilon=account.budget_epsilon,
        shared=_shared_total(account, done),
        outside=outside,
        notes=[
            f"l2 norm clip of a gradient: {made.l2_norm_clip:g}. The server's mean "
            f"weights clients by {weighting}; their numbers of records are public. "
            "What the server does with the updates costs no further privacy, also "
            "thresholds from their norms.",
            *_silo_notes(setup.reporting),
            *account.statement_notes(done or made.rounds),
            *shared_ledgers.sentences(account, done),
        ],
        rounds=done,
        given=given_out.given_out(setup, folder),
        assumptions=assumptions.assumption_lines(setup),
        sampler_delta=sampler_delta(account, setup.asked, dimension),
    )
    atomic.write(folder.privacy_path, text.encode())
