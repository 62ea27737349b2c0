"""Robust rules as TFF aggregations: updates are stacked, a rule makes one of them."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable
from typing import Any, Optional, Union

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import stateless_random
from tfl_research.aggregators import rules
from tfl_research.aggregators.breakdown import RobustRule, check_cohort
from tfl_research.aggregators.stack import Layout, stack_computations

SKIP = "skip"


def apply_rule(
    rule: RobustRule,
    rows: rules.Rows,
    *,
    center: Optional[tf.Tensor] = None,
    round_number: Any = 0,
) -> tf.Tensor:
    """What a rule, with its pre-aggregations, makes of rows.

    Args:
      rule: which, with its parameters.
      rows: screened rows `[n, d]`; their weights count where `rule.weighted`.
      center: float32 `[d]`, where centered clipping starts; zero by default.
      round_number: int32 scalar, which random buckets are drawn.

    Returns:
      float32 `[d]`.
    """
    rows = dataclasses.replace(rows, weighted=rule.weighted)
    if rule.bucket_size > 1:
        seed = stateless_random.fold_in(
            tf.constant([rule.seed % 2**31, 0], tf.int32), round_number
        )
        rows = rules.bucketing(rows, bucket_size=rule.bucket_size, seed=seed)
    if rule.neighbour_mixing:
        # A rule that mixes has it: `RobustRule` sees to that.
        rows = rules.nearest_neighbour_mixing(rows, byzantine=rule.byzantine or 0)
    function = getattr(rules, rule.name)
    arguments: dict[str, Any] = {}
    if rule.name in ("krum", "multi_krum", "bulyan", "mean_around_median"):
        arguments["byzantine"] = rule.byzantine
    if rule.name == "trimmed_mean":
        arguments["trim"] = rule.trim
    if rule.name == "multi_krum":
        arguments["select"] = rule.select
    if rule.name in ("norm_clipping", "centered_clipping"):
        arguments["radius"] = rule.radius
    if rule.name == "centered_clipping":
        arguments.update(center=center, iterations=rule.iterations)
    return function(rows, **arguments)


def is_broken(rule: RobustRule, rows: rules.Rows) -> tf.Tensor:
    """bool scalar: whether these rows are too few for the rule, or too many hostile.

    Excluded rows are among the f hostile ones; more of them than f mean that f was
    chosen too small for this cohort. Of weighted rows the heaviest may be the hostile
    ones.
    """
    buckets = (rows.count + rule.bucket_size - 1) // rule.bucket_size
    remaining = rows.remaining(rule.hostile or 0)
    needed = tf.maximum(rule.per_byzantine * remaining + rule.at_least, 1)
    broken = buckets < needed
    if rule.weighted and rule.per_byzantine and rule.name != "trimmed_mean":
        broken |= _heaviest(rows, remaining) >= 0.5
    if rule.hostile is not None:
        broken |= rows.excluded > rule.hostile
    elif isinstance(rule.trim, float):
        share = rule.trim * tf.cast(rows.offered, tf.float64) + 1e-6
        broken |= tf.cast(rows.excluded, tf.float64) > share
    return broken


def _heaviest(rows: rules.Rows, number: tf.Tensor) -> tf.Tensor:
    """float64 scalar: the share of all weight that the heaviest rows have together."""
    shares = tf.sort(dataclasses.replace(rows, weighted=True).shares)[::-1]
    first = tf.range(tf.shape(shares)[0]) < number
    return tf.reduce_sum(tf.where(first, shares, tf.zeros_like(shares)))


@dataclasses.dataclass(frozen=True)
class StackingFactory(tff.aggregators.WeightedAggregationFactory):
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
      rule: what makes one update of many.
      capacity: clients that fit.
      on_breakdown: what happens in a round that has too few clients, or more excluded
        ones than the rule expects: "skip", or another rule (which is skipped where it
        cannot keep its promise either). None skips, and asks that `smallest_cohort`
        be enough for the rule.
      smallest_cohort: a size that cohorts do not fall below (a sampler's
        `minimum_cohort_size`); `capacity` by default.
      rewrite: (rows, round number) -> the rows that the rule sees; what simulates an
        attack, see `aggregators.AttackedFactory`. None takes them as they are.

    Raises:
      ValueError: a capacity that is too small for the rule, or a smallest cohort that
        is, while nothing was said about such rounds.
    """

    rule: RobustRule
    capacity: int
    on_breakdown: Union[str, RobustRule, None] = None
    smallest_cohort: Optional[int] = None
    rewrite: Optional[Callable[[rules.Rows, tf.Tensor], rules.Rows]] = None

    # Non-finite updates are to be passed on, since they count as hostile.
    screens_updates = True

    def __post_init__(self) -> None:
        if self.capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {self.capacity}")
        policy = self.on_breakdown
        if policy not in (None, SKIP) and not isinstance(policy, RobustRule):
            raise ValueError(
                f"on_breakdown must be {SKIP!r} or a RobustRule, got {policy!r}"
            )
        smallest = self.capacity
        if self.smallest_cohort is not None:
            smallest = self.smallest_cohort
        check_cohort(self.rule, smallest, self.capacity, has_policy=policy is not None)
        if isinstance(policy, RobustRule):
            check_cohort(policy, smallest, self.capacity, has_policy=True)

    def create(
        self, value_type: tff.Type, weight_type: tff.Type
    ) -> tff.templates.AggregationProcess:
        """An aggregation of `value_type`, a structure of float32 tensors.

        Raises:
          ValueError: values of another dtype, or of a shape that is not static.
        """
        layout = Layout.of(value_type)
        fallback = self.on_breakdown if self.on_breakdown != SKIP else None
        centred = [
            rule
            for rule in (self.rule, fallback)
            if isinstance(rule, RobustRule) and rule.name == "centered_clipping"
        ]
        center_size = layout.size if centred else 0
        momentum = centred[0].center_momentum if centred else 0.0
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
            broken = is_broken(self.rule, rows)
            arguments = {
                "center": state["center"] if centred else None,
                "round_number": state["round_number"],
            }
            skipped, fell_back = broken, tf.constant(False)
            if isinstance(fallback, RobustRule):
                skipped = broken & is_broken(fallback, rows)
                fell_back = broken & tf.logical_not(skipped)
                result = tf.cond(
                    broken,
                    lambda: apply_rule(fallback, rows, **arguments),
                    lambda: apply_rule(self.rule, rows, **arguments),
                )
            else:
                result = apply_rule(self.rule, rows, **arguments)
            skipped |= tf.logical_not(tf.reduce_all(tf.math.is_finite(result)))
            result = tf.where(skipped, tf.zeros_like(result), result)
            center = state["center"]
            if centred:
                kept = momentum * center + (1 - momentum) * result
                center = tf.where(skipped, center, kept)
            breakdowns = state["breakdowns"] + tf.cast(broken, tf.int32)
            new_state = collections.OrderedDict(
                round_number=state["round_number"] + 1,
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
