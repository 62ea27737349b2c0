"""What the flags of the algorithm become.

TensorFlow is imported in `algorithm`, and in `check_model` where the model counts.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Optional

from tfl_research import devices
from tfl_research.flags.algorithm_flags import SPLIT, AlgorithmFlags
from tfl_research.flags.app import given
from tfl_research.flags.assembly import Setup
from tfl_research.flags.cohort_flags import WeightingFlags
from tfl_research.flags.declare import FlagError
from tfl_research.flags.silo_flags import SiloFlags
from tfl_research.sampling import Repeated, Sampler

if TYPE_CHECKING:
    from tfl_research.algorithms import Algorithm
    from tfl_research.program import PersonalEvaluator


# Where the flags say nothing.
_KEPT_UNITS, _PERSONAL_TENSORS = 0.5, 2


def weighted(flags: AlgorithmFlags, parts: Setup) -> Setup:
    """The parts, with the algorithm's own weights where no others are given."""
    if not flags.needs_uniform_weights or given("client_weighting") is not None:
        return parts
    return dataclasses.replace(parts, weighting=WeightingFlags("uniform"))


def sampler(flags: AlgorithmFlags, silos: SiloFlags, parts: Setup) -> Sampler:
    """The cohorts of the algorithm's rounds, without clients that are down.

    Raises:
      FlagError: clients that come and go, where they are to stay or come and go
        already.
    """
    reporting = silos.sampler(parts.sampler, parts.run.seed)
    simulated = isinstance(parts.sampler, devices.DeviceRounds)
    if simulated and flags.personal_evaluation:
        raise FlagError("--personal_evaluation: does not go with --devices")
    if simulated and reporting is not parts.sampler:
        raise FlagError(
            "--silo_drop_out and --minimum_clients: --devices has --drop_out and "
            "--minimum_cohort; give these"
        )
    if flags.exchanges == 1:
        return reporting
    if simulated or reporting is not parts.sampler:
        raise FlagError(
            f"--algorithm={flags.algorithm}: needs the same clients in "
            f"{flags.exchanges} rounds in a row; leave --devices, --silo_drop_out and "
            "--minimum_clients out"
        )
    return Repeated(parts.sampler, flags.exchanges)


def check_model(flags: AlgorithmFlags, parts: Setup) -> None:
    """Refuses a model that the algorithm cannot take apart.

    Comes before the run's folder is opened; imports TensorFlow for algorithms that
    take models apart, and for no other.

    Raises:
      FlagError: as described.
    """
    if flags.algorithm == "fed_dropout":
        _check_sub_models(flags.kept_units or _KEPT_UNITS, parts)
    if flags.algorithm in SPLIT:
        _check_split(flags.personal_tensors or _PERSONAL_TENSORS, parts)


def algorithm(flags: AlgorithmFlags, parts: Setup) -> Algorithm:
    """The algorithm of --algorithm; imports TensorFlow."""
    from tfl_research import algorithms, clients, processes
    from tfl_research.flags import builders

    steps = builders.local_steps(parts.client)
    server = processes.OptimizerStep(builders.server_optimizer(parts.server))
    population = len(parts.task.train)
    name, strength = flags.algorithm, flags.proximal_strength
    if name == "fed_prox":
        return algorithms.fed_avg(
            steps,
            server=server,
            proximal_strength=0.1 if strength is None else strength,
        )
    if name == "adaptive_prox":
        return algorithms.adaptive_prox(steps, server=server, initial=strength or 0.0)
    if name == "scaffold":
        return algorithms.scaffold(
            steps,
            population=population,
            server=server,
            option=flags.scaffold_option or 2,
        )
    if name == "fed_dyn":
        alpha = flags.dyn_alpha or 0.1
        return algorithms.fed_dyn(steps, population=population, alpha=alpha)
    if name == "fed_dropout":
        share = flags.kept_units or _KEPT_UNITS
        return algorithms.fed_dropout(steps, share=share, server=server)
    if name == "fed_nova":
        return algorithms.fed_nova(
            steps, server=server, proximal_strength=strength or 0.0
        )
    if name == "fed_exp":
        base = clients.LocalTraining(steps)
        return algorithms.fed_exp(
            base, epsilon=flags.exp_epsilon or 1e-3, averages=bool(flags.exp_average)
        )
    if flags.buffering is not None:
        return algorithms.fed_buff(
            clients.LocalTraining(steps),
            server=server,
            max_staleness=flags.buffering[1],
        )
    if name == "mime":
        return algorithms.mime(steps, server=server)
    if name == "mime_lite":
        return algorithms.mime_lite(steps, server=server)
    if name == "ditto":
        strength = flags.personal_strength
        return algorithms.ditto(
            steps, server=server, strength=1.0 if strength is None else strength
        )
    if name in SPLIT:
        tensors = flags.personal_tensors or _PERSONAL_TENSORS
        share = flags.personal_share or 0.5
        build = getattr(algorithms, name)
        split = {"personal_tensors": tensors, "personal_share": share}
        return build(steps, server=server, **split)
    if name == "ifca":
        models = algorithms.cluster_models(
            parts.task, flags.clusters or 2, parts.run.seed
        )
        return algorithms.ifca(steps, models)
    return algorithms.fed_avg(steps, server=server)


def _check_sub_models(share: float, parts: Setup) -> None:
    """Refuses a model without layers that can be made smaller.

    Raises:
      FlagError: as described.
    """
    from tfl_research import algorithms, processes

    specs = processes.functional_model(parts.task).weight_specs
    try:
        algorithms.SubModels(share).check(specs)
    except ValueError as error:
        raise FlagError(f"--algorithm=fed_dropout: {error}") from error
    if len(specs) == 2:
        raise FlagError(
            f"--algorithm=fed_dropout: the model of {parts.task.name} is one layer, "
            "which has no units to leave out; choose another --algorithm"
        )


def _check_split(personal_tensors: int, parts: Setup) -> None:
    """Refuses a personal part that leaves nothing to share.

    Raises:
      FlagError: as described.
    """
    from tfl_research import algorithms, processes

    try:
        part = algorithms.PersonalPart(personal_tensors)
        part.check(processes.functional_model(parts.task))
    except ValueError as error:
        raise FlagError(f"--personal_tensors: {error}") from error


def personal_evaluator(
    flags: AlgorithmFlags, chosen: Algorithm, parts: Setup
) -> Optional[PersonalEvaluator]:
    """The evaluator of --personal_evaluation, None without; imports TensorFlow."""
    if not flags.personal_evaluation:
        return None
    from tfl_research import clients, processes, program
    from tfl_research.flags import builders

    work = chosen.client_work
    if not hasattr(work, "build_personal"):
        work = clients.LocalTraining(builders.local_steps(parts.client))
    model = processes.functional_model(parts.task, parts.run.seed)
    # What the server shares is of use to work with personal models only.
    shared = (
        chosen.server_work.shared
        if work is chosen.client_work
        else lambda weights, state: None
    )
    return program.PersonalEvaluator(
        parts.task,
        work.build_personal(model, parts.task.build_objective()),
        model.forward,
        shared=shared,
        seed=parts.run.seed,
    )
