"""The event of a private run's rounds, from its flags; noise given or calibrated.

TensorFlow is imported for distributed mechanisms only, whose noise depends on the
size of the model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Optional, TypeVar

from tfl_research import privacy
from tfl_research.flags.assembly import Setup
from tfl_research.flags.declare import FlagError
from tfl_research.flags.mechanism_flags import MechanismFlags
from tfl_research.flags.privacy_flags import PrivacyFlags
from tfl_research.sampling import Amplification

_DEFAULT_BITS = 20
Found = TypeVar("Found")


@dataclasses.dataclass(frozen=True)
class NoisePlan:
    """What a run's rounds are charged as.

    Attributes:
      event: of each round.
      distributed: grid and noise shares, of a distributed mechanism.
    """

    event: privacy.Event
    distributed: Optional[privacy.DistributedPlan] = None

    @property
    def noise_multiplier(self) -> float:
        """As given, or calibrated."""
        event: Any = self.event
        return float(event.noise_multiplier)


def noise_plan(
    flags: PrivacyFlags, mechanism: MechanismFlags, parts: Setup, delta: float
) -> NoisePlan:
    """The event for --noise_multiplier, or for the least noise of --target_epsilon.

    Raises:
      FlagError: the mechanism does not go with the cohorts, the accountant with the
        event, or no noise meets the target.
    """
    if mechanism.distributed:
        return _distributed(flags, mechanism, parts, delta)
    event = _fitting(mechanism, lambda: _event(mechanism, parts))
    accountant = checked_accountant(flags, event)
    noise_multiplier = flags.noise_multiplier
    if noise_multiplier is None:
        noise_multiplier = _calibrated(
            flags,
            lambda: privacy.calibrate_event(
                event,
                float(flags.target_epsilon or 0),
                parts.run.rounds,
                delta,
                accountant,
            ),
        )
    noisy: Any = event
    return NoisePlan(
        dataclasses.replace(noisy, noise_multiplier=float(noise_multiplier))
    )


def checked_accountant(flags: PrivacyFlags, event: privacy.Event) -> str:
    """The accountant of --accountant for an event.

    Raises:
      FlagError: it does not apply.
    """
    try:
        return privacy.resolve_accountant(flags.accountant, event)
    except ValueError as error:
        fitting = " or ".join(f"--accountant={name}" for name in event.accountants)
        raise flags.refused("accountant", f"{error}; give {fitting}") from error


def _event(mechanism: MechanismFlags, parts: Setup) -> privacy.Event:
    """The event, with a noise multiplier of 1."""
    amplification = parts.sampler.amplification
    rounds, kind = parts.run.rounds, mechanism.entry.event_kind
    event: privacy.Event
    if kind == "tree":
        event = privacy.TreeEvent.of(
            1.0,
            amplification,
            restart_every=mechanism.restart_every or rounds,
            efficient=mechanism.tree_efficient is not False,
        )
    elif kind == "banded_matrix":
        event = privacy.MatrixEvent.of(
            1.0, amplification, rounds=rounds, bands=bands_for(mechanism, parts)
        )
    elif kind == "local_gaussian":
        event = privacy.LocalGaussianEvent(
            1.0, amplification.population, amplification.cohort_size
        )
    else:
        event = privacy.GaussianEvent.of(1.0, amplification)
    return event


def bands_for(mechanism: MechanismFlags, parts: Setup) -> int:
    """Bands as given, else as many as separation and rounds allow."""
    separation = parts.sampler.amplification.min_separation
    return mechanism.bands or min(separation, parts.run.rounds)


def _distributed(
    flags: PrivacyFlags, mechanism: MechanismFlags, parts: Setup, delta: float
) -> NoisePlan:
    amplification = parts.sampler.amplification
    smallest = mechanism.minimum_cohort_size
    if smallest is not None and smallest > amplification.cohort_size:
        raise mechanism.refused(
            "minimum_cohort_size",
            f"no round has more than {amplification.cohort_size:g} clients, and would "
            "release nothing; give at most that",
        )
    name, setting = mechanism.mechanism, _setting(amplification)

    from tfl_research.flags import builders

    shape: dict[str, Any] = {
        "dimension": builders.model_dimension(parts.task),
        "cohort_size": amplification.cohort_size,
        "minimum_cohort_size": smallest,
        "bits": mechanism.modulus_bits or _DEFAULT_BITS,
    }
    if flags.noise_multiplier is not None:
        try:
            plan = privacy.plan_distributed(
                name, noise_multiplier=float(flags.noise_multiplier), **shape
            )
        except ValueError as error:
            raise FlagError(
                f"--modulus_bits={shape['bits']}, --noise_multiplier="
                f"{flags.noise_multiplier:g}: {error}"
            ) from error
    else:
        plan = _calibrated(
            flags,
            lambda: privacy.calibrate_distributed(
                name,
                target_epsilon=float(flags.target_epsilon or 0),
                rounds=parts.run.rounds,
                delta=delta,
                **setting,
                **shape,
            ),
        )
    event = plan.event(**setting)
    checked_accountant(flags, event)
    return NoisePlan(event, plan)


def _setting(amplification: Amplification) -> dict[str, Any]:
    """Population, sampling and neighbours of noise that clients add themselves.

    A client that left would take its share of the noise along, so that zero-out
    stands where others have add-or-remove-one.
    """
    replaces = amplification.neighbouring_relation == "replace_one"
    return {
        "population": amplification.population,
        "sampling": "fixed_size" if amplification.kind == "fixed_size" else "none",
        "neighbouring_relation": "replace_one" if replaces else "zero_out",
    }


def _fitting(mechanism: MechanismFlags, make: Callable[[], Found]) -> Found:
    try:
        return make()
    except ValueError as error:
        raise mechanism.refused("mechanism", str(error)) from error


def _calibrated(flags: PrivacyFlags, make: Callable[[], Found]) -> Found:
    try:
        return make()
    except ValueError as error:
        raise flags.refused("target_epsilon", str(error)) from error
