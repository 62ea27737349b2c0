"""The further steps of a differentially private experiment; no TensorFlow.

What the flags promise is worked out and checked before a run's folder is opened; the
account is opened in the folder. (Of distributed mechanisms the noise depends on the
model's size, for which TensorFlow is imported.)
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import sys
import warnings
from collections.abc import Iterator
from typing import Any, Optional

from tfl_research import privacy
from tfl_research.aggregators import is_noised_at_clients
from tfl_research.devices import PacedRounds
from tfl_research.flags import (
    mechanism_plan,
    noise_seed,
    private_devices,
    shared_ledgers,
)
from tfl_research.flags.aggregator_flags import AggregatorFlags
from tfl_research.flags.assembly import Setup
from tfl_research.flags.declare import FlagError
from tfl_research.flags.mechanism_flags import MechanismFlags
from tfl_research.flags.mechanism_plan import NoisePlan
from tfl_research.flags.privacy_flags import PrivacyFlags
from tfl_research.flags.stated import stated
from tfl_research.privacy.accounting.rounding import rounded_up
from tfl_research.privacy.ledger.statement import (
    SharedTotal,
    opening_lines,
    privacy_statement,
)
from tfl_research.sampling import Sampler
from tfl_research.storage import RunFolder, atomic


@dataclasses.dataclass(frozen=True)
class PrivacyPlan:
    """What a private run promises.

    Attributes:
      flags: as given.
      mechanism: as given.
      noise: the event of each round, with the noise given or calibrated.
      delta: as given, or by the number of clients.
      accountant: "pld" or "rdp".
      aggregation: the robust rule, if any, that goes with the mechanism.
      population: whom the ledger of --ledger is about; None without one.
    """

    flags: PrivacyFlags
    mechanism: MechanismFlags
    noise: NoisePlan
    delta: float
    accountant: str
    aggregation: AggregatorFlags = dataclasses.field(default_factory=AggregatorFlags)
    population: Optional[privacy.Population] = None

    @property
    def has_rule(self) -> bool:
        """Whether a rule goes with the mechanism's own sum, or takes its place."""
        return self.aggregation.aggregator != "mean"

    @property
    def noised_at_clients(self) -> bool:
        """Whether what the server does with the updates is post-processing."""
        return is_noised_at_clients(self.mechanism.entry.event_kind)

    def hparams(self) -> dict[str, Any]:
        """What was derived from the flags, for hparams.json."""
        return {
            "resolved_noise_multiplier": self.noise.noise_multiplier,
            "resolved_delta": self.delta,
            "resolved_accountant": self.accountant,
        }


def plan(
    flags: PrivacyFlags,
    mechanism: MechanismFlags,
    parts: Setup,
    aggregation: Optional[AggregatorFlags] = None,
) -> PrivacyPlan:
    """Calibrates the noise and checks the promise; warns of a large δ.

    Raises:
      FlagError: mechanism, aggregator, weights, sampler, accountant, budget, run seed
        and ledger do not fit.
    """
    mechanism.check_with(parts.cohort, parts.weighting)
    noise_seed.check_not_shared(parts.run, "ledger", flags.ledger)
    aggregation = aggregation or AggregatorFlags()
    _check_aggregation(aggregation, mechanism, parts)
    num_clients = len(parts.task.train)
    delta = flags.delta
    if delta is None:
        delta = privacy.default_delta(num_clients)
    warning = privacy.delta_warning(delta, num_clients)
    if warning is not None:
        warnings.warn(warning, stacklevel=2)
    noise = mechanism_plan.noise_plan(flags, mechanism, parts, delta)
    accountant = mechanism_plan.checked_accountant(flags, noise.event)
    mechanism.check_adaptive(noise.noise_multiplier, parts.sampler.expected_cohort_size)
    if flags.budget_epsilon is not None:
        first = privacy.EpsilonCurve(noise.event, delta, accountant).at(1)
        if first > flags.budget_epsilon:
            raise flags.refused(
                "budget_epsilon",
                f"the first round alone costs ε = {first:.4g} at δ = {delta:g}; raise "
                "it, or add noise with --noise_multiplier",
            )
    population = shared_ledgers.check(
        flags.ledger, parts.task.train.client_ids, noise.event
    )
    return PrivacyPlan(
        flags, mechanism, noise, delta, accountant, aggregation, population
    )


def _check_aggregation(
    aggregation: AggregatorFlags, mechanism: MechanismFlags, parts: Setup
) -> None:
    """Refuses a rule that the mechanism's guarantee does not survive.

    Raises:
      FlagError: with the reason.
    """
    if aggregation.aggregator == "mean":
        return
    kind = mechanism.entry.event_kind
    aggregation.check_with_privacy(kind)
    aggregation.check_with(parts)
    if is_noised_at_clients(kind):
        weights = parts.weighting.client_weighting
        if weights != "uniform":
            raise FlagError(
                f"--client_weighting={weights}: only updates are noised, so that a "
                "rule that takes weights would see private ones; give "
                "--client_weighting=uniform"
            )
    elif aggregation.is_stacked:
        raise aggregation.refused(
            "aggregator",
            f"{mechanism.mechanism} noises a sum, for which no updates are stacked; "
            "leave --byzantine, --bucket_size, --neighbour_mixing and --on_breakdown "
            "out",
        )


def secret_sampler(parts: Setup, folder: RunFolder) -> Sampler:
    """The run's sampler, seeded by its secret run seed instead of --seed.

    Amplification by sampling counts on nobody knowing who took part. The seed is
    derived by SHA-256, so that noise and cohorts share no stream. Devices are
    selected by --seed all the same: their account claims no amplification.
    """
    if isinstance(parts.sampler, PacedRounds):
        return parts.sampler
    digest = hashlib.sha256(b"cohorts %d" % folder.run_seed).digest()
    return parts.cohort.build(
        parts.task.train.client_ids, int.from_bytes(digest, "big")
    )


