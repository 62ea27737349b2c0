"""What the flags of the algorithm become.

TensorFlow is imported in `algorithm` only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tfl_research.flags.algorithm_flags import AlgorithmFlags
from tfl_research.flags.assembly import Setup
from tfl_research.flags.declare import FlagError
from tfl_research.sampling import Repeated, Sampler

if TYPE_CHECKING:
    from tfl_research.algorithms import Algorithm


def check(flags: AlgorithmFlags, parts: Setup) -> None:
    """Refuses flags of the other groups that do not go with the algorithm.

    Raises:
      FlagError: weights other than uniform where the paper has none, local steps other
        than it assumes, or a server optimizer that it leaves no room for.
    """
    name, client = flags.algorithm, parts.client
    if flags.needs_uniform_weights and parts.weighting.client_weighting != "uniform":
        raise FlagError(
            f"--client_weighting={parts.weighting.client_weighting}: {name} weighs all "
            "clients alike; give --client_weighting=uniform"
        )
    if name == "scaffold" and flags.scaffold_option != 1:
        _check_sgd(client, f"{name} (--scaffold_option=2)", momentum=False)
        if client.gradient_clip is not None:
            raise FlagError(
                f"--client_gradient_clip={client.gradient_clip:g}: needs "
                "--scaffold_option=1 under scaffold"
            )
    if name == "fed_nova":
        _check_sgd(client, name, momentum=not flags.proximal_strength)
    server = parts.server
    if name in ("fed_dyn", "fed_exp") and (
        server.optimizer != "sgd"
        or server.learning_rate != 1
        or server.momentum
        or server.scheduled
    ):
        raise FlagError(
            f"--server_optimizer={server.optimizer}: {name} has a server step of its "
            "own; leave the server optimizer's flags out"
        )


def _check_sgd(client: Any, what: str, *, momentum: bool) -> None:
    if client.optimizer != "sgd" or (client.momentum and not momentum):
        plain = "SGD" if momentum else "SGD without momentum"
        raise FlagError(f"--client_optimizer={client.optimizer}: {what} needs {plain}")


def sampler(flags: AlgorithmFlags, parts: Setup) -> Sampler:
    """The cohorts of the algorithm's rounds."""
    if flags.exchanges == 1:
        return parts.sampler
    return Repeated(parts.sampler, flags.exchanges)


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
    if name == "fed_nova":
        return algorithms.fed_nova(
            steps, server=server, proximal_strength=strength or 0.0
        )
    if name == "fed_exp":
        base = clients.LocalTraining(steps)
        return algorithms.fed_exp(base, epsilon=flags.exp_epsilon or 1e-3)
    if name == "mime":
        return algorithms.mime(steps, server=server)
    if name == "mime_lite":
        return algorithms.mime_lite(steps, server=server)
    return algorithms.fed_avg(steps, server=server)
