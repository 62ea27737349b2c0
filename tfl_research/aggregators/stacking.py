"""Makes TFF aggregations from robust rules, which aggregate a stack of updates."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Optional

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import autograph, stateless_random
from tfl_research.aggregators import rules
from tfl_research.aggregators.contract import UpdateAggregator
from tfl_research.aggregators.specification import AggregatorSettings
from tfl_research.aggregators.stack import Layout, stack_computations
from tfl_research.errors import UserError

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
    """Applies a rule, with its pre-aggregations, to rows.

    Args:
      rule: the rule with its parameters.
      rows: screened rows `[n, d]`.
      weighted: whether the weights are used; otherwise they only tell which rows are
        absent.
      center: float32 `[d]`, where centered clipping starts; zero by default.
      seed: seed of the random buckets.
      round_number: int32 scalar; the buckets differ between rounds.

    Returns:
      float32 `[d]`.

    Raises:
      UserError: the rule's `apply` returned another shape or dtype.
    """
    rows = dataclasses.replace(rows, weighted=weighted)
    if rule.bucket_size > 1:
        drawn = stateless_random.fold_in(
            tf.constant([seed % 2**31, 0], tf.int32), round_number
        )
        rows = rules.bucketing(rows, bucket_size=rule.bucket_size, seed=drawn)
    if rule.neighbour_mixing:
        # `RuleSettings.check` refuses mixing without `byzantine`.
        rows = rules.nearest_neighbour_mixing(rows, byzantine=rule.byzantine or 0)
    result = autograph.converted_as_needed(rule.apply)(rows, center=center)
    expected = rows.values.shape[1:]
    if not (
        isinstance(result, tf.Tensor)
        and result.dtype == tf.float32
        and result.shape.is_compatible_with(expected)
    ):
        got = type(result).__name__
        if isinstance(result, tf.Tensor):
            got = f"{result.dtype.name} of shape {list(result.shape)}"
        raise UserError(
            f"--aggregator: {type(rule).__name__}.apply must return one row, float32 "
            f"of shape {list(expected)}, got {got}"
        )
    return result


def is_broken(
    rule: RuleSettings, rows: rules.Rows, *, weighted: bool = False
) -> tf.Tensor:
    """Whether there are too few rows, or too many hostile rows, bool `[]`.

    Excluded rows count among the f hostile rows. More than f excluded rows mean that f
    is too small for this cohort. With weights, the heaviest rows may be hostile.
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
    """Computes the heaviest rows' share of the total weight, float64 `[]`."""
    shares = tf.sort(dataclasses.replace(rows, weighted=True).shares)[::-1]
    first = tf.range(tf.shape(shares)[0]) < number
    return tf.reduce_sum(tf.where(first, shares, tf.zeros_like(shares)))


@dataclasses.dataclass(frozen=True)
class StackingFactory(UpdateAggregator, tff.aggregators.WeightedAggregationFactory):
    """Stacks a cohort's updates and aggregates the stack by a robust rule.

    The server holds the updates of up to `capacity` clients as one float32 matrix
    `[capacity, d]`: 4 · capacity · d bytes for every chunk of clients that a runtime
    accumulates at once. Clients with weight 0 are ignored. A client that sends a NaN,
    an infinity or a negative weight is excluded from the stack. An excluded client
    counts among the hostile clients that the rule expects. Merging two stacks appends
    the second to the first. Clients beyond the capacity are dropped and counted, so the
    capacity should be the sampler's `maximum_cohort_size`.

    `create(value_type, weight_type)` gives a process of type
    `( -> S@SERVER)` and `(<S@SERVER, {V}@CLIENTS, {float32}@CLIENTS> ->
    <state=S@SERVER, result=V@SERVER, measurements=M@SERVER>)`, V a structure of
    float32 tensors. M has int32 scalars: `stacked`, `excluded` and `dropped` count
    clients; `skipped` is 1 when the round is skipped and its result is zero;
    `fell_back` is 1 when the stand-in rule was used; `breakdowns` counts the rounds so
    far in which the condition of the rule did not hold. A round is skipped when neither
    the condition of the rule nor the condition of a stand-in rule holds, or when the
    result is not finite.

    Attributes:
      rule: the robust rule. A round has a breakdown when it has too few clients, or
        more excluded clients than the rule expects. Then the rule's `on_breakdown` says
        whether the round is skipped or a stand-in rule is used. If `on_breakdown` is
        None, the round is skipped, and `smallest_cohort` must be enough for the rule.
      capacity: number of clients that fit into the stack.
      smallest_cohort: smallest size of a cohort (a sampler's `minimum_cohort_size`);
        `capacity` by default.
      weighted: whether client weights are used; otherwise they only tell which clients
        are absent. With weights, the rule withstands hostile clients with less than
        half of the weight: if `byzantine` is given, a round in which the heaviest f
        clients have half of the weight is a breakdown. A trimmed mean trims the share b
        / n of the weight.
      seed: seed of the random buckets.
      rewrite: (rows, round number) -> the rows that the rule aggregates, to simulate an
        attack, see `aggregators.AttackedFactory`. None for no change.

    Raises:
      ValueError: the capacity is too small for the rule; the smallest cohort is too
        small for the rule, and there is no `on_breakdown`; or `weighted` is true for a
        rule that is defined for equal weights only.
    """

    rule: RuleSettings
    capacity: int
    smallest_cohort: Optional[int] = None
    weighted: bool = False
    seed: int = 0
    rewrite: Optional[Callable[[rules.Rows, tf.Tensor], rules.Rows]] = None

    # This factory itself excludes non-finite updates, which count as hostile.
    screens_updates = True

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {self.capacity}")
        if not (isinstance(self.rule, AggregatorSettings) and self.rule.IS_RULE):
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
        """Creates the aggregation of `value_type`, a structure of float32 tensors.

        Raises:
          ValueError: the values are not float32, or a shape is not static.
        """
        layout = Layout.of(value_type)
        stand_in = self.rule.stand_in
        # Only the rule itself keeps a centre; stand-in rules keep no centre.
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