@contextlib.contextmanager
def open_account(
    promise: PrivacyPlan, parts: Setup, folder: RunFolder
) -> Iterator[privacy.RoundAccount]:
    """Opens the run's ledger, and the shared one of --ledger.

    Prints what the run promises as its first lines, and writes the whole statement
    to privacy.txt, again when the run ends.

    Raises:
      FlagError: a ledger is damaged, or in use, or of another neighbouring relation,
        population or unit of privacy, now or when a round is to be charged.
    """
    with contextlib.ExitStack() as opened:
        try:
            own = opened.enter_context(privacy.Ledger(folder.ledger_path))
            shared = _shared_ledger(promise, folder, own)
            if shared is not None:
                opened.enter_context(shared)
            account = privacy.RoundAccount(
                own,
                promise.noise.event,
                promise.delta,
                promise.accountant,
                planned_rounds=parts.run.rounds,
                budget_epsilon=promise.flags.budget_epsilon,
                shared=shared,
            )
        except ValueError as error:
            raise FlagError(str(error)) from error
        sys.stdout.write(_first_lines(promise, account))

        def write() -> None:
            _write_statement(promise, parts, folder, account)

        with stated(folder.privacy_path, own, write):
            try:
                yield account
            except privacy.ChargeError as error:
                raise FlagError(str(error)) from error


def _shared_ledger(
    promise: PrivacyPlan, folder: RunFolder, own: privacy.Ledger
) -> Optional[privacy.SharedLedger]:
    if promise.flags.ledger is None or promise.population is None:
        return None
    return privacy.SharedLedger(
        promise.flags.ledger,
        privacy.run_id(folder.path),
        promise.population,
        own.events,
    )


def _first_lines(promise: PrivacyPlan, account: privacy.RoundAccount) -> str:
    """What the run promises, in a few lines."""
    lines = [
        f"Mechanism {promise.mechanism.entry.name}: {promise.mechanism.entry.title}.",
        *opening_lines(
            account.event,
            delta=account.delta,
            accountant=account.accountant,
            planned_rounds=account.planned_rounds,
            budget_epsilon=account.budget_epsilon,
        ),
    ]
    total = account.shared_epsilon(account.planned_rounds or 0)
    if total is not None:
        lines.append(
            f"Together with the other runs of {promise.flags.ledger}: ε = "
            f"{rounded_up(total)}."
        )
    return "".join(f"privacy: {line}\n" for line in lines)


def _write_statement(
    promise: PrivacyPlan, parts: Setup, folder: RunFolder, account: privacy.RoundAccount
) -> None:
    done = len(account.ledger)
    device_notes, outside = private_devices.statement_lines(parts)
    text = privacy_statement(
        account.event,
        delta=account.delta,
        accountant=account.accountant,
        spent=account.groups(done),
        planned_rounds=account.planned_rounds,
        budget_epsilon=account.budget_epsilon,
        shared=_shared_total(account, done),
        outside=[*outside, *noise_seed.outside_lines(folder)],
        notes=[*_notes(promise, parts), *device_notes],
    )
    atomic.write(folder.privacy_path, text.encode())


def _shared_total(account: privacy.RoundAccount, done: int) -> Optional[SharedTotal]:
    epsilon = account.shared_epsilon(done)
    if account.shared is None or epsilon is None:
        return None
    spent = account.shared.spent
    rounds = sum(len(run.events) for run in spent)
    return SharedTotal(str(account.shared.path), len(spent), rounds, epsilon)


def _notes(promise: PrivacyPlan, parts: Setup) -> list[str]:
    """What the statement says beside the event."""
    mechanism, weighting = promise.mechanism, parts.weighting
    weights = "all clients weigh the same"
    if weighting.client_weighting == "capped":
        weights = f"a client with n examples weighs min(n/{weighting.weight_cap:g}, 1)"
    clip = f"l2 norm clip {mechanism.l2_norm_clip:g}"
    if promise.has_rule and not promise.noised_at_clients:
        clip += f", after clipping to {promise.aggregation.clip_radius:g}"
    if mechanism.mechanism == "adaptive_gaussian":
        clip = (
            f"the l2 norm clip starts at {mechanism.l2_norm_clip:g} and follows a "
            "quantile of the norms, whose noisy release is part of the effective "
            "noise multiplier"
        )
    sentences = [
        f"Mechanism {mechanism.entry.name}: {mechanism.entry.title}.",
        f"Clipping and weights: {clip}; {weights}; {_denominator(promise, parts)}.",
    ]
    if promise.noise.distributed is not None:
        sentences += promise.noise.distributed.description()
    return sentences


def _denominator(promise: PrivacyPlan, parts: Setup) -> str:
    if promise.has_rule and promise.noised_at_clients:
        rule = promise.aggregation.aggregator
        return (
            f"the server aggregates the noised updates by {rule}, which costs no "
            "further privacy"
        )
    mechanism, size = promise.mechanism, parts.sampler.expected_cohort_size
    if mechanism.mechanism != "bounded_weight":
        return f"the sum is divided by the expected cohort size, {size:g}"
    expected = size * (mechanism.expected_client_weight or 1.0)
    if mechanism.clipped_denominator:
        return f"the sum is divided by the sum of weights, at least {expected:g}"
    return f"the sum is divided by the expected sum of weights, {expected:g}"
