"""Mechanisms whose noise is correlated over rounds (DP-FTRL), without TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Optional

from tfl_research import settings
from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.accounting.events.matrix_event import MatrixEvent
from tfl_research.privacy.accounting.events.tree_event import TreeEvent
from tfl_research.privacy.accounting.sampler_rest import Draws, RunSize
from tfl_research.privacy.mechanisms.catalogue.run_context import (
    MechanismContext,
    RunShape,
)
from tfl_research.privacy.mechanisms.catalogue.specification import (
    MechanismSettings,
)

if TYPE_CHECKING:
    import tensorflow_federated as tff

    from tfl_research.privacy.plans.user_level import UserLevelPlan

_APART = (
    "needs a sampler that keeps a client's rounds apart, but --devices take part "
    "whenever they are available"
)


@dataclasses.dataclass(frozen=True)
class CorrelatedNoise(MechanismSettings):
    """The base class of mechanisms with correlated noise.

    The measured `noise_stddev` is that of the independent noise: the noise of a tree's
    nodes, or ξ of a matrix. The noise multiplier refers to this noise.
    """

    DEVICES_REFUSAL: ClassVar[Optional[str]] = _APART

    def declared_noise(
        self, plan: UserLevelPlan, measured: Mapping[str, float]
    ) -> dict[str, float]:
        """Returns the noise that a round declares, and the clip."""
        return {
            **super().declared_noise(plan, measured),
            "clip_norm": plan.l2_norm_clip,
        }


@dataclasses.dataclass(frozen=True)
class Tree(CorrelatedNoise):
    """DP-FTRL: noise that is correlated over rounds by binary trees.

    The aggregator is `privacy.tree_aggregator`.

    Example:
      >>> from tfl_research.privacy import mechanisms
      >>> mechanism = mechanisms.Tree(restart_every=20)
      >>> privacy = tfl.UserLevelPrivacy(mechanism, noise_multiplier=4)
      >>> cohorts = tfl.Cohorts("min_separation")
      >>> tfl.Experiment("mnist", privacy=privacy, cohorts=cohorts).check()
    """

    NAME: ClassVar[str] = "tree"
    SUMMARY: ClassVar[str] = (
        "DP-FTRL: noise correlated over rounds by binary trees, with restarts"
    )
    PAPERS: ClassVar[tuple[str, ...]] = (
        "Kairouz et al. 2021, arXiv 2103.00039",
        "efficient estimator: Honaker 2015",
    )
    SAMPLERS: ClassVar[tuple[str, ...]] = ("min_separation", "shuffled", "full")

    restart_every: Optional[int] = settings.integer(
        None, "Number of rounds of one tree; all --rounds when not given.", minimum=1
    )
    tree_efficient: bool = settings.switch(
        True, "Use Honaker's estimator, which has less noise at the same ε."
    )

    def event(self, noise_multiplier: float, shape: RunShape) -> Event:
        return TreeEvent.of(
            noise_multiplier,
            shape.amplification,
            restart_every=self.restart_every or shape.rounds,
            efficient=self.tree_efficient,
        )

    def draws(self, plan: UserLevelPlan, size: RunSize) -> Draws:
        """Counts a normal number for each scalar of each node.

        n rounds complete at most 2n - 1 nodes. A node that is needed again is drawn
        again with the same numbers.
        """
        return Draws(normal=2 * size.rounds * size.dimension)

    def aggregator(
        self, plan: UserLevelPlan, context: MechanismContext
    ) -> tff.aggregators.WeightedAggregationFactory:
        from tfl_research.privacy.mechanisms import correlated_mechanisms, noised_sum

        built = correlated_mechanisms.tree_aggregator(
            l2_norm_clip=plan.l2_norm_clip,
            noise_multiplier=plan.noise_multiplier,
            expected_cohort_size=plan.expected_cohort_size,
            noise_seed=context.noise_seed,
            restart_every=self.restart_every or plan.rounds,
            efficient=self.tree_efficient,
        )
        return noised_sum.over_secure_sums(built, context.secure_sums)


@dataclasses.dataclass(frozen=True)
class BandedMatrix(CorrelatedNoise):
    """Noise that is correlated over rounds by an optimised banded matrix.

    The aggregator is `privacy.banded_matrix_aggregator`.

    Example:
      >>> from tfl_research.privacy import mechanisms
      >>> mechanism = mechanisms.BandedMatrix(bands=5)
      >>> privacy = tfl.UserLevelPrivacy(mechanism, noise_multiplier=1)
      >>> cohorts = tfl.Cohorts("min_separation")
      >>> tfl.Experiment("mnist", privacy=privacy, cohorts=cohorts).check()
    """

    NAME: ClassVar[str] = "banded_matrix"
    SUMMARY: ClassVar[str] = (
        "noise correlated over rounds by an optimised banded matrix, for clients "
        "that take part several times with a minimum separation"
    )
    PAPERS: ClassVar[tuple[str, ...]] = (
        "Choquette-Choo et al. 2023, arXiv 2306.08153",
    )
    SAMPLERS: ClassVar[tuple[str, ...]] = ("min_separation", "cyclic_poisson")

    bands: Optional[int] = settings.integer(
        None,
        "Number of bands of the matrix, at most the sampler's separation, which is "
        "the default. 1 band is independent noise.",
        minimum=1,
    )

    def event(self, noise_multiplier: float, shape: RunShape) -> Event:
        return MatrixEvent.of(
            noise_multiplier,
            shape.amplification,
            rounds=shape.rounds,
            bands=self._bands(shape.amplification.min_separation, shape.rounds),
        )

    def _bands(self, min_separation: int, rounds: int) -> int:
        return self.bands or min(min_separation, rounds)

    def aggregator(
        self, plan: UserLevelPlan, context: MechanismContext
    ) -> tff.aggregators.WeightedAggregationFactory:
        """Builds the aggregator that adds the banded matrix' noise to the sum.

        The matrix is optimised for the server's optimizer if the optimizer is linear in
        the means. Adaptive optimizers are not linear: their matrix is optimised for
        plain sums.
        """
        from tfl_research.privacy.mechanisms import correlated_mechanisms, noised_sum

        workload: dict[str, Any] = {}
        if context.linear_server:
            workload["momentum"] = context.server_momentum
            if context.learning_rates is not None:
                workload["learning_rates"] = list(context.learning_rates)
        built = correlated_mechanisms.banded_matrix_aggregator(
            l2_norm_clip=plan.l2_norm_clip,
            noise_multiplier=plan.noise_multiplier,
            expected_cohort_size=plan.expected_cohort_size,
            noise_seed=context.noise_seed,
            rounds=plan.rounds,
            bands=self._bands(plan.amplification.min_separation, plan.rounds),
            **workload,
        )
        return noised_sum.over_secure_sums(built, context.secure_sums)
