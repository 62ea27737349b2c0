"""Robust rules as TFF aggregations, on a worker and whole rounds on both runtimes."""

from __future__ import annotations

import collections

import numpy as np
import pytest
import tensorflow_federated as tff

from tfl_research import processes, runtime
from tfl_research.aggregators import (
    AGGREGATORS,
    CenteredClipping,
    CoordinateMedian,
    GeometricMedian,
    Krum,
    MeanRule,
    MultiKrum,
    NormClipping,
    StackingFactory,
    TrimmedMean,
    rules,
)
from tfl_research.aggregators.stack import Layout, stack_computations
from tfl_research.aggregators.stacking import is_broken

VALUE = tff.StructWithPythonType(
    [("a", tff.TensorType(np.float32, [2])), ("b", tff.TensorType(np.float32, [1, 1]))],
    collections.OrderedDict,
)
WEIGHT = tff.TensorType(np.float32)
NAN = float("nan")


pytestmark = pytest.mark.usefixtures("on_a_worker")


def value(x):
    """A structure whose three entries are x, -x and 10 x."""
    return collections.OrderedDict(
        a=np.array([x, -x], np.float32), b=np.array([[10 * x]], np.float32)
    )


def run(process, state, clients):
    """One aggregation of [(x, weight)]: (state, x of the result, measurements)."""
    output = process.next(
        state, [value(x) for x, _ in clients], [weight for _, weight in clients]
    )
    result = output.result
    x = float(result["a"][0])
    np.testing.assert_allclose(result["a"][1], -x, rtol=1e-6)
    np.testing.assert_allclose(result["b"], [[10 * x]], rtol=1e-6)
    return output.state, x, {k: int(v) for k, v in output.measurements.items()}


@pytest.fixture(scope="module")
def trimmed():
    """A trimmed mean of up to 5 rows for one hostile one, a mean below 3 rows."""
    rule = TrimmedMean(byzantine=1, on_breakdown="mean")
    return StackingFactory(rule, capacity=5).create(VALUE, WEIGHT)


def test_a_rule_of_the_stacked_updates(trimmed):
    clients = [(1.0, 1.0), (2.0, 1.0), (6.0, 1.0), (100.0, 1.0)]
    _, x, measured = run(trimmed, trimmed.initialize(), clients)
    assert x == 4.0
    assert measured == {
        "stacked": 4,
        "excluded": 0,
        "dropped": 0,
        "skipped": 0,
        "fell_back": 0,
        "breakdowns": 0,
    }


@pytest.mark.parametrize(
    "bad", [(NAN, 1.0), (float("inf"), 1.0), (3.0, NAN), (3.0, -1.0)]
)
def test_hostile_clients_are_excluded_and_use_up_f(trimmed, bad):
    # Nothing is trimmed any more: the one hostile client was found.
    clients = [(1.0, 1.0), bad, (2.0, 1.0), (6.0, 1.0)]
    _, x, measured = run(trimmed, trimmed.initialize(), clients)
    assert x == 3.0
    assert (measured["excluded"], measured["fell_back"]) == (1, 0)


def test_clients_without_weight_are_not_there(trimmed):
    clients = [(1.0, 1.0), (7e7, 0.0), (2.0, 9.0), (NAN, 0.0), (6.0, 1.0)]
    _, x, measured = run(trimmed, trimmed.initialize(), clients)
    # Weights beyond 0 do not count: the rule is not weighted.
    assert x == 2.0
    assert (measured["stacked"], measured["excluded"]) == (3, 0)


def test_clients_beyond_the_capacity_are_dropped_and_counted(trimmed):
    clients = [(float(x), 1.0) for x in range(7)]
    _, x, measured = run(trimmed, trimmed.initialize(), clients)
    assert x == 2.0
    assert (measured["stacked"], measured["dropped"]) == (5, 2)


def test_breakdowns_fall_back_skip_and_are_counted(trimmed):
    state, x, measured = run(trimmed, trimmed.initialize(), [(1.0, 1.0), (5.0, 1.0)])
    assert (x, measured["fell_back"], measured["skipped"]) == (3.0, 1, 0)
    # More hostile clients than the rule was told to expect.
    clients = [(1.0, 1.0), (2.0, 1.0), (9.0, 1.0), (NAN, 1.0), (NAN, 1.0)]
    state, x, measured = run(trimmed, state, clients)
    assert (x, measured["fell_back"], measured["excluded"]) == (4.0, 1, 2)
    state, x, measured = run(trimmed, state, [])
    assert (x, measured["fell_back"], measured["skipped"]) == (0.0, 0, 1)
    _, _, measured = run(trimmed, state, [(1.0, 1.0)] * 3)
    assert (measured["fell_back"], measured["breakdowns"]) == (0, 3)


