"""User-level privacy in an experiment: its plan, secret cohorts, account, statement."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from typing import TYPE_CHECKING, Any, Optional, TextIO

from tfl_research import privacy
from tfl_research.experiment import simulated_devices
from tfl_research.experiment.configs import UserLevelPrivacy
from tfl_research.experiment.private import (
    accounts,
    assumptions,
    on_workers,
    over_sites,
    recharging,
    run_seed,
    shared_ledgers,
)
from tfl_research.experiment.private.releases import (
    given_out,
    private_evaluation,
    released,
)
from tfl_research.experiment.private.sampler_delta import sampler_delta
from tfl_research.privacy.ledger.statements.statement import (
    SharedTotal,
    opening_lines,
    privacy_statement,
)
from tfl_research.sampling import Sampler
from tfl_research.storage import RunFolder
from tfl_research.storage.files import atomic

if TYPE_CHECKING:
    from tfl_research.experiment.setup import Setup


def plan(setup: Setup) -> tuple[privacy.UserLevelPlan, Optional[privacy.Population]]:
    """Makes the plan of a run; the noise is given or calibrated.

    TensorFlow is imported only if the mechanism's noise depends on the model's size.

    Returns:
      The plan, and the population of the shared ledger, if there is one.

    Raises:
      SettingError: no noise meets the target, the first round exceeds the budget, or
        the shared ledger does not fit the run.
    """
    settings, experiment = _settings(setup), setup.experiment

    def dimension() -> int:
        from tfl_research import processes

        return processes.model_dimension(setup.task)

    made = privacy.UserLevelPlan.create(
        settings.chosen,
        l2_norm_clip=settings.l2_norm_clip,
        amplification=setup.asked.amplification,
        rounds=experiment.training.rounds,
        noise_multiplier=settings.noise_multiplier,
        target_epsilon=settings.target_epsilon,
        delta=settings.delta,
        accountant=settings.accountant,
        budget_epsilon=settings.budget_epsilon,
        expected_cohort_size=setup.asked.expected_cohort_size,
        model_dimension=dimension,
        planned_releases=private_evaluation.planned_releases(setup),
    )
    return made, shared_ledgers.check(settings.ledger, setup.task, made.event)


def secret_cohorts(setup: Setup, seed: int) -> Sampler:
    """Returns the run's cohorts, drawn by the secret run seed.

    Args:
      setup: the setup of the run.
      seed: the run seed.
    """
    return setup.experiment.resolved_cohorts.build(
        setup.task.train.client_ids, run_seed.cohort_seed(seed)
    )


def client_secret(key: int) -> int:
    """Returns the secret from which a simulation draws its clients' secrets.

    The same client noise must never be added to two different updates, so the secret
    comes from the key of the run's noise. SHA-256 derives the secret, so that it shares
    no stream with other draws from the key. In a federation, each site has its own
    secret.

    Args:
      key: the key of the run's noise, see `storage.Attempts.key`.
    """
    digest = hashlib.sha256(b"client secrets %d" % key).digest()
    return int.from_bytes(digest, "big")


def opened_account(
    setup: Setup, made: privacy.UserLevelPlan, folder: RunFolder, out: TextIO
) -> contextlib.AbstractContextManager[privacy.RoundAccount]:
    """Opens the run's ledger, and the shared ledger of --ledger.

    Prints the guarantee in a few lines; `kept_statement` writes all of it.

    Args:
      setup: the setup of the run.
      made: the run's plan.
      folder: the folder of the run.
      out: where the lines are printed.

    Raises:
      SettingError: a ledger is damaged or in use, or has another neighbouring relation,
        population or unit of privacy. This may be raised later, at a charge.
    """

    def build(own: privacy.Ledger, stack: contextlib.ExitStack) -> privacy.RoundAccount:
        shared = _shared_ledger(setup, folder, own)
        if shared is not None:
            stack.enter_context(shared)
        return _account_kind(setup)(own, made, shared)

    return accounts.opened(
        folder, out, build, functools.partial(_first_lines, setup, made)
    )


def _settings(setup: Setup) -> UserLevelPrivacy:
    settings = setup.experiment.privacy
    if not isinstance(settings, UserLevelPrivacy):
        raise TypeError(f"expected user-level privacy, got {settings!r}")
    return settings


def _account_kind(setup: Setup) -> type[privacy.RoundAccount]:
    """Returns the account's class; a sabotaged audit's account accepts any noise."""
    audit = setup.experiment.audit
    if audit is None or audit.sabotage == "none":
        return privacy.RoundAccount
    return privacy.audit.SabotagedAccount


def _shared_ledger(
    setup: Setup, folder: RunFolder, own: privacy.Ledger
) -> Optional[privacy.SharedLedger]:
    path, population = _settings(setup).ledger, setup.population
    if path is None or population is None:
        return None
    return privacy.SharedLedger(
        path, privacy.run_id(folder.path), population, own.entries
    )


def _first_lines(
    setup: Setup, made: privacy.UserLevelPlan, account: privacy.RoundAccount
) -> list[str]:
    """Writes the guarantee in a few lines."""
    lines = [
        made.mechanism.sentence(),
        *opening_lines(
            account.event,
            delta=account.delta,
            accountant=account.accountant,
            planned_rounds=account.planned_rounds,
            budget_epsilon=account.budget_epsilon,
            planned_releases=made.planned_releases,
        ),
    ]
    if recharging.restarts(account):
        lines.append(recharging.planned_again(account))
    lines += shared_ledgers.sentences(account)
    return lines


def write_statement(
    setup: Setup,
    made: privacy.UserLevelPlan,
    folder: RunFolder,
    account: privacy.RoundAccount,
    dimension: int,
) -> None:
    """Writes the privacy statement of the rounds in the run's ledger."""
    done = len(account.ledger)
    notes, outside = simulated_devices.statement_lines(setup.asked)
    text = privacy_statement(
        account.event,
        delta=account.delta,
        accountant=account.accountant,
        spent=account.groups(done),
        planned_rounds=account.planned_rounds,
        budget_epsilon=account.budget_epsilon,
        shared=_shared_total(account, done),
        outside=[
            *outside,
            *shared_ledgers.outside_lines(account),
            *run_seed.outside_lines(folder),
            *on_workers.outside_lines(setup.experiment.runtime),
            *over_sites.outside_lines(
                setup.experiment,
                setup.asked.amplification,
                evaluates=released.evaluates_clients(setup),
            ),
        ],
        notes=[
            *_notes(setup, made),
            *notes,
            *private_evaluation.notes(setup),
            *shared_ledgers.sentences(account, done),
        ],
        rounds=done,
        planned_releases=made.planned_releases,
        given=given_out.given_out(setup, folder),
        assumptions=assumptions.assumption_lines(setup),
        sampler_delta=sampler_delta(account, setup.asked, dimension),
    )
    atomic.write(folder.privacy_path, text.encode())


