"""What specifications of aggregators build, a user's own among them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import aggregators, processes, runtime, settings
from tfl_research.aggregators import (
    AGGREGATORS,
    AggregatorContext,
    AttackedFactory,
    NormClippingFactory,
    RepeatedMeanFactory,
    StackingFactory,
    TrustedRootFactory,
    UpdateAggregator,
    declarations,
)
from tfl_research.aggregators.secure_sums import summation
from tfl_research.registry import registered

CONTEXT = AggregatorContext(9, 7, weighted=False, seed=3)
SGD = tff.learning.optimizers.build_sgdm


@pytest.mark.parametrize(
    "stacks",
    [
        {"byzantine": 1},
        {"on_breakdown": "skip"},
        {"bucket_size": 2},
        {"byzantine": 1, "neighbour_mixing": True},
    ],
)
def test_clipping_to_a_norm_is_stacked_only_where_asked(stacks):
    clipped = aggregators.NormClipping(clip_radius=0.5).build(CONTEXT)
    assert isinstance(clipped, NormClippingFactory)
    assert clipped.radius == 0.5
    rule = aggregators.NormClipping(clip_radius=0.5, **stacks)
    assert rule.build(CONTEXT) == StackingFactory(rule, 9, 7, False, 3)


def test_a_stack_has_the_sizes_the_weights_and_the_seed_of_the_context():
    rule = aggregators.CoordinateMedian()
    context = AggregatorContext(5, 2, weighted=True, seed=8)
    built = rule.build(context)
    assert (built.capacity, built.smallest_cohort) == (5, 2)
    assert (built.weighted, built.seed) == (True, 8)
    with pytest.raises(ValueError, match="as few as 2 clients; give on_breakdown"):
        aggregators.Krum(byzantine=1).build(CONTEXT_OF_FEW)
    with pytest.raises(ValueError, match=r"krum .*is defined for equal weights"):
        aggregators.Krum(byzantine=1).build(dataclasses.replace(CONTEXT, weighted=True))


CONTEXT_OF_FEW = AggregatorContext(9, 2, weighted=False)


def test_a_geometric_median_by_secure_sums():
    plain = aggregators.RepeatedGeometricMedian(weiszfeld_steps=3).build(CONTEXT)
    assert plain == RepeatedMeanFactory(3)
    formats = aggregators.SumFormats(9)
    context = dataclasses.replace(CONTEXT, secure_sums=formats)
    secure = aggregators.RepeatedGeometricMedian().build(context)
    assert secure == RepeatedMeanFactory(1, 1e-3, summation.updates(formats))


def test_a_trusted_root_holds_the_largest_cohort():
    found = aggregators.TrustedRoot(root_examples=5).build(CONTEXT)
    assert found == TrustedRootFactory(9, aggregators.ROOT_ROLE)


@pytest.mark.parametrize(
    ("given", "rule", "on_breakdown"),
    [
        (aggregators.Mean(), "mean", "skip"),
        (aggregators.NormClipping(clip_radius=0.5), "norm_clipping", "skip"),
        (
            aggregators.NormClipping(clip_radius=0.5, on_breakdown="mean"),
            "norm_clipping",
            "mean",
        ),
        (aggregators.Krum(byzantine=2), "krum", None),
    ],
)
def test_an_attack_that_sees_all_updates_has_them_stacked(given, rule, on_breakdown):
    stacked = given.build_stacked(CONTEXT)
    assert isinstance(stacked, StackingFactory)
    assert (stacked.rule.NAME, stacked.rule.on_breakdown) == (rule, on_breakdown)
    if rule == "norm_clipping":
        assert stacked.rule.clip_radius == 0.5


VALUE = tff.TensorType(np.float32, [2])
ROWS = np.float32([[3, -1], [3, -2], [3, -4], [7, -9]])


def clipped_around(center, radius):
    """The mean of the rows' differences from the centre, each clipped."""
    apart = ROWS.astype(np.float64) - center
    lengths = np.linalg.norm(apart, axis=1, keepdims=True)
    return np.mean(apart * np.minimum(1, radius / lengths), axis=0)


