"""Makes the event that the arguments of `privacy_ledger plan` describe."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any, Optional

from tfl_research import sampling
from tfl_research.errors import SettingError
from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.accounting.events.search_event import (
    HyperparameterSearchEvent,
)
from tfl_research.privacy.ledger.checks.ledger_set import LedgerSet
from tfl_research.privacy.mechanisms.catalogue.registry import MECHANISMS
from tfl_research.privacy.mechanisms.catalogue.run_context import RunShape
from tfl_research.privacy.mechanisms.catalogue.specification import MechanismSettings

SAMPLERS = {
    "poisson": sampling.Poisson,
    "fixed": sampling.FixedSize,
    "shuffled": sampling.Shuffled,
    "full": sampling.Full,
    "min_separation": sampling.MinSeparation,
    "cyclic_poisson": sampling.CyclicPoisson,
}
# Two numbers of rounds; they show whether an event depends on the number.
_SOME_ROUNDS = (1 << 20, (1 << 20) + 1)


def event(
    arguments: argparse.Namespace, like: Optional[LedgerSet] = None
) -> tuple[Event, Callable[[float], Event]]:
    """Makes the event of the planned rounds.

    Args:
      arguments: the arguments of the command line.
      like: the ledger of --event_of, with rounds; or None.

    Returns:
      The event of each round, with noise multiplier 1 if the noise is to be
      calibrated, and a function that gives the event with a noise multiplier.

    Raises:
      ValueError: an argument is missing or out of range, or arguments do not fit.
    """
    if like is not None:
        planned = [run for run in like.runs if run.events][-1].events[-1]
        return _searched(arguments, planned), lambda noise: _searched(
            arguments, planned.with_noise(noise)
        )
    mechanism, shape = _mechanism(arguments), _shape(arguments)
    mechanism.check_sampler(arguments.sampler)
    mechanism.check_shape(shape)

    def with_noise(noise: float) -> Event:
        return _searched(arguments, mechanism.event(noise, shape))

    noise = arguments.noise_multiplier
    planned = mechanism.checked_event(1.0 if noise is None else noise, shape)
    if arguments.rounds is None and _depends_on_rounds(mechanism, shape):
        raise ValueError(
            f"--mechanism={mechanism.NAME}: its noise depends on the number of "
            "rounds; give --rounds"
        )
    if arguments.sampling_rate is not None:
        if planned.rate != arguments.sampling_rate:
            raise ValueError(
                f"--sampling_rate={arguments.sampling_rate}: goes with noise that "
                "sampling amplifies; give --cohort_size and --population"
            )
    elif noise is not None:
        mechanism.check_noise(noise, shape)
    return _searched(arguments, planned), with_noise


def _mechanism(arguments: argparse.Namespace) -> MechanismSettings:
    values = vars(arguments)
    parameters = {name: values[name] for name in MECHANISMS.parameters()}
    return MECHANISMS.from_flat({"mechanism": arguments.mechanism, **parameters})


def _shape(arguments: argparse.Namespace) -> RunShape:
    amplification = _amplification(arguments)
    rounds: Optional[int] = arguments.rounds
    return RunShape(
        amplification,
        _SOME_ROUNDS[0] if rounds is None else rounds,
        amplification.cohort_size,
        lambda: _dimension(arguments),
    )


def _dimension(arguments: argparse.Namespace) -> int:
    if arguments.dimension is None:
        raise SettingError(
            f"--dimension is missing: the noise of {arguments.mechanism} depends on "
            "the number of scalars in an update"
        )
    if arguments.dimension < 1:
        raise SettingError(f"--dimension={arguments.dimension}: must be at least 1")
    return int(arguments.dimension)


def _depends_on_rounds(mechanism: MechanismSettings, shape: RunShape) -> bool:
    shorter, longer = (
        mechanism.event(1.0, dataclasses.replace(shape, rounds=rounds))
        for rounds in _SOME_ROUNDS
    )
    return shorter != longer


def _searched(arguments: argparse.Namespace, base: Event) -> Event:
    if arguments.search_mean is None:
        return base
    return HyperparameterSearchEvent(
        base, arguments.search_mean, arguments.search_shape
    )


def _amplification(arguments: argparse.Namespace) -> sampling.Amplification:
    rate = arguments.sampling_rate
    if rate is None:
        return _sampler(arguments).amplification
    if arguments.cohort_size is not None or arguments.population is not None:
        raise ValueError(
            f"--sampling_rate={rate}: stands for --cohort_size and --population; "
            "leave it or them out"
        )
    if arguments.sampler != "poisson":
        raise ValueError(
            f"--sampling_rate={rate}: goes with --sampler=poisson only; give "
            "--cohort_size and --population"
        )
    if not 0 < rate <= 1:
        raise ValueError(f"sampling_rate must be in (0, 1], got {rate}")
    # ε depends on the rate alone: any population that gives this rate will do.
    size = max(1, round(1 / rate))
    cohort = min(size * rate, size)
    return sampling.Amplification("poisson", rate, size, cohort, "add_or_remove_one")


def _sampler(arguments: argparse.Namespace) -> sampling.Sampler:
    """Makes the experiments' sampler over `--population` clients, for amplification.

    Raises:
      ValueError: a number is missing, or the sampler refuses it.
    """
    name, size = arguments.sampler, arguments.cohort_size
    if arguments.population is None:
        raise ValueError("--population is missing (or --sampling_rate)")
    if arguments.population < 1:
        raise ValueError(f"--population must be at least 1, got {arguments.population}")
    clients: Any = range(arguments.population)
    separates = name in ("min_separation", "cyclic_poisson")
    if arguments.min_separation is not None and not separates:
        raise ValueError(
            f"--min_separation={arguments.min_separation}: does not go with "
            f"--sampler={name}; leave it out"
        )
    if name == "full":
        if size is not None:
            raise ValueError(
                f"--cohort_size={arguments.cohort_size:g}: --sampler=full takes every "
                "client; leave --cohort_size out"
            )
        return sampling.Full(clients)
    if size is None:
        raise ValueError("--cohort_size is missing (or --sampling_rate)")
    if name in sampling.OWN_SAMPLERS:
        # The account depends on no parameter of the sampler.
        return sampling.OwnCohorts(clients, size, 0, sampling.SamplerSettings())
    chosen: Any = SAMPLERS[name]
    if not separates:
        return chosen(clients, size, 0)
    if name == "cyclic_poisson" and arguments.min_separation is None:
        raise ValueError("--sampler=cyclic_poisson: needs --min_separation too")
    return chosen(clients, size, 0, arguments.min_separation)