def _shared_total(account: privacy.RoundAccount, done: int) -> Optional[SharedTotal]:
    epsilon, shared = account.shared_epsilon(done), account.shared
    if not isinstance(shared, privacy.SharedLedger) or epsilon is None:
        return None
    spent = shared.spent
    rounds = sum(len(run.events) for run in spent)
    return SharedTotal(str(shared.path), len(spent), rounds, epsilon)


def _notes(setup: Setup, made: privacy.UserLevelPlan) -> list[str]:
    """Writes the statement's sentences beside those about the event."""
    experiment = setup.experiment
    weighting, rule = experiment.resolved_weighting, experiment.chosen_aggregator
    weights = "all clients weigh the same"
    if weighting.client_weighting == "capped":
        weights = f"a client with n examples weighs min(n/{weighting.weight_cap:g}, 1)"
    has_rule = rule is None or rule.NAME != "mean"
    before = ""
    if has_rule and rule is not None and not made.mechanism.noised_at_clients:
        radius: Any = rule.flat().get("clip_radius")
        before = f", after clipping to {radius:g}"
    divided = None
    if has_rule and made.mechanism.noised_at_clients:
        name = rule.NAME if rule is not None else type(experiment.aggregator).__name__
        divided = (
            f"the server aggregates the noised updates by {name}, which costs no "
            "further privacy"
        )
    found = made.statement_notes(weights, before, divided)
    if experiment.audit is not None:
        population = setup.asked.amplification.population
        found.append(
            f"Audit: {experiment.audit.canaries} of the {population} clients are "
            "canaries, which the audit added. They hold no data."
        )
    return found
