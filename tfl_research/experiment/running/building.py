"""Builds the TFF process of a checked experiment; imports TensorFlow."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Sequence
from typing import Any, Optional

import tensorflow as tf

from tfl_research import (
    aggregators,
    attacks,
    clients,
    privacy,
    processes,
    program,
    runtime,
)
from tfl_research.algorithms import ALGORITHMS, Algorithm, AlgorithmContext
from tfl_research.errors import naming_own_parts
from tfl_research.experiment import attacked, flattening, used_optimizers
from tfl_research.experiment.private import audited
from tfl_research.experiment.private.releases import released
from tfl_research.experiment.setup import Setup

# A TFF aggregation factory, with weights or without.
_Factory = Any


def process(
    setup: Setup,
    *,
    noise_seed: int,
    secure: Optional[bool] = None,
    work: Optional[clients.ClientWork] = None,
) -> processes.FederatedProcess:
    """Builds the process of an experiment.

    Args:
      setup: the setup of the experiment.
      noise_seed: secret; the noise is a function of this seed and of the round.
      secure: whether mechanisms may have secure sums; by default, if the runtime can
        execute them. TFF's runtime cannot execute a secure sum of 64-bit integers
        modulo a number; it gets the plain sum of the same integers.
      work: client work that replaces the algorithm's own work.
    """
    if secure is None:
        secure = has_secure_sums(setup)
    with naming_own_parts(flattening.own_parts(setup.experiment)):
        return _built(setup, noise_seed, secure, work)


def _built(
    setup: Setup,
    noise_seed: int,
    secure: bool,
    work: Optional[clients.ClientWork] = None,
) -> processes.FederatedProcess:
    experiment = setup.experiment
    watched = None
    if ALGORITHMS.origin(experiment.chosen_algorithm.NAME) is not None:
        watched = (
            used_optimizers.Watched(experiment.clients.build()),
            used_optimizers.Watched(experiment.server.build()),
        )
    algorithm = _algorithm(setup, watched)
    replaced = work is not None or setup.record_level is not None
    work = experiment.compression.wrap(work or algorithm.client_work)
    work = attacked.client_work(setup, work)
    work = audited.client_work(setup, work)
    built = dataclasses.replace(algorithm, client_work=work).build(
        setup.task,
        max_cohort_size=setup.asked.maximum_cohort_size,
        aggregator=_aggregator(setup, noise_seed, secure),
        client_weighting=audited.client_weighting(setup),
        seed=experiment.training.seed,
        secure_sums=setup.sum_formats(secure=secure),
    )
    if watched is not None and not replaced:
        used_optimizers.check(experiment.chosen_algorithm, *watched)
    return built


def has_secure_sums(setup: Setup) -> bool:
    """Whether the runtime executes all secure sums."""
    return setup.experiment.runtime.runtime in ("in_process", "federation")


def local_steps(setup: Setup) -> clients.LocalSteps:
    """Makes the clients' optimizer, with its schedule and gradient clipping."""
    optimizer = setup.experiment.clients
    schedule = optimizer.schedule() if optimizer.scheduled else None
    return clients.LocalSteps(optimizer.build(), optimizer.gradient_clip, schedule)


def _algorithm(
    setup: Setup, optimizers: Optional[Sequence[used_optimizers.Watched]] = None
) -> Algorithm:
    """Builds the algorithm.

    Args:
      setup: the setup of the experiment.
      optimizers: the client optimizer and the server optimizer that the builder gets;
        by default the optimizers of the experiment.
    """
    experiment = setup.experiment
    settings = experiment.server_optimizer
    server = processes.OptimizerStep(
        settings.build(), settings.schedule() if settings.scheduled else None
    )
    steps = local_steps(setup)
    if optimizers is not None:
        steps = dataclasses.replace(steps, optimizer=optimizers[0])
        server = dataclasses.replace(server, optimizer=optimizers[1])
    plan = setup.record_level
    if plan is not None:
        client = experiment.clients
        work = plan.client_work(
            optimizer=client.build(),
            learning_rate_schedule=client.schedule() if client.scheduled else None,
            report_metrics=released.reports_metrics(setup),
        )
        return Algorithm(work, server)
    return experiment.chosen_algorithm.build(
        AlgorithmContext(
            steps,
            server,
            len(setup.asked.client_ids),
            setup.task,
            experiment.training.seed,
        )
    )


def _aggregator(setup: Setup, noise_seed: int, secure: bool) -> _Factory:
    experiment = setup.experiment
    if setup.user_level is not None:
        mechanism = _mechanism(setup, setup.user_level, noise_seed, secure)
        if experiment.audit is not None:
            return audited.aggregator(setup, mechanism)
        return mechanism
    if experiment.attack.kind != attacks.OMNISCIENT:
        return _rule(setup, secure)
    chosen = experiment.chosen_aggregator
    if chosen is None:
        raise TypeError("an attack on all updates needs an aggregator of settings")
    return attacked.aggregator(setup, chosen.build_stacked(_context(setup, secure)))


def _rule(setup: Setup, secure: bool) -> _Factory:
    """Builds the aggregation factory without privacy and attack."""
    chosen = setup.experiment.chosen_aggregator
    if chosen is None:
        return setup.experiment.aggregator
    return chosen.build(_context(setup, secure))


