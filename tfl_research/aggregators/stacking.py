"""Robust rules as TFF aggregations: updates are stacked, a rule makes one of them."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Optional

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import stateless_random
from tfl_research.aggregators import rules
from tfl_research.aggregators.contract import UpdateAggregator
from tfl_research.aggregators.specification import AggregatorSettings
from tfl_research.aggregators.stack import Layout, stack_computations

if TYPE_CHECKING:
    from tfl_research.aggregators.rule_specification import RuleSettings


def apply_rule(
    rule: RuleSettings,
    rows: rules.Rows,
    *,
    weighted: bool = False,
    center: Optional[tf.Tensor] = None,
    seed: int = 0,
    round_number: Any = 0,
) -> tf.Tensor:
    """What a rule, with its pre-aggregations, makes of rows.

    Args:
      rule: which, with its parameters.
      rows: screened rows `[n, d]`.
      weighted: whether their weights count beyond telling who is present.
      center: float32 `[d]`, where centered clipping starts; zero by default.
      seed: of the random buckets.
      round_number: int32 scalar, which random buckets are drawn.

    Returns:
      float32 `[d]`.
    """
    rows = dataclasses.replace(rows, weighted=weighted)
    if rule.bucket_size > 1:
        drawn = stateless_random.fold_in(
            tf.constant([seed % 2**31, 0], tf.int32), round_number
        )
        rows = rules.bucketing(rows, bucket_size=rule.bucket_size, seed=drawn)
    if rule.neighbour_mixing:
        # A rule that mixes has it: `RuleSettings.check` sees to that.
        rows = rules.nearest_neighbour_mixing(rows, byzantine=rule.byzantine or 0)
    return rule.apply(rows, center=center)


def is_broken(
    rule: RuleSettings, rows: rules.Rows, *, weighted: bool = False
) -> tf.Tensor:
    """bool scalar: whether these rows are too few for the rule, or too many hostile.

    Excluded rows are among the f hostile ones; more of them than f mean that f was
    chosen too small for this cohort. Of weighted rows the heaviest may be the hostile
    ones.
    """
    buckets = (rows.count + rule.bucket_size - 1) // rule.bucket_size
    remaining = rows.remaining(rule.hostile or 0)
    needed = tf.maximum(rule.per_byzantine * remaining + rule.AT_LEAST, 1)
    broken = buckets < needed
    if weighted and rule.per_byzantine and rule.BROKEN_BY_WEIGHT:
        broken |= _heaviest(rows, remaining) >= 0.5
    if rule.hostile is not None:
        broken |= rows.excluded > rule.hostile
    elif rule.hostile_share is not None:
        share = rule.hostile_share * tf.cast(rows.offered, tf.float64) + 1e-6
        broken |= tf.cast(rows.excluded, tf.float64) > share
    return broken


def _heaviest(rows: rules.Rows, number: tf.Tensor) -> tf.Tensor:
    """float64 scalar: the share of all weight that the heaviest rows have together."""
    shares = tf.sort(dataclasses.replace(rows, weighted=True).shares)[::-1]
    first = tf.range(tf.shape(shares)[0]) < number
    return tf.reduce_sum(tf.where(first, shares, tf.zeros_like(shares)))


@dataclasses.dataclass(frozen=True)
class StackingFactory(UpdateAggregator, tff.aggregators.WeightedAggregationFactory):
    """Stacks a cohort's updates and makes one of them by a robust rule.

    The server holds the updates of up to `capacity` clients as one float32 matrix
    `[capacity, d]`: 4 · capacity · d bytes for every chunk of clients that a runtime
    accumulates at once. A client of weight 0 is not there. A client that sends a NaN,
    an infinity or a negative weight is excluded before it is stacked; it counts among
    the hostile clients that the rule is told to expect. Merging two stacks appends
    the second to the first; clients beyond the capacity are dropped and counted, so
    give the sampler's `maximum_cohort_size`.

    `create(value_type, weight_type)` gives a process of type
    `( -> S@SERVER)` and `(<S@SERVER, {V}@CLIENTS, {float32}@CLIENTS> ->
    <state=S@SERVER, result=V@SERVER, measurements=M@SERVER>)`, V a structure of
    float32 tensors. M has int32 scalars: `stacked`, `excluded` and `dropped` clients;
    `skipped`, 1 where the round's result is zero since the rule could not keep its
    promise and no other one did; `fell_back`, 1 where the other rule was used;
    `breakdowns`, rounds so far in which the first rule could not. A result that is
    not finite is skipped too.

    Attributes:
      rule: what makes one update of many. In a round that has too few clients, or
        more excluded ones than the rule expects, its `on_breakdown` says what
        happens: the round is skipped, or another rule is used (which is skipped where
        its own condition does not hold either). None skips, and asks that
        `smallest_cohort` be enough for the rule.
      capacity: clients that fit.
      smallest_cohort: a size that cohorts do not fall below (a sampler's
        `minimum_cohort_size`); `capacity` by default.
      weighted: whether client weights count beyond telling who is present. The rule
        then withstands hostile clients of less than half of the weight: with
        `byzantine` given, a round in which the heaviest f have half of it is broken.
        A trimmed mean takes off the share b / n of the weight, and no more.
      seed: of the random buckets.
      rewrite: (rows, round number) -> the rows that the rule sees; what simulates an
        attack, see `aggregators.AttackedFactory`. None takes them as they are.

    Raises:
      ValueError: a capacity that is too small for the rule, a smallest cohort that
        is, while nothing was said about such rounds, or weights for a rule that is
        defined for equal weights only.
    """

    rule: RuleSettings
    capacity: int
    smallest_cohort: Optional[int] = None
    weighted: bool = False
    seed: int = 0
    rewrite: Optional[Callable[[rules.Rows, tf.Tensor], rules.Rows]] = None

    # Non-finite updates are to be passed on, since they count as hostile.
    screens_updates = True

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {self.capacity}")
        if not (isinstance(self.rule, AggregatorSettings) and self.rule.stacked):
            raise ValueError(f"rule must be a RuleSettings, got {self.rule!r}")
        if self.weighted and not self.rule.takes_weights:
            raise ValueError(
                f"{self.rule.describe()} is defined for equal weights only; use "
                "uniform client weighting"
            )
        smallest = self.capacity
        if self.smallest_cohort is not None:
            smallest = self.smallest_cohort
        self.rule.check_stack(smallest, self.capacity)

    def create(
        self, value_type: tff.Type, weight_type: tff.Type
    ) -> tff.templates.AggregationProcess:
        """An aggregation of `value_type`, a structure of float32 tensors.

        Raises:
          ValueError: values of another dtype, or of a shape that is not static.
        """
        layout = Layout.of(value_type)
        stand_in = self.rule.stand_in
        # The centre is the first rule's: rules that stand in keep none.
        center_size = layout.size if self.rule.KEEPS_CENTER else 0
        zero, accumulate, merge, report = stack_computations(
            self.capacity, layout, value_type, weight_type
        )

        @tff.tensorflow.computation
        def initial_state() -> Any:
            return collections.OrderedDict(
                round_number=tf.constant(0, tf.int32),
                breakdowns=tf.constant(0, tf.int32),
                center=tf.zeros([center_size], tf.float32),
            )

        @tff.tensorflow.computation(
            initial_state.type_signature.result, report.type_signature.result
        )
        def aggregate(state: Any, stack: Any) -> Any:
            rows = rules.Rows(
                stack["values"], stack["weights"], stack["excluded"], stack["offered"]
            )
            if self.rewrite is not None:
                rows = self.rewrite(rows, state["round_number"])
            center, round_number = state["center"], state["round_number"]

            def made_by(rule: RuleSettings) -> tf.Tensor:
                return apply_rule(
                    rule,
                    rows,
                    weighted=self.weighted,
                    center=center if rule.KEEPS_CENTER else None,
                    seed=self.seed,
                    round_number=round_number,
                )

            broken = is_broken(self.rule, rows, weighted=self.weighted)
            skipped, fell_back = broken, tf.constant(False)
            if stand_in is None:
                result = made_by(self.rule)
            else:
                other = stand_in
                skipped = broken & is_broken(other, rows, weighted=self.weighted)
                fell_back = broken & tf.logical_not(skipped)
                result = tf.cond(
                    broken, lambda: made_by(other), lambda: made_by(self.rule)
                )
            skipped |= tf.logical_not(tf.reduce_all(tf.math.is_finite(result)))
            result = tf.where(skipped, tf.zeros_like(result), result)
            if self.rule.KEEPS_CENTER:
                moved = self.rule.next_center(center, result)
                center = tf.where(skipped, center, moved)
            breakdowns = state["breakdowns"] + tf.cast(broken, tf.int32)
            new_state = collections.OrderedDict(
                round_number=round_number + 1,
                breakdowns=breakdowns,
                center=center,
            )
            measurements = collections.OrderedDict(
                stacked=stack["stored"],
                excluded=rows.excluded,
                dropped=stack["dropped"],
                skipped=tf.cast(skipped, tf.int32),
                fell_back=tf.cast(fell_back, tf.int32),
                breakdowns=breakdowns,
            )
            return new_state, layout.unflatten(result), measurements

        @tff.federated_computation
        def initialize() -> Any:
            return tff.federated_eval(initial_state, tff.SERVER)

        @tff.federated_computation(
            initialize.type_signature.result,
            tff.FederatedType(value_type, tff.CLIENTS),
            tff.FederatedType(weight_type, tff.CLIENTS),
        )
        def next_stack(state: Any, value: Any, weight: Any) -> Any:
            stacked = tff.federated_aggregate(
                tff.federated_zip((value, weight)), zero(), accumulate, merge, report
            )
            new_state, result, measurements = tff.federated_map(
                aggregate, tff.federated_zip((state, stacked))
            )
            return tff.templates.MeasuredProcessOutput(new_state, result, measurements)

        return tff.templates.AggregationProcess(initialize, next_stack)