# Every rule's parameters and its result for ROWS.
RESULTS = {
    "mean": ({}, [4, -4]),
    "coordinate_median": ({}, [3, -3]),
    "trimmed_mean": ({"byzantine": 1}, [3, -3]),
    # Squared distances to the two nearest: 1 + 9, 1 + 4, 4 + 9 and 41 + 65.
    "krum": ({"byzantine": 0}, [3, -2]),
    "multi_krum": ({"byzantine": 0, "krum_select": 2}, [3, -1.5]),
    "bulyan": ({"byzantine": 0}, [4, -4]),
    "mean_around_median": ({"byzantine": 1}, [3, -7 / 3]),
    # The second row: unit vectors to the others sum up to one of length 1.
    "geometric_median": ({}, [3, -2]),
    "norm_clipping": ({"clip_radius": 4.0}, clipped_around(np.zeros(2), 4.0)),
    "centered_clipping": (
        {"clip_radius": 2.0, "clip_iterations": 2},
        clipped_around(np.zeros(2), 2.0)
        + clipped_around(clipped_around(np.zeros(2), 2.0), 2.0),
    ),
    "sign_majority": ({}, [1, -1]),
}


def test_every_rule_has_a_result_by_hand():
    rules = {
        name
        for name, one in AGGREGATORS.items()
        if issubclass(one, aggregators.RuleSettings)
    }
    assert set(RESULTS) == {"mean", *rules}


@pytest.mark.usefixtures("on_a_worker")
@pytest.mark.parametrize("name", RESULTS)
def test_every_rule_is_applied_with_its_parameters(name):
    given, expected = RESULTS[name]
    built = AGGREGATORS.get(name)(**given).build(AggregatorContext(4, 4, False))
    process = built.create(VALUE, tff.TensorType(np.float32))
    output = process.next(process.initialize(), list(ROWS), [1.0] * 4)
    # The median's iteration is slow where it ends at a row.
    atol = 3e-3 if name == "geometric_median" else 1e-5
    np.testing.assert_allclose(output.result, expected, rtol=0, atol=atol)


@pytest.mark.parametrize(
    "name", ["robust", "zeroing", "clipping", "compression", "secure"]
)
def test_tffs_own_are_built_by_name(name):
    built = AGGREGATORS.get(name)().build(CONTEXT)
    update = tff.StructWithPythonType([VALUE], tuple)
    process = built.create(update, tff.TensorType(np.float32))
    expected = getattr(aggregators, name)().create(update, tff.TensorType(np.float32))
    assert process.next.type_signature == expected.next.type_signature


@dataclasses.dataclass(frozen=True)
class Midrange(aggregators.RuleSettings):
    """A user's rule: the middle between the least and the largest value."""

    NAME = "midrange"
    SUMMARY = "middle of each coordinate's range"
    PER_BYZANTINE, AT_LEAST, SOURCE = 0, 2, "this test"

    scale: float = settings.real(1.0, "Factor of the result.", above=0)

    def apply(self, rows, *, center=None):
        del center
        present = rows.present[:, None]
        least = tf.reduce_min(tf.where(present, rows.values, np.inf), axis=0)
        largest = tf.reduce_max(tf.where(present, rows.values, -np.inf), axis=0)
        return self.scale * (least + largest) / 2


@dataclasses.dataclass(frozen=True)
class HalvedSum(aggregators.AggregatorSettings):
    """A user's aggregator that is a factory of TFF's."""

    NAME = "halved_sum"
    SUMMARY = "half of the sum"
    WEIGHTED = False

    def build(self, context):
        return HalvedSumFactory()


class HalvedSumFactory(tff.aggregators.UnweightedAggregationFactory):
    """Declares nothing, as factories that know TFF alone."""

    def create(self, value_type):
        @tff.tensorflow.computation(value_type)
        def halved(value):
            return tf.nest.map_structure(lambda v: v / 2, value)

        @tff.federated_computation
        def initialize():
            return tff.federated_value((), tff.SERVER)

        @tff.federated_computation(
            initialize.type_signature.result,
            tff.FederatedType(value_type, tff.CLIENTS),
        )
        def next_sum(state, value):
            return tff.templates.MeasuredProcessOutput(
                state,
                tff.federated_map(halved, tff.federated_sum(value)),
                tff.federated_value((), tff.SERVER),
            )

        return tff.templates.AggregationProcess(initialize, next_sum)


