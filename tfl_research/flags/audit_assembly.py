"""The further steps of an audited experiment."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfl_research import privacy
from tfl_research.data import ClientData, derived_generator
from tfl_research.flags import assembly
from tfl_research.flags.assembly import Setup
from tfl_research.flags.audit_flags import AuditFlags
from tfl_research.flags.private_assembly import PrivacyPlan
from tfl_research.privacy import audit
from tfl_research.privacy.audit import plots
from tfl_research.program import RunResult
from tfl_research.sampling import Sampler
from tfl_research.storage import RunFolder, atomic

if TYPE_CHECKING:
    import tensorflow_federated as tff

    from tfl_research.clients import ClientWork
    from tfl_research.processes import ClientWeighting

# Fewer weights than this many for each canary, and canaries hide each other.
_WEIGHTS_PER_CANARY = 10


def canaries(flags: AuditFlags, seed: int) -> audit.Canaries:
    """The canaries of a run.

    Args:
      flags: how many.
      seed: of the run (--seed), not its secret one.
    """
    return audit.Canaries(flags.canaries, seed)


def setup(flags: AuditFlags) -> Setup:
    """`assembly.setup`, with canaries among the training clients.

    Raises:
      FlagError: a flag's value is refused.
    """

    def join(task: Any) -> Any:
        seed = assembly.RunFlags.get().seed
        return dataclasses.replace(task, train=canaries(flags, seed).join(task.train))

    return assembly.setup(join)


def warn_of_sabotage(flags: AuditFlags, folder: RunFolder) -> None:
    """Says on standard error and in the run's folder that its ε is false."""
    if flags.sabotage == "none":
        return
    text = (
        f"SABOTAGED with --sabotage={flags.sabotage}: this run's ε, ledger and privacy "
        "statement are false. It tests the audit; use nothing of it."
    )
    warnings.warn(text, stacklevel=2)
    atomic.write(folder.path / "SABOTAGED", (text + "\n").encode())


def client_work(
    flags: AuditFlags, promise: PrivacyPlan, parts: Setup, base: ClientWork
) -> ClientWork:
    """The base work for clients, and canaries' updates for canaries."""
    from tfl_research import clients

    return clients.CanaryWork(
        base,
        seed=parts.run.seed,
        norm=flags.canary_scale * promise.mechanism.l2_norm_clip,
    )


def aggregator(
    flags: AuditFlags, parts: Setup, mechanism: privacy.Mechanism
) -> tff.aggregators.WeightedAggregationFactory:
    """The mechanism's aggregator, sabotaged if so wished, and watched."""
    unit = flags.weight_unit(parts.weighting)
    return audit.CanaryObserver(
        audit.ClaimedWeights(
            audit.sabotaged(mechanism.aggregator, flags.sabotage, weight_unit=unit),
            client_weighting(flags, parts).weight,
            flags.canary_scale * unit,
        ),
        count=flags.canaries,
        seed=parts.run.seed,
        keep_max=flags.audit_statistic == "max",
    )


def client_weighting(flags: AuditFlags, parts: Setup) -> ClientWeighting:
    """The flags' weighting, or by examples where weights are not to be capped."""
    from tfl_research import processes
    from tfl_research.flags import builders

    if flags.sabotage == "weights_uncapped":
        return processes.ClientWeighting("examples")
    return builders.client_weighting(parts.weighting)


def examine(
    flags: AuditFlags,
    parts: Setup,
    account: privacy.RoundAccount,
    result: RunResult,
    sampler: Sampler,
) -> audit.AuditResult:
    """Audits a finished run: prints, and writes audit.json and canaries.svg.

    Everything is computed from the final state, the exported model and the flags, so
    that a run that was stopped and resumed is audited alike.

    Args:
      flags: of the audit.
      parts: of `setup`.
      account: of the run.
      result: of the run.
      sampler: gave the cohorts.
    """
    from tfl_research import processes

    crew = canaries(flags, parts.run.seed)
    initial = processes.functional_model(parts.task, parts.run.seed).initial_weights
    dimension = sum(weight.size for weight in initial)
    if dimension < _WEIGHTS_PER_CANARY * crew.count:
        warnings.warn(
            f"{crew.count} canaries hide each other in a model of {dimension} weights; "
            f"give --canaries={max(dimension // _WEIGHTS_PER_CANARY, 2)} or fewer",
            stacklevel=2,
        )
    cosines = audit.observed(result.state, initial, crew.seed, crew.count)
    rounds = result.completed_rounds
    trained = {name for r in range(1, rounds + 1) for name in sampler.sample(r)}
    found = audit.AuditResult.of(
        cosines,
        crew.included,
        statistic=flags.audit_statistic,
        rounds=rounds,
        dimension=dimension,
        epsilon=account.epsilon_after(rounds),
        delta=account.delta,
        confidence=flags.audit_confidence,
        seed=parts.run.seed,
        sabotage=flags.sabotage,
        membership=_membership(flags, parts, result, sorted(trained)),
    )
    atomic.write(result.path / "audit.json", found.to_json().encode())
    sys.stdout.write("".join(f"audit: {line}\n" for line in found.lines()))
    try:
        plots.save(
            result.path / "canaries.svg",
            cosines[flags.audit_statistic],
            crew.included,
            statistic=flags.audit_statistic,
            dimension=dimension,
        )
    except ImportError:
        sys.stdout.write("audit: no canaries.svg, since matplotlib is not installed\n")
    return found


def _membership(
    flags: AuditFlags, parts: Setup, result: RunResult, trained: Sequence[str]
) -> Any:
    """The attack on the exported model; None where a kind of example is lacking.

    Members are the training examples of clients that took part, non-members the test
    examples of all clients that are trained.
    """
    import tensorflow as tf

    seed, most = parts.run.seed, flags.attack_examples
    kinds = [
        _examples(parts.task.train.subset(trained), most, seed),
        _examples(parts.task.test, most, seed),
    ]
    if min(len(kind["y"]) for kind in kinds) < 2:
        return None
    model = tf.keras.models.load_model(
        str(result.path / "export" / "final"), compile=False
    )
    objective = parts.task.build_objective()
    losses = [
        np.concatenate(
            [
                objective.example_losses(
                    tf.constant(kind["y"][start : start + 512]),
                    model(tf.constant(kind["x"][start : start + 512]), training=False),
                ).numpy()
                for start in range(0, len(kind["y"]), 512)
            ]
        )
        for kind in kinds
    ]
    return audit.loss_threshold_attack(
        losses[0], losses[1], confidence=flags.audit_confidence, seed=seed
    )


def _examples(clients: ClientData, most: int, seed: int) -> dict[str, np.ndarray]:
    """At most so many of the clients' examples, all alike to be among them."""
    sizes = [clients.num_examples(name) for name in clients.client_ids]
    total = sum(sizes)
    generator = derived_generator("attack examples", seed)
    chosen = np.sort(generator.permutation(total)[:most])
    found: dict[str, list[np.ndarray]] = {"x": [], "y": []}
    start = 0
    for (_, examples), size in zip(clients.items(), sizes):
        first, last = np.searchsorted(chosen, [start, start + size])
        for name, parts in found.items():
            parts.append(examples[name][chosen[first:last] - start])
        start += size
    return {
        name: np.concatenate(parts) if parts else np.zeros((0,))
        for name, parts in found.items()
    }
