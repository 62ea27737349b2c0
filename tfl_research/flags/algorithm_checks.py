"""Which flags of the other groups go with an algorithm; without TensorFlow."""

from __future__ import annotations

from tfl_research.flags.aggregator_flags import AggregatorFlags
from tfl_research.flags.algorithm_flags import REPORTS, AlgorithmFlags
from tfl_research.flags.assembly import Setup
from tfl_research.flags.compression_flags import CompressionFlags
from tfl_research.flags.declare import FlagError
from tfl_research.flags.optimizer_flags import (
    ClientOptimizerFlags,
    ServerOptimizerFlags,
)

# Whose updates are not of the whole model and nothing else.
_OTHER_UPDATES = {
    "ifca": "an update for each cluster",
    "fed_dropout": "an update of a part of the model",
}


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
            "clients alike; give --client_weighting=uniform, or leave it out"
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
        _check_nova_proximal(flags, client)
    if name in ("fed_dyn", "fed_exp", "ifca"):
        _check_averaging(parts.server, name)


def check_aggregation(
    flags: AlgorithmFlags, aggregation: AggregatorFlags, compression: CompressionFlags
) -> None:
    """Refuses what acts on updates where the algorithm has more than updates.

    Raises:
      FlagError: an aggregator or a compression that would change nothing, or leave
        out what clients report or keep beside their updates.
    """
    name, chosen = flags.algorithm, aggregation.aggregator
    if name in _OTHER_UPDATES:
        for flag, value, plain in (
            ("aggregator", chosen, "mean"),
            ("compression", compression.compression, "none"),
        ):
            if value != plain:
                raise FlagError(
                    f"--{flag}={value}: clients of {name} send {_OTHER_UPDATES[name]}, "
                    f"of which the server takes the mean; give --{flag}={plain}"
                )
    if name == "fed_dyn" and chosen != "mean":
        raise FlagError(
            f"--aggregator={chosen}: clients of fed_dyn keep what they sent, and the "
            "server has to add up the same; give --aggregator=mean"
        )
    # A code for updates promises nothing that a report could break.
    if name in REPORTS and chosen not in ("mean", "compression"):
        raise FlagError(
            f"--aggregator={chosen}: acts on updates alone, and clients of {name} also "
            f"send {REPORTS[name]}, of which the server takes the mean; give "
            "--aggregator=mean"
        )
    if name == "fed_exp" and compression.compression != "none":
        raise FlagError(
            f"--compression={compression.compression}: clients of fed_exp send the "
            "norm of their update as it was before the code; give --compression=none"
        )


def _check_sgd(client: ClientOptimizerFlags, what: str, *, momentum: bool) -> None:
    if client.optimizer != "sgd":
        raise client.refused("optimizer", f"{what} needs --client_optimizer=sgd")
    if client.momentum and not momentum:
        raise client.refused(
            "momentum", f"{what} needs SGD without momentum; leave it out"
        )


def _check_nova_proximal(flags: AlgorithmFlags, client: ClientOptimizerFlags) -> None:
    if not flags.proximal_strength:
        return
    if client.gradient_clip is not None:
        raise client.refused(
            "gradient_clip",
            "fed_nova with --proximal_strength needs gradients as they are; leave one "
            "of them out",
        )
    if client.learning_rate * flags.proximal_strength > 1:
        raise flags.refused(
            "proximal_strength",
            f"times --client_learning_rate={client.learning_rate:g} must be at most 1 "
            "under fed_nova; lower one of them",
        )


def _check_averaging(server: ServerOptimizerFlags, name: str) -> None:
    given = {
        "optimizer": server.optimizer != "sgd",
        "learning_rate": server.learning_rate != 1,
        "momentum": bool(server.momentum),
        "learning_rate_schedule": server.learning_rate_schedule != "constant",
        "learning_rate_warmup_rounds": server.learning_rate_warmup_rounds > 0,
    }
    for field, is_given in given.items():
        if is_given:
            raise server.refused(
                field, f"{name} has a server step of its own; leave it out"
            )
