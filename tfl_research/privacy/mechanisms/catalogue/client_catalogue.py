"""Mechanisms whose clients add noise, or shares of noise; without TensorFlow."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Optional

from tfl_research import settings
from tfl_research.errors import SettingError
from tfl_research.privacy.accounting import distributed_calibration, distributed_plan
from tfl_research.privacy.accounting.distributed_plan import DistributedPlan
from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.accounting.events.local_gaussian_event import (
    LocalGaussianEvent,
)
from tfl_research.privacy.accounting.sampler_rest import Draws, RunSize
from tfl_research.privacy.mechanisms.catalogue.run_context import (
    MechanismContext,
    RunShape,
)
from tfl_research.privacy.mechanisms.catalogue.specification import (
    CLIENT,
    SECURE_SUM,
    MechanismSettings,
)
from tfl_research.privacy.mechanisms.noise import noise_tables
from tfl_research.sampling import Amplification

if TYPE_CHECKING:
    import tensorflow_federated as tff

    from tfl_research.privacy.plans.user_level import UserLevelPlan

_SHARES = (
    "gets its noise in shares from its clients: the share of a late device is missing, "
    "and who is late depends on the data"
)


@dataclasses.dataclass(frozen=True)
class DistributedNoise(MechanismSettings):
    """The base class of mechanisms with integer noise shares under a secure sum."""

    SAMPLERS: ClassVar[tuple[str, ...]] = (
        "fixed",
        "shuffled",
        "full",
        "min_separation",
    )
    WEIGHTINGS: ClassVar[tuple[str, ...]] = ("uniform",)
    NOISED_AT: ClassVar[str] = SECURE_SUM
    DEVICES_REFUSAL: ClassVar[Optional[str]] = _SHARES

    modulus_bits: int = settings.integer(
        20, "Bits of each coordinate of the secure sum.", minimum=2, maximum=30
    )
    minimum_cohort_size: Optional[int] = settings.integer(
        None,
        "Number of clients whose shares of the noise add up to the whole noise; the "
        "cohort size when not given. A round with fewer clients releases nothing.",
        minimum=1,
    )

    def check_shape(self, shape: RunShape) -> None:
        smallest, size = self.minimum_cohort_size, shape.amplification.cohort_size
        if smallest is not None and smallest > size:
            raise self.refused(
                "minimum_cohort_size",
                f"no round has more than {size:g} clients, so no round would release "
                f"anything; give at most {size:g}",
            )

    def _grid(self, shape: RunShape) -> dict[str, Any]:
        return {
            "dimension": shape.dimension(),
            "cohort_size": shape.amplification.cohort_size,
            "minimum_cohort_size": self.minimum_cohort_size,
            "bits": self.modulus_bits,
        }

    def distributed_plan(
        self, noise_multiplier: float, shape: RunShape
    ) -> DistributedPlan:
        """Plans the grid of the clients' integers, and each client's share of noise.

        Raises:
          SettingError: the bits cannot hold the sums.
        """
        grid = self._grid(shape)
        try:
            return distributed_plan.plan_distributed(
                self.NAME, noise_multiplier=noise_multiplier, **grid
            )
        except ValueError as error:
            raise SettingError(
                f"--modulus_bits={self.modulus_bits}, --noise_multiplier="
                f"{noise_multiplier:g}: {error}"
            ) from error

    def event(self, noise_multiplier: float, shape: RunShape) -> Event:
        plan = self.distributed_plan(noise_multiplier, shape)
        return plan.event(**_cohorts(shape.amplification))

    def calibrate(
        self, target_epsilon: float, shape: RunShape, delta: float, accountant: str
    ) -> float:
        """Finds the least noise for ε; each noise multiplier has its own grid."""
        del accountant  # Only "rdp" applies.
        return distributed_calibration.calibrate_distributed(
            self.NAME,
            target_epsilon=target_epsilon,
            rounds=shape.rounds,
            delta=delta,
            **_cohorts(shape.amplification),
            **self._grid(shape),
        ).noise_multiplier

    def draws(self, plan: UserLevelPlan, size: RunSize) -> Draws:
        """Counts an integer for each padded coordinate of each client in each round.

        Rounding draws further numbers, but ε does not depend on how a coordinate was
        rounded.
        """
        per_client = distributed_plan.padded(size.dimension)
        return Draws(integers=size.rounds * size.clients * per_client)

    def declared_noise(
        self, plan: UserLevelPlan, measured: Mapping[str, float]
    ) -> dict[str, float]:
        """Returns the noise of the reporting clients' shares; 0 if none is released."""
        grid = plan.grid
        reporting = measured.get("reporting_clients", math.nan)
        if reporting < grid.minimum_cohort_size:
            return {"noise_stddev": 0.0}
        variance = noise_tables.noise_variance(self.NAME, grid.share_stddev)
        quantum = plan.l2_norm_clip / grid.clip_quanta
        total = math.sqrt(reporting * variance) * quantum
        return {"noise_stddev": total / grid.cohort_size}


def _cohorts(amplification: Amplification) -> dict[str, Any]:
    """Returns population, sampling and neighbouring relation for clients' noise shares.

    A client that left would take its share of the noise along. So the relation is
    zero-out instead of add-or-remove-one.
    """
    replaces = amplification.neighbouring_relation == "replace_one"
    return {
        "population": amplification.population,
        "sampling": "fixed_size" if amplification.kind == "fixed_size" else "none",
        "neighbouring_relation": "replace_one" if replaces else "zero_out",
    }