def test_the_rule_that_stands_in_expects_as_many_hostile_clients():
    rule = Krum(byzantine=1, on_breakdown="coordinate_median")
    process = StackingFactory(rule, capacity=6).create(VALUE, WEIGHT)
    # Krum needs five rows, and the median of one hostile row three.
    clients = [(1.0, 1.0), (2.0, 1.0), (6.0, 1.0), (100.0, 1.0)]
    state, x, measured = run(process, process.initialize(), clients)
    assert (x, measured["fell_back"], measured["skipped"]) == (4.0, 1, 0)
    state, x, measured = run(process, state, clients[:2])
    assert (x, measured["fell_back"], measured["skipped"]) == (0.0, 0, 1)
    # Two hostile rows are one more than either of the rules expects.
    bad = [(NAN, 1.0), (NAN, 1.0)]
    _, x, measured = run(process, state, clients + bad)
    assert (x, measured["fell_back"], measured["breakdowns"]) == (0.0, 0, 3)


def test_a_result_that_is_not_finite_is_skipped(monkeypatch):
    monkeypatch.setattr(rules, "mean", lambda rows: rules.sign_majority(rows) / 0.0)
    process = StackingFactory(MeanRule(), capacity=2).create(VALUE, WEIGHT)
    _, x, measured = run(process, process.initialize(), [(1.0, 1.0), (2.0, 1.0)])
    assert (x, measured["skipped"], measured["breakdowns"]) == (0.0, 1, 0)