def _context(setup: Setup, secure: bool) -> aggregators.AggregatorContext:
    return aggregators.AggregatorContext(
        maximum_cohort_size=setup.reporting.maximum_cohort_size,
        minimum_cohort_size=setup.reporting.minimum_cohort_size,
        weighted=setup.experiment.resolved_weighting.client_weighting != "uniform",
        seed=setup.experiment.training.seed,
        secure_sums=setup.sum_formats(secure=secure),
    )


def check_sums(setup: Setup, process: processes.FederatedProcess) -> None:
    """Refuses --secure_sums if clients send values outside of the secure sums.

    The toolkit's parts are refused before they are built; this function checks a user's
    own parts. A client's state, and its position in the table of states, are no report:
    in a federation they do not leave the site.

    Raises:
      SettingError: clients send values outside of the secure sums.
    """
    secure = setup.experiment.secure_sums
    if not secure.secure_sums:
        return
    if not has_secure_sums(setup):
        # The seed belongs to no run: no output of this process is released.
        process = _built(setup, secrets.randbits(128), True)
    left = runtime.plain_leaves(process)
    if process.client_states is not None:
        left -= len(process.client_states.members)
    if left:
        raise secure.refused(
            "secure_sums",
            f"clients send {left} values outside of secure sums, because a part of "
            "your own adds them up itself "
            f"(--aggregator={setup.experiment.aggregator_name}, a mechanism or an "
            "algorithm); let this part use the secure sums of its context, or leave "
            "--secure_sums out",
        )


def _client_secrets(setup: Setup) -> bool:
    """Whether clients must draw their noise from secrets that the server lacks."""
    experiment = setup.experiment
    return experiment.runtime.separately or experiment.secure_sums.secure_sums


def check_noise(setup: Setup, *, judged: bool) -> None:
    """Tests the noise that a user's own mechanism adds, once for each run.

    A mechanism could measure other noise than it adds; see `privacy.probe_noise`. Tests
    of the toolkit check the toolkit's own mechanisms.

    Args:
      setup: the setup of the run.
      judged: whether an earlier start of the run has tested the same process.

    Raises:
      SettingError: the noise that is added is not the noise that is charged.
    """
    plan = setup.user_level
    if plan is None or judged:
        return
    if privacy.MECHANISMS.origin(plan.mechanism.NAME) is None:
        return
    # The seeds belong to no run: no output is released.
    first, second = (
        plan.build(
            privacy.MechanismContext(noise_seed=secrets.randbits(128), secure=False)
        )
        for _ in range(2)
    )
    privacy.probe_noise(first, other=second)


def _mechanism(
    setup: Setup, plan: privacy.UserLevelPlan, noise_seed: int, secure: bool
) -> _Factory:
    """Builds the mechanism's aggregation factory, with a rule if that is sound."""
    experiment, chosen = setup.experiment, setup.experiment.chosen_aggregator
    has_rule = chosen is None or chosen.NAME != "mean"
    after_noise = has_rule and plan.mechanism.noised_at_clients
    server = experiment.server_optimizer
    built = plan.build(
        privacy.MechanismContext(
            noise_seed=noise_seed,
            server_momentum=server.momentum or 0.0,
            learning_rates=_learning_rates(setup),
            linear_server=server.optimizer == "sgd",
            rule=_rule(setup, secure) if after_noise else None,
            secure=secure,
            secure_sums=setup.sum_formats(secure=secure),
            client_secrets=_client_secrets(setup),
        )
    )
    if has_rule and not after_noise and chosen is not None:
        # Only norm clipping may come before noise at the server.
        return chosen.before_noise(built.aggregator)
    return built.aggregator


def _learning_rates(setup: Setup) -> Optional[tuple[float, ...]]:
    """Returns the server's learning rate of every round; None if it is constant."""
    server = setup.experiment.server_optimizer
    if not server.scheduled:
        return None
    schedule = server.schedule()
    return tuple(
        float(schedule(tf.constant(number, tf.int32)))
        for number in range(setup.experiment.training.rounds)
    )


def personal_evaluator(setup: Setup) -> Optional[program.PersonalEvaluator]:
    """Makes the evaluator of clients' personal models, if the experiment has one."""
    experiment = setup.experiment
    if not experiment.personal_evaluation:
        return None
    algorithm = _algorithm(setup)
    work = algorithm.client_work
    model = setup.task.functional_model(experiment.training.seed)
    objective = setup.task.build_objective()
    build = clients.LocalState.around(work, model).build_personal(model, objective)
    shared = algorithm.server_work.shared
    if build is None:
        # Without personal models, a client takes local steps from the final model.
        fine_tuned = clients.LocalTraining(local_steps(setup))
        personal = fine_tuned.build_personal(model, objective)
        build, shared = clients.with_own_statistics(personal, model), _nothing
        if algorithm.exchanges > 1:
            build = _in_paper_rounds(build, algorithm.exchanges)

    return program.PersonalEvaluator(
        setup.task,
        build,
        model,
        shared=shared,
        seed=experiment.training.seed,
    )


def _in_paper_rounds(
    train: clients.PersonalFunction, exchanges: int
) -> clients.PersonalFunction:
    """Makes the schedule count the paper's rounds, each of which has some exchanges."""
    return lambda weights, batches, round_number: train(
        weights, batches, round_number // exchanges
    )


def _nothing(weights: Any, state: Any) -> Any:
    """Returns None, if personal models need no values from the server."""
    return None