@dataclasses.dataclass(frozen=True)
class DiscreteGaussian(DistributedNoise):
    """Clients add discrete Gaussian noise shares under a secure sum.

    The aggregator is `privacy.discrete_gaussian_aggregator`.

    Example:
      >>> from tfl_research.privacy import mechanisms
      >>> mechanism = mechanisms.DiscreteGaussian(modulus_bits=24)
      >>> privacy = tfl.UserLevelPrivacy(mechanism, noise_multiplier=1)
      >>> cohorts = tfl.Cohorts("fixed", cohort_size=20)
      >>> tfl.Experiment("mnist", privacy=privacy, cohorts=cohorts).check()
    """

    NAME: ClassVar[str] = "discrete_gaussian"
    SUMMARY: ClassVar[str] = "distributed: clients add integer noise under a secure sum"
    PAPERS: ClassVar[tuple[str, ...]] = ("Kairouz et al. 2021, arXiv 2102.06387",)

    def aggregator(
        self, plan: UserLevelPlan, context: MechanismContext
    ) -> tff.aggregators.WeightedAggregationFactory:
        from tfl_research.privacy.mechanisms import distributed_sum

        return distributed_sum.discrete_gaussian_aggregator(
            l2_norm_clip=plan.l2_norm_clip,
            plan=plan.grid,
            noise_seed=context.noise_seed,
            secure=context.secure,
            secure_sums=context.secure_sums,
            client_secrets=context.client_secrets,
        )


@dataclasses.dataclass(frozen=True)
class Skellam(DistributedNoise):
    """Clients add Skellam noise shares under a secure sum.

    The aggregator is `privacy.skellam_aggregator`.

    Example:
      >>> from tfl_research.privacy import mechanisms
      >>> mechanism = mechanisms.Skellam(modulus_bits=24)
      >>> privacy = tfl.UserLevelPrivacy(mechanism, noise_multiplier=1)
      >>> cohorts = tfl.Cohorts("fixed", cohort_size=20)
      >>> tfl.Experiment("mnist", privacy=privacy, cohorts=cohorts).check()
    """

    NAME: ClassVar[str] = "skellam"
    SUMMARY: ClassVar[str] = "distributed: clients add Skellam noise under a secure sum"
    PAPERS: ClassVar[tuple[str, ...]] = ("Agarwal et al. 2021, arXiv 2110.04995",)

    def aggregator(
        self, plan: UserLevelPlan, context: MechanismContext
    ) -> tff.aggregators.WeightedAggregationFactory:
        from tfl_research.privacy.mechanisms import distributed_sum

        return distributed_sum.skellam_aggregator(
            l2_norm_clip=plan.l2_norm_clip,
            plan=plan.grid,
            noise_seed=context.noise_seed,
            secure=context.secure,
            secure_sums=context.secure_sums,
            client_secrets=context.client_secrets,
        )


@dataclasses.dataclass(frozen=True)
class LocalGaussian(MechanismSettings):
    """Each client adds Gaussian noise to its own update.

    The aggregators are `privacy.local_gaussian_aggregator` and, for a robust rule,
    the module `privacy.mechanisms.local_rule`.

    Example:
      >>> from tfl_research.privacy import mechanisms
      >>> mechanism = mechanisms.LocalGaussian()
      >>> privacy = tfl.UserLevelPrivacy(mechanism, noise_multiplier=5)
      >>> cohorts = tfl.Cohorts("fixed", cohort_size=20)
      >>> tfl.Experiment("mnist", privacy=privacy, cohorts=cohorts).check()
    """

    NAME: ClassVar[str] = "local_gaussian"
    SUMMARY: ClassVar[str] = (
        "local: each client adds noise to its own update, and need not trust the server"
    )
    PAPERS: ClassVar[tuple[str, ...]] = (
        "Kasiviswanathan et al. 2011, arXiv 0803.0924",
    )
    SAMPLERS: ClassVar[tuple[str, ...]] = (
        "poisson",
        "fixed",
        "shuffled",
        "full",
        "min_separation",
        "cyclic_poisson",
    )
    NOISED_AT: ClassVar[str] = CLIENT

    def event(self, noise_multiplier: float, shape: RunShape) -> Event:
        amplification = shape.amplification
        return LocalGaussianEvent(
            noise_multiplier, amplification.population, amplification.cohort_size
        )

    def aggregator(
        self, plan: UserLevelPlan, context: MechanismContext
    ) -> tff.aggregators.WeightedAggregationFactory:
        from tfl_research.privacy.mechanisms import local_gaussian, local_rule

        if context.rule is not None:
            return local_rule.local_gaussian_rule(
                l2_norm_clip=plan.l2_norm_clip,
                noise_multiplier=plan.noise_multiplier,
                noise_seed=context.noise_seed,
                rule=context.rule,
                secure_sums=context.secure_sums,
                client_secrets=context.client_secrets,
            )
        return local_gaussian.local_gaussian_aggregator(
            l2_norm_clip=plan.l2_norm_clip,
            noise_multiplier=plan.noise_multiplier,
            expected_cohort_size=plan.expected_cohort_size,
            noise_seed=context.noise_seed,
            secure_sums=context.secure_sums,
            client_secrets=context.client_secrets,
        )

    def declared_noise(
        self, plan: UserLevelPlan, measured: Mapping[str, float]
    ) -> dict[str, float]:
        """Returns the noise of the clients' mean, or with a rule that of a client."""
        unit = plan.noise_multiplier * plan.l2_norm_clip
        if "client_noise_stddev" in measured:
            return {"client_noise_stddev": unit}
        reporting = measured.get("reporting_clients", math.nan)
        return {"noise_stddev": unit * math.sqrt(reporting) / plan.expected_cohort_size}
