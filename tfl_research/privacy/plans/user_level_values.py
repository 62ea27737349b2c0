"""Values of user-level plans: defaults, calibrated noise, and what a budget allows."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Optional

from tfl_research.errors import SettingError
from tfl_research.privacy.accounting.budget import default_delta, delta_warning
from tfl_research.privacy.accounting.composition import EpsilonCurve
from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.accounting.planning import noise_for
from tfl_research.privacy.accounting.relations import check_release
from tfl_research.privacy.mechanisms.catalogue.run_context import RunShape
from tfl_research.privacy.mechanisms.catalogue.specification import MechanismSettings


def checked_delta(delta: Optional[float], population: int) -> float:
    """Returns a plan's δ, by default `default_delta` of the population.

    A large δ gives a warning at the place where a plan's `create` is called.
    """
    if delta is None:
        delta = default_delta(population)
    warning = delta_warning(delta, population)
    if warning is not None:
        warnings.warn(warning, stacklevel=3)
    return float(delta)


def calibrated_noise_multiplier(
    mechanism: MechanismSettings,
    target_epsilon: float,
    shape: RunShape,
    delta: float,
    accountant: str,
    releases: Sequence[tuple[Event, int]] = (),
) -> float:
    """Finds the least noise multiplier for a target ε after all rounds, to 0.001.

    Args:
      mechanism: the mechanism whose noise is calibrated.
      target_epsilon: ε of the rounds and the releases together.
      shape: the run's rounds, cohorts and sampling.
      delta: target δ.
      accountant: "pld", "rdp", or "auto" for the tightest accountant that applies.
      releases: events that are charged beside the rounds, with their counts.

    Raises:
      SettingError: no noise meets the target, or the accountant does not apply.
    """
    try:
        if releases:
            return noise_for(
                lambda noise: mechanism.event(noise, shape),
                target_epsilon,
                shape.rounds,
                delta,
                accountant,
                releases,
            )
        return mechanism.calibrate(target_epsilon, shape, delta, accountant)
    except SettingError:
        raise
    except ValueError as error:
        raise SettingError(f"--target_epsilon={target_epsilon:g}: {error}") from error


def unknown_dimension() -> int:
    """Stands for the `Dimension` of a run that gave no model dimension.

    Raises:
      ValueError: always; the message says what to give.
    """
    raise ValueError(
        "the noise depends on the size of the model: give model_dimension, a function "
        "that returns the number of scalars in an update"
    )


def checked_releases(
    releases: Sequence[tuple[Event, int]], event: Event
) -> tuple[tuple[Event, int], ...]:
    """Checks planned releases, and drops releases with count 0.

    Raises:
      SettingError: a count is negative, or a release has another neighbouring relation
        or unit of privacy than the rounds.
    """
    for release, count in releases:
        if count < 0:
            raise SettingError(
                f"planned_releases: a {release.kind} release is planned {count} times; "
                "give at least 0"
            )
        try:
            check_release(f"a {release.kind} release", release, event)
        except ValueError as error:
            raise SettingError(f"planned_releases: {error}") from error
    return tuple((release, count) for release, count in releases if count)


def check_first_round(
    budget_epsilon: Optional[float], event: Event, delta: float, accountant: str
) -> None:
    """Checks that the first round fits into the budget, if there is one.

    Raises:
      SettingError: the first round exceeds the budget.
    """
    if budget_epsilon is None:
        return
    first_epsilon = EpsilonCurve(event, delta, accountant).at(1)
    if first_epsilon > budget_epsilon:
        raise SettingError(
            f"--budget_epsilon={budget_epsilon:g}: the first round alone costs "
            f"ε = {first_epsilon:.4g} at δ = {delta:g}; raise it, or add noise "
            "with --noise_multiplier"
        )