def test_rows_are_mixed_before_the_rule():
    rule = CoordinateMedian(byzantine=1, neighbour_mixing=True)
    process = StackingFactory(rule, capacity=4).create(VALUE, WEIGHT)
    clients = [(0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (100.0, 1.0)]
    _, x, _ = run(process, process.initialize(), clients)
    # Means of the three nearest: 1, 1, 1 and 103/3.
    assert x == 1.0


def test_weights_count_where_the_rule_is_weighted():
    factory = StackingFactory(CoordinateMedian(), capacity=3, weighted=True)
    process = factory.create(VALUE, WEIGHT)
    clients = [(1.0, 1.0), (2.0, 1.0), (50.0, 7.0)]
    assert run(process, process.initialize(), clients)[1] == 50.0


@pytest.mark.parametrize(
    ("name", "weights", "broken"),
    [
        ("geometric_median", [3, 2, 2, 2, 2], False),
        # The heaviest two of five have 6 of 12, and 5 of 11.
        ("geometric_median", [4, 2, 2, 2, 2], True),
        ("coordinate_median", [2, 4, 2, 2, 2], True),
        ("sign_majority", [1, 1, 1, 9, 1], True),
        # Takes off as much of the weight as it says.
        ("trimmed_mean", [4, 2, 2, 2, 2], False),
    ],
)
def test_half_of_the_weight_may_not_be_hostile(name, weights, broken):
    rows = rules.screen(np.ones((6, 2), np.float32), [*weights, 0])
    rule = AGGREGATORS.get(name)(byzantine=2)
    assert bool(is_broken(rule, rows, weighted=True)) == broken
    # Without weights two of five are always few enough.
    assert not is_broken(rule, rows)


def test_an_excluded_client_leaves_one_hostile_less_among_the_weights():
    rule = GeometricMedian(byzantine=2)
    rows = np.ones((6, 2), np.float32)
    # One of the two was found: of the others' 11 the heaviest has 4, two have 6.
    weights = [4, 2, 2, 2, 1, 50]
    rows[5, 0] = NAN
    assert not is_broken(rule, rules.screen(rows, weights), weighted=True)
    assert is_broken(rule, rules.screen(rows[:5], weights[:5]), weighted=True)


def test_centered_clipping_starts_from_the_last_result():
    rule = CenteredClipping(clip_radius=1.0, clip_momentum=0.5)
    process = StackingFactory(rule, capacity=3).create(VALUE, WEIGHT)
    unit = 1 / np.sqrt(102)  # x of a step of length 1
    clients = [(9.0, 1.0)] * 3
    state, x, _ = run(process, process.initialize(), clients)
    assert x == pytest.approx(unit, rel=1e-6)
    # The centre has gone half of the way.
    state, x, _ = run(process, state, clients)
    assert x == pytest.approx(1.5 * unit, rel=1e-6)
    state, x, measured = run(process, state, [])
    assert measured["skipped"] == 1
    _, x, _ = run(process, state, clients)
    # (0.5 + 1.5) / 2 = 1 and a step, unchanged by the round that was skipped.
    assert x == pytest.approx(2 * unit, rel=1e-6)


def test_buckets_are_others_in_every_round():
    rule = CoordinateMedian(bucket_size=2)
    process = StackingFactory(rule, capacity=6, seed=3).create(VALUE, WEIGHT)
    clients = [(float(2**i), 1.0) for i in range(6)]
    state, found = process.initialize(), []
    for _ in range(6):
        state, x, _ = run(process, state, clients)
        found.append(x)
    medians = {
        np.median([(2**a + 2**b) / 2, (2**c + 2**d) / 2, (2**e + 2**f) / 2])
        for a, b, c, d, e, f in [np.random.permutation(6) for _ in range(2000)]
    }
    assert set(found) <= medians
    assert len(set(found)) > 1


def test_merging_appends():
    layout = Layout.of(VALUE)
    zero, accumulate, merge, _ = stack_computations(5, layout, VALUE, WEIGHT)

    def stack(*clients):
        held = zero()
        for x, weight in clients:
            held = accumulate(held, (value(x), weight))
        return held

    first = stack((1.0, 1.0), (NAN, 1.0), (2.0, 3.0))
    second = stack((3.0, 1.0), (4.0, 2.0), (5.0, 1.0), (6.0, 1.0))
    both = merge(first, second)
    np.testing.assert_array_equal(both["values"][:, 0], [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(both["weights"], [1, 3, 1, 2, 1])
    counts = {k: int(both[k]) for k in ("stored", "offered", "excluded", "dropped")}
    assert counts == {"stored": 5, "offered": 7, "excluded": 1, "dropped": 1}
    for other in (merge(first, zero()), merge(zero(), first)):
        np.testing.assert_array_equal(other["values"], first["values"])
        np.testing.assert_array_equal(other["weights"], first["weights"])


def test_members_keep_the_order_of_their_type_and_not_of_the_alphabet():
    first = tff.StructWithPythonType(
        [("z", tff.TensorType(np.float32, [2])), ("a", tff.TensorType(np.float32))],
        collections.OrderedDict,
    )
    nested = tff.StructWithPythonType(
        [("b", first), ("a", tff.TensorType(np.float32, [1, 2]))],
        collections.OrderedDict,
    )
    given = collections.OrderedDict(
        b=collections.OrderedDict(z=np.float32([1, 2]), a=np.float32(3)),
        a=np.float32([[4, 5]]),
    )
    layout = Layout.of(nested)
    np.testing.assert_array_equal(layout.flatten(given), [1, 2, 3, 4, 5])
    back = layout.unflatten(layout.flatten(given))
    assert tff.structure.name_list(back) == ["b", "a"]
    np.testing.assert_array_equal(back.b.z, [1, 2])
    np.testing.assert_array_equal(back.a, [[4, 5]])

    process = StackingFactory(MeanRule(), capacity=2).create(nested, WEIGHT)
    other = collections.OrderedDict(
        b=collections.OrderedDict(z=np.float32([3, 4]), a=np.float32(5)),
        a=np.float32([[6, 7]]),
    )
    result = process.next(process.initialize(), [given, other], [1.0, 1.0]).result
    np.testing.assert_array_equal(result["b"]["z"], [2, 3])
    np.testing.assert_array_equal(result["b"]["a"], 4)
    np.testing.assert_array_equal(result["a"], [[5, 6]])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda r: StackingFactory(r, 0), "capacity must be at least 1"),
        (lambda r: StackingFactory(r, 6), "needs cohorts of at least 7 .* at most 6"),
        (
            lambda r: StackingFactory(r, 9, smallest_cohort=4),
            "as few as 4 clients; give on_breakdown",
        ),
        (lambda r: StackingFactory("krum", 9), "must be a RuleSettings, got 'krum'"),
        (lambda r: StackingFactory(r, 9, weighted=True), "for equal weights only"),
        (
            lambda r: StackingFactory(
                CoordinateMedian(bucket_size=2), 9, weighted=True
            ),
            "coordinate_median on buckets of 2 is defined for equal weights only",
        ),
        (
            lambda r: StackingFactory(
                NormClipping(2, on_breakdown="coordinate_median", clip_radius=1.0), 4
            ),
            "coordinate_median .* at least 5 clients .* at most 4",
        ),
        (
            lambda r: StackingFactory(r, 9).create(tff.TensorType(np.int32), WEIGHT),
            "values must be float32",
        ),
        (
            lambda r: StackingFactory(r, 9).create(
                tff.TensorType(np.float32, [None]), WEIGHT
            ),
            "static shapes",
        ),
    ],
)
def test_refuses(build, message):
    with pytest.raises(ValueError, match=message):
        build(Krum(byzantine=2))