def moved(task, aggregator):
    """How far a round of all clients moves the model, and its measurements."""
    process = processes.build_fed_avg(
        task,
        client_optimizer=SGD(0.1),
        aggregator=aggregator,
        client_weighting=processes.uniform(),
    )
    cohort = task.train.cohort(task.train.client_ids, seed=0, round_number=1)
    mode = runtime.Mode("folded", "graph")
    with runtime.in_process(process, mode=mode) as engine:
        start = engine.initialize()
        state, metrics = engine.next(start, cohort)

    def flat(found):
        weights = found.global_model_weights.trainable
        return np.concatenate([np.ravel(np.asarray(w)) for w in weights])

    return flat(state) - flat(start), metrics["aggregator"]


@pytest.fixture(scope="module")
def task(make_linear_task):
    generator = np.random.default_rng(2)
    return make_linear_task(
        {
            name: (generator.normal(size=(3, 2)), generator.normal(size=3))
            for name in ("a", "b", "c")
        }
    )


@pytest.fixture(scope="module")
def updates(task):
    """Each client's update: what the model moves by where it is alone."""
    found = []
    for name in task.train.client_ids:
        train = dataclasses.replace(task.train, client_ids=(name,))
        alone = dataclasses.replace(task, train=train)
        found.append(moved(alone, aggregators.mean())[0])
    return np.stack(found)


def test_a_users_rule_is_chosen_by_name_and_runs(task, updates):
    with registered(AGGREGATORS, "midrange", Midrange):
        chosen = AGGREGATORS.from_flat({"aggregator": "midrange", "scale": 0.5})
        assert AGGREGATORS.origin("midrange") == __name__
        assert "midrange" in AGGREGATORS.parameters()["byzantine"]
        found, measured = moved(task, chosen.build(AggregatorContext(3, 3, False)))
        # It may follow noise of the clients, and nothing else.
        chosen.check_with_privacy("client", "local_gaussian")
        with pytest.raises(ValueError, match="midrange breaks the guarantee"):
            chosen.check_with_privacy("server", "gaussian")
    expected = 0.5 * (updates.min(axis=0) + updates.max(axis=0)) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert (int(measured["stacked"]), int(measured["skipped"])) == (3, 0)
    with pytest.raises(ValueError, match=r"at least 2 clients \(this test\)"):
        chosen.build(AggregatorContext(1, 1, False))
    assert "midrange" not in AGGREGATORS


def test_a_users_factory_is_chosen_by_name_and_runs(task, updates):
    with registered(AGGREGATORS, "halved_sum", HalvedSum):
        chosen = AGGREGATORS.resolve("halved_sum")
    found, _ = moved(task, chosen.build(AggregatorContext(3, 3, False)))
    np.testing.assert_allclose(found, updates.sum(axis=0) / 2, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="halved_sum is defined for equal weights"):
        chosen.check_weights("examples")


@dataclasses.dataclass(frozen=True)
class Planned(UpdateAggregator, tff.aggregators.WeightedAggregationFactory):
    """A mean that was built from a privacy plan."""

    plan: object = None
    screens_updates = True

    def create(self, value_type, weight_type):
        return aggregators.mean().create(value_type, weight_type)


def test_a_factory_of_tffs_own_declares_nothing():
    found = declarations(tff.aggregators.MeanFactory())
    assert (found.client_members, found.screens_updates) == ((), False)
    assert found.plan is None
    assert found.message_type(VALUE) is None
    plan = object()
    own = Planned(plan)
    assert declarations(own) is own


def test_what_wraps_a_factory_declares_the_same():
    plan = object()
    clipped = NormClippingFactory(1.0, Planned(plan))
    assert clipped.plan is plan
    assert clipped.screens_updates
    over_code = NormClippingFactory(1.0, aggregators.compression())
    large = tff.TensorType(np.float32, [30_000])
    assert over_code.message_type(large) == aggregators.compression().message_type(
        large
    )
    assert over_code.message_type(large) != large
    attacked = AttackedFactory(
        StackingFactory(aggregators.MeanRule(), 2), lambda updates, *_: updates
    )
    assert attacked.plan is None
    assert (attacked.client_members, attacked.screens_updates) == (("role",), True)


def test_a_process_has_the_plan_of_its_aggregator(task):
    plan = object()
    process = processes.build_fed_avg(
        task, client_optimizer=SGD(0.1), aggregator=Planned(plan)
    )
    assert process.plan is plan
