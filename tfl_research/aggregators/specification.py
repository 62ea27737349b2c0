"""Base class of aggregator specifications: parameters, builder and compatibility.

This module does not import TensorFlow, so that an experiment can be checked before the
slow import.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Optional, Union

from tfl_research.aggregators.secure_sums.formats import SumFormats
from tfl_research.errors import SettingError
from tfl_research.registry import SettingsRegistry
from tfl_research.settings import NamedSettings

if TYPE_CHECKING:
    import tensorflow_federated as tff

    from tfl_research.aggregators.stacking import StackingFactory
    from tfl_research.aggregators.trusted_root import TrustedRootFactory
    from tfl_research.models import ServerOptimizer

# Where a mechanism adds its noise, see `AggregatorSettings.check_with_privacy`.
NOISED_AT = ("server", "secure sum", "client")
# The `role` of the participant that holds the server's own examples.
ROOT_ROLE = 2


@dataclasses.dataclass(frozen=True)
class AggregatorContext:
    """Values that an experiment passes to the builder of its aggregator.

    Attributes:
      maximum_cohort_size: largest number of clients in a cohort.
      minimum_cohort_size: smallest number of clients in a cohort.
      weighted: whether client weights differ.
      seed: seed of the aggregator's randomness.
      secure_sums: the fixed-point formats of secure sums. With formats, everything that
        clients send must go through secure sums. None for plain sums.
    """

    maximum_cohort_size: int
    minimum_cohort_size: int
    weighted: bool
    seed: int = 0
    secure_sums: Optional[SumFormats] = None


class Act(NamedTuple):
    """An operation on a cohort's updates: a rule, bucketing or mixing.

    Attributes:
      name: name for messages.
      sensitivity: see `AggregatorSettings.SENSITIVITY`.
      sums_only: see `AggregatorSettings.SUMS_ONLY`.
    """

    name: str
    sensitivity: Optional[str]
    sums_only: bool


@dataclasses.dataclass(frozen=True)
class AggregatorSettings(NamedSettings):
    """Base class of aggregator specifications: parameters, builder, compatibility.

    A subclass is a frozen dataclass whose fields are the parameters. The attributes
    below say what the aggregator is compatible with. `build` makes any TFF aggregation
    factory. `aggregators.register` makes the aggregator available by its NAME. A rule
    over single updates subclasses `RuleSettings` and gives a function of rows.

    Attributes:
      SENSITIVITY: the reason why the aggregator breaks the sensitivity bound of a
        mechanism that noises a sum of clipped updates, as the end of a sentence; None
        if the aggregator keeps the bound. By default an aggregator breaks the bound.
      SUMS_ONLY: whether sums over clients are enough, so that the aggregator works
        under a secure sum. Its `build` must then heed `AggregatorContext.secure_sums`.
      BY_COORDINATE: the problem when clients send some coordinates only, for
        aggregators that aggregate every coordinate by itself; None for others.
      WEIGHTED: whether the aggregator is defined for different client weights.
      NEEDS_ROOT: whether the server needs its own examples, held by a participant of
        role `ROOT_ROLE` in every cohort.
      RESULT_IS_SIGN: whether the result is -1, 0 or 1 in every coordinate, so that the
        server's learning rate alone gives the step its length.
      IS_RULE: whether it is a rule over single updates, a `RuleSettings`.

    Example:
      >>> import dataclasses
      >>> @tfl.aggregators.register
      ... @dataclasses.dataclass(frozen=True)
      ... class Plain(tfl.aggregators.AggregatorSettings):
      ...     NAME = "plain"
      ...     SUMMARY = "the mean, in which every client counts the same"
      ...     WEIGHTED = False
      ...
      ...     def build(self, context):
      ...         import tensorflow_federated as tff
      ...         return tff.aggregators.UnweightedMeanFactory()
      >>> experiment = tfl.Experiment("heart", aggregator="plain")
      >>> experiment.check()
      >>> experiment.resolved_weighting.client_weighting
      'uniform'
    """

    TITLE: ClassVar[str] = "Aggregation"

    SENSITIVITY: ClassVar[Optional[str]] = (
        "no bound is known for how far one client can move its result"
    )
    SUMS_ONLY: ClassVar[bool] = False
    BY_COORDINATE: ClassVar[Optional[str]] = None
    WEIGHTED: ClassVar[bool] = True
    NEEDS_ROOT: ClassVar[bool] = False
    RESULT_IS_SIGN: ClassVar[bool] = False
    IS_RULE: ClassVar[bool] = False

    def build(self, context: AggregatorContext) -> tff.aggregators.AggregationFactory:
        """Builds TFF's aggregation factory; imports TensorFlow.

        Raises:
          ValueError: the aggregator does not take the weights or the cohort sizes.
        """
        raise NotImplementedError(f"{type(self).__name__}.build")

    def build_stacked(
        self, context: AggregatorContext
    ) -> Union[StackingFactory, TrustedRootFactory]:
        """Builds the same aggregation over a stack of the cohort's updates.

        `aggregators.AttackedFactory` needs the stack. Imports TensorFlow.

        Raises:
          ValueError: the aggregator is not `attackable`.
        """
        raise ValueError(
            f"{self.NAME} only adds updates up and never has all updates of a round "
            "at once; give a rule that is built over a stack of updates"
        )

    def before_noise(
        self, mechanism: tff.aggregators.WeightedAggregationFactory
    ) -> tff.aggregators.WeightedAggregationFactory:
        """Puts this aggregation before the clip of a mechanism; imports TensorFlow.

        Args:
          mechanism: the factory of a mechanism that noises a sum of clipped updates.

        Raises:
          ValueError: the aggregation would break the sensitivity bound.
        """
        raise ValueError(
            f"{self.NAME} cannot come before a noised sum, since it would break the "
            "bound of a client's part; give a rule that keeps the bound"
        )

    @classmethod
    def attackable(cls) -> bool:
        """Whether attacks that see all updates can be simulated."""
        return cls.build_stacked is not AggregatorSettings.build_stacked

    @property
    def stacked(self) -> bool:
        """Whether a rule reads the single updates of a stack."""
        return False

    @property
    def takes_weights(self) -> bool:
        """Whether client weights may differ, with these parameters."""
        return self.WEIGHTED

    @property
    def has_map_reduce_form(self) -> bool:
        """Whether a round is a single aggregation, which every runtime can execute."""
        return True

    @property
    def acts(self) -> tuple[Act, ...]:
        """The operations on the updates in order; the checks read them."""
        return (Act(self.NAME, self.SENSITIVITY, self.SUMS_ONLY),)

    def check_weights(self, kind: str) -> None:
        """Refuses a client weighting for which the aggregator is not defined.

        Args:
          kind: name of the weighting; "uniform" if all clients count the same.

        Raises:
          SettingError: the aggregator needs uniform weighting.
        """
        if kind != "uniform" and not self.WEIGHTED:
            raise SettingError(
                f"--client_weighting={kind}: {self.NAME} is defined for equal weights "
                "only; give --client_weighting=uniform"
            )

    def check_cohort(self, smallest: int, largest: int) -> None:
        """Refuses cohorts that are too small.

        Args:
          smallest: smallest number of clients in a cohort.
          largest: largest number of clients in a cohort.

        Raises:
          SettingError: a cohort can be too small for the aggregator.
        """

    def check_server(self, server: ServerOptimizer) -> None:
        """Refuses a server optimizer that does not fit the results.

        Raises:
          SettingError: the result is a sign, and the learning rate is 1 or more.
        """
        if self.RESULT_IS_SIGN and server.learning_rate >= 1:
            raise self.refused_choice(
                "its result is -1, 0 or 1 in every coordinate, and the server's "
                "learning rate is the length of the step; give --server_learning_rate "
                "below 1, such as 0.003"
            )

    def check_runtime(self, runtime: str) -> None:
        """Refuses a runtime that does not execute the aggregation.

        Args:
          runtime: name of the runtime.

        Raises:
          SettingError: the runtime cannot execute the aggregation.
        """

    def check_with_privacy(self, noised_at: str, what: str) -> None:
        """Refuses a mechanism whose guarantee the aggregator would break.

        If clients add the noise themselves, everything that the server does is
        post-processing, so that every aggregator is sound. If the server adds noise to
        a sum, the noise is calibrated to the sensitivity of a sum of clipped updates.
        Most other aggregations have a larger sensitivity: the result of a rule that
        follows single updates can move by 2C for any number of clients, but the noise
        covers C/n.

        Args:
          noised_at: where the mechanism adds its noise: "server"; "secure sum" (each
            client adds a share of the noise, and the server sees the sum); or "client"
            (each client's noise covers the client's own update).
          what: name of the mechanism, for the message.

        Raises:
          SettingError: the pair is unsound; the message says why.
          ValueError: `noised_at` has an unknown value.
        """
        if noised_at not in NOISED_AT:
            raise ValueError(
                f"noised_at must be one of {', '.join(NOISED_AT)}, got {noised_at!r}"
            )
        if noised_at == "client":
            return
        for act in self.acts:
            if noised_at == "secure sum":
                self._check_sums(act)
            if act.sensitivity is not None:
                raise self.refused_choice(
                    f"{act.name} breaks the guarantee of {what}: {act.sensitivity}; "
                    f"use {' or '.join(_names(lambda a: a.SENSITIVITY is None))}, or "
                    "noise that clients add themselves (local_gaussian, record_dp_sgd)"
                )

    def check_with_secure_sum(self) -> None:
        """Refuses an aggregator of single updates if the server sees only sums.

        Raises:
          SettingError: an operation of the aggregator needs single updates.
        """
        for act in self.acts:
            self._check_sums(act)

    def _check_sums(self, act: Act) -> None:
        if not act.sums_only:
            raise self.refused_choice(
                f"{act.name} needs every client's update, but under secure "
                "aggregation the server sees only the sum of the updates; use one of "
                f"{', '.join(_names(lambda a: a.SUMS_ONLY))}"
            )

    def check_with_sparse_updates(self) -> None:
        """Refuses a coordinate-wise rule if clients send only some coordinates.

        Rules on whole updates (selection by distances, geometric median, clipping) work
        on decoded updates. Quantised and low-rank updates have a value in every
        coordinate, so every rule works on them.

        Raises:
          SettingError: the rule aggregates every coordinate by itself.
        """
        if self.BY_COORDINATE is not None:
            raise self.refused_choice(
                f"{self.NAME} treats every coordinate alone: {self.BY_COORDINATE}"
            )

    def refused_choice(self, why: str) -> SettingError:
        """Returns the error that refuses this aggregator: "--aggregator=krum: ..."."""
        return SettingError(f"--aggregator={self.NAME}: {why}")


def _names(fits: Callable[[type[AggregatorSettings]], bool]) -> list[str]:
    return [name for name, chosen in AGGREGATORS.items() if fits(chosen)]


# All registered aggregators by name.
AGGREGATORS: SettingsRegistry[AggregatorSettings] = SettingsRegistry("aggregator")
register = AGGREGATORS.add