@pytest.fixture(scope="module")
def seven_clients():
    """Linear regressions near one another, and one client whose data are NaN."""
    generator = np.random.default_rng(0)
    clients = {}
    for index in range(7):
        x = generator.normal(size=(1 + index % 3, 2))
        y = x @ [1.0, -2.0] + 0.1 * generator.normal(size=len(x))
        clients[f"client{index}"] = (x * (np.nan if index == 2 else 1), y)
    return clients


SGD = tff.learning.optimizers.build_sgdm


@pytest.mark.parametrize(
    ("rule", "mode"),
    [
        (MultiKrum(byzantine=1, on_breakdown="skip"), ("folded", "xla")),
        (GeometricMedian(on_breakdown="skip"), ("vectorised", "graph")),
    ],
    ids=["multi_krum", "geometric_median"],
)
def test_both_runtimes_agree(make_linear_task, seven_clients, rule, mode):
    task = make_linear_task(seven_clients)
    weighted = rule.takes_weights
    kind = processes.by_examples() if weighted else processes.uniform()
    process = processes.build_fed_avg(
        task,
        client_optimizer=SGD(0.1),
        server_optimizer=SGD(1.0, momentum=0.5),
        aggregator=StackingFactory(rule, capacity=8, weighted=weighted),
        client_weighting=kind,
    )
    final = []
    engines = [
        runtime.tff_local(process),
        # Three chunks, two of which are merged before the last step.
        runtime.in_process(process, mode=runtime.Mode(*mode), chunk_size=3),
    ]
    for engine in engines:
        with engine:
            state = engine.initialize()
            for round_number in (1, 2):
                cohort = task.train.cohort(
                    task.train.client_ids, seed=0, round_number=round_number
                )
                state, metrics = engine.next(state, cohort)
        measured = {k: int(v) for k, v in metrics["aggregator"].items()}
        assert (measured["stacked"], measured["excluded"]) == (6, 1)
        assert measured["skipped"] == 0
        weights = state.global_model_weights.trainable
        final.append(np.concatenate([np.ravel(np.asarray(w)) for w in weights]))
    assert np.abs(final[0] - [0.5, -0.25, 0.1]).max() > 0.01
    np.testing.assert_allclose(final[1], final[0], rtol=1e-6, atol=1e-6)


def test_a_skipped_round_leaves_model_and_optimizer_alone(
    make_linear_task, seven_clients
):
    task = make_linear_task(seven_clients)
    process = processes.build_fed_avg(
        task,
        client_optimizer=SGD(0.1),
        server_optimizer=SGD(1.0, momentum=0.9),
        aggregator=StackingFactory(Krum(byzantine=1, on_breakdown="skip"), capacity=7),
        client_weighting=processes.uniform(),
    )
    ids = task.train.client_ids

    def leaves(state):
        parts = (state.global_model_weights.trainable, state.finalizer)
        return [
            np.asarray(leaf)
            for part in parts
            for leaf in tff.structure.flatten(
                tff.structure.from_container(part, recursive=True)
            )
        ]

    mode = runtime.Mode("folded", "graph")
    with runtime.in_process(process, mode=mode) as engine:
        first, _ = engine.next(
            engine.initialize(), task.train.cohort(ids, seed=0, round_number=1)
        )
        second, metrics = engine.next(
            first, task.train.cohort(ids[:3], seed=0, round_number=2)
        )
    assert int(metrics["aggregator"]["skipped"]) == 1
    assert int(second.client_work) == 2
    before, after = leaves(first), leaves(second)
    assert any(np.any(leaf != 0) for leaf in before[3:])
    for old, new in zip(before, after):
        np.testing.assert_array_equal(old, new)
