"""Audits an experiment: adds canaries to its clients, and evaluates them at the end."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional, TextIO

import numpy as np

from tfl_research import privacy
from tfl_research.data import ClientData, derived_generator
from tfl_research.data.arrays import structures
from tfl_research.experiment.configs import Audit
from tfl_research.experiment.private.releases import released
from tfl_research.outputs.files import MEMBERSHIP
from tfl_research.privacy import audit
from tfl_research.privacy.audit import plots
from tfl_research.program.results import finish
from tfl_research.sampling import Sampler
from tfl_research.storage import RunFolder
from tfl_research.storage.files import atomic
from tfl_research.tasks import Task

if TYPE_CHECKING:
    import tensorflow_federated as tff

    from tfl_research.clients import ClientWork
    from tfl_research.experiment.setup import Setup
    from tfl_research.processes import ClientWeighting
    from tfl_research.program import RunResult

# With fewer weights for each canary, canaries hide each other.
_WEIGHTS_PER_CANARY = 10


def canaries(settings: Audit, seed: int) -> audit.Canaries:
    """Makes the canaries of a run.

    Args:
      settings: the audit's settings, which have the number of canaries.
      seed: the public seed of the run.
    """
    return audit.Canaries(settings.canaries, seed)


def with_canaries(settings: Audit, task: Task, seed: int) -> Task:
    """Returns the task with canaries among its training clients."""
    return dataclasses.replace(task, train=canaries(settings, seed).join(task.train))


def with_coins(settings: Audit, cohorts: Sampler, setup: Setup) -> Sampler:
    """Returns the cohorts without the canaries that do not take part."""
    plan = setup.user_level
    if plan is None:
        raise TypeError("an audit needs a plan of user-level privacy")
    return canaries(settings, setup.experiment.training.seed).sampler(
        cohorts, plan.event.neighbouring_relation
    )


def warn_of_sabotage(settings: Audit, folder: RunFolder) -> None:
    """Warns on standard error and in the run's folder that the run's ε is false."""
    if settings.sabotage == "none":
        return
    text = (
        f"SABOTAGED with --sabotage={settings.sabotage}: this run's ε, ledger and "
        "privacy statement are false. The run only tests the audit; do not use its "
        "results."
    )
    warnings.warn(text, stacklevel=2)
    atomic.write(folder.path / "SABOTAGED", (text + "\n").encode())


def client_work(setup: Setup, base: ClientWork) -> ClientWork:
    """Builds client work: clients do the base work, canaries send their directions."""
    from tfl_research import clients

    plan = setup.user_level
    settings = setup.experiment.audit
    if settings is None or plan is None:
        return base
    return clients.CanaryWork(
        base,
        seed=setup.experiment.training.seed,
        norm=settings.canary_scale * plan.l2_norm_clip,
    )


def aggregator(
    setup: Setup, mechanism: Any
) -> tff.aggregators.WeightedAggregationFactory:
    """Builds a mechanism's factory with an observer, and sabotages it if asked."""
    settings = setup.experiment.audit
    if settings is None:
        raise TypeError("expected an audited experiment")
    unit = settings.weight_unit(setup.experiment.resolved_weighting)
    return audit.CanaryObserver(
        audit.ClaimedWeights(
            audit.sabotaged(mechanism, settings.sabotage, weight_unit=unit),
            client_weighting(setup).weight,
            settings.canary_scale * unit,
        ),
        count=settings.canaries,
        seed=setup.experiment.training.seed,
        keep_max=settings.audit_statistic == "max",
    )


def client_weighting(setup: Setup) -> ClientWeighting:
    """Returns the client weighting: by examples if a sabotage uncaps weights."""
    from tfl_research import processes

    settings, weighting = setup.experiment.audit, setup.experiment.resolved_weighting
    if settings is not None and settings.sabotage == "weights_uncapped":
        return processes.ClientWeighting("examples")
    return processes.ClientWeighting(
        str(weighting.client_weighting), weighting.weight_cap
    )


def examine(
    setup: Setup,
    account: privacy.RoundAccount,
    result: RunResult,
    cohorts: Sampler,
    stream: Optional[TextIO] = None,
) -> audit.AuditResult:
    """Audits a finished run: prints, and writes audit.json, canaries.svg and the page.

    All results are computed from the final state, the exported model and the settings.
    So a run that was stopped and resumed has the same audit.

    Args:
      setup: the setup of the run.
      account: the account of the run.
      result: the result of the run.
      cohorts: the cohorts of the run.
      stream: where the findings are printed; standard output by default.
    """

    settings, seed = setup.experiment.audit, setup.experiment.training.seed
    if settings is None:
        raise TypeError("expected an audited experiment")
    out = stream or sys.stdout
    joined = canaries(settings, seed)
    initial = setup.task.functional_model(seed).initial_weights
    dimension = sum(weight.size for weight in initial)
    if dimension < _WEIGHTS_PER_CANARY * joined.count:
        warnings.warn(
            f"{joined.count} canaries hide each other in a model of {dimension} "
            f"weights; give --canaries={max(dimension // _WEIGHTS_PER_CANARY, 2)} or "
            "fewer",
            stacklevel=2,
        )
    cosines = audit.observed(result.state, initial, joined.seed, joined.count)
    rounds = result.completed_rounds
    trained = {name for r in range(1, rounds + 1) for name in cohorts.sample(r)}
    outcome = audit.AuditResult.of(
        cosines,
        joined.included,
        statistic=settings.audit_statistic,
        rounds=rounds,
        dimension=dimension,
        epsilon=account.epsilon_after(rounds),
        delta=account.delta,
        confidence=settings.audit_confidence,
        seed=seed,
        sabotage=settings.sabotage,
        membership=_membership(settings, setup, result, sorted(trained)),
    )
    atomic.write(result.path / "audit.json", outcome.to_json().encode())
    out.write("".join(f"audit: {line}\n" for line in outcome.lines()))
    try:
        plots.save(
            result.path / "canaries.svg",
            cosines[settings.audit_statistic],
            joined.included,
            statistic=settings.audit_statistic,
            dimension=dimension,
        )
    except ImportError:
        out.write("audit: no canaries.svg, because matplotlib is not installed\n")

    def say(line: str) -> None:
        out.write(f"{line}\n")

    # The page at the end of the rounds did not have the audit yet.
    finish.write_page(result.path, say)
    return outcome


def _membership(
    settings: Audit, setup: Setup, result: RunResult, trained: Sequence[str]
) -> Any:
    """Attacks the exported model; None if this is withheld or examples are missing.

    Members are the training examples of clients that took part. Non-members are the
    test examples of all training clients. ε does not cover the attack's result, so a
    run may withhold it.
    """
    if not released.release_of(setup).shows_file(MEMBERSHIP):
        return None
    import tensorflow as tf

    seed, most = setup.experiment.training.seed, settings.attack_examples
    kinds = [
        _examples(setup.task.train.subset(trained), most, seed),
        _examples(setup.task.test, most, seed),
    ]
    if min(structures.num_examples(kind) for kind in kinds) < 2:
        return None
    model = tf.keras.models.load_model(
        str(result.path / "export" / "final"), compile=False
    )
    objective = setup.task.build_objective()

    def losses_of(kind: Mapping[str, np.ndarray], rows: slice) -> np.ndarray:
        batch = {name: tf.constant(array[rows]) for name, array in kind.items()}
        predictions = model(structures.packed(batch, "x"), training=False)
        losses: np.ndarray = objective.example_losses(
            structures.packed(batch, "y"), predictions
        ).numpy()
        return losses

    losses = [
        np.concatenate(
            [
                losses_of(kind, slice(start, start + 512))
                for start in range(0, structures.num_examples(kind), 512)
            ]
        )
        for kind in kinds
    ]
    return audit.loss_threshold_attack(
        losses[0], losses[1], confidence=settings.audit_confidence, seed=seed
    )


def _examples(clients: ClientData, most: int, seed: int) -> dict[str, np.ndarray]:
    """Draws at most `most` of the clients' examples uniformly."""
    sizes = [clients.num_examples(name) for name in clients.client_ids]
    total = sum(sizes)
    generator = derived_generator("attack examples", seed)
    chosen = np.sort(generator.permutation(total)[:most])
    found: dict[str, list[np.ndarray]] = {name: [] for name in clients.specs}
    start = 0
    for (_, examples), size in zip(clients.items(), sizes):
        first, last = np.searchsorted(chosen, [start, start + size])
        for name, parts in found.items():
            parts.append(examples[name][chosen[first:last] - start])
        start += size
    nothing = structures.no_examples(clients.specs)
    return {
        name: np.concatenate([nothing[name], *parts]) for name, parts in found.items()
    }
