"""Processes of a user's own: states and effects in client code, and their shapes."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
import toy_processes

from tfl_research import runtime
from tfl_research.errors import UserError
from tfl_research.runtime import Mode
from tfl_research.runtime.compiler import choice
from tfl_research.runtime.tracing.interpreter import CannotTrace

GRAPH, XLA = Mode("folded", "graph"), Mode("folded", "xla")


def summing(work, client_type, result=np.float32):
    """A process whose metrics are the sum of `work(value)` over the clients."""
    work = tff.tensorflow.computation(work, client_type)

    @tff.federated_computation
    def initialize():
        return tff.federated_value(np.float32(0), tff.SERVER)

    @tff.federated_computation(
        tff.FederatedType(np.float32, tff.SERVER),
        tff.FederatedType(client_type, tff.CLIENTS),
    )
    def next_round(state, values):
        return state, tff.federated_sum(tff.federated_map(work, values))

    return tff.templates.IterativeProcess(initialize, next_round)


def total(process, values, **arguments):
    with runtime.in_process(process, **arguments) as engine:
        return np.asarray(engine.next(engine.initialize(), values)[1])


class TestBadValues:
    """XLA, which would clamp or go on, gives the answer of TensorFlow's kernels."""

    def lookup(self):
        return summing(
            lambda i: tf.gather([1.0, 2.0, 4.0], i), tff.TensorType(np.int32)
        )

    def loss(self):
        def loss(labels):
            # In a loop, in which a flag has to be handed on.
            def body(step, value):
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
                    labels[step], tf.zeros([3])
                )
                return step + 1, value + losses

            return tf.while_loop(lambda step, _: step < 2, body, (0, 0.0))[1]

        return summing(loss, tff.TensorType(np.int32, [2]))

    def checked(self):
        def work(value):
            tf.debugging.assert_less(value, 10.0, message="too large")
            return tf.sqrt(value)

        return summing(tf.function(work), tff.TensorType(np.float32))

    def finite(self):
        return summing(
            lambda value: tf.debugging.check_numerics(value, "no number"),
            tff.TensorType(np.float32),
        )

    @pytest.mark.parametrize("mode", [XLA, GRAPH, None], ids=str)
    @pytest.mark.parametrize(
        ("name", "good", "expected", "bad", "message"),
        [
            ("lookup", [0, 2, 1], 7.0, 3, r"indices = 3 is not in \[0, 3\)"),
            (
                "loss",
                [[0, 1], [2, 2], [0, 0]],
                6 * np.log(3),
                [1, 3],
                "label value of 3",
            ),
            ("checked", [1.0, 4.0, 9.0], 6.0, 12.0, "too large"),
            ("finite", [1.0, 4.0, 9.0], 14.0, np.nan, "no number"),
        ],
    )
    def test_one_line_names_the_client(self, name, good, expected, bad, message, mode):
        process = getattr(self, name)()
        assert total(process, good, mode=mode) == pytest.approx(expected, rel=1e-6)
        with pytest.raises(UserError, match=message) as caught:
            total(process, [good[0], good[1], bad], mode=mode)
        assert str(caught.value).startswith("client 2 of the cohort: ")
        assert "\n" not in str(caught.value)


def test_a_variable_starts_anew_for_each_client():
    def work(value):
        count = tf.Variable(0.0, trainable=False)

        @tf.function
        def squared():
            for _ in range(3):
                count.assign_add(value)
            return count * count

        return squared()

    for mode in (XLA, GRAPH, None):
        process = summing(work, tff.TensorType(np.float32))
        # (3 * 1)^2 + (3 * 2)^2; a kept variable would give (3 * 3)^2 for the second.
        assert total(process, [1.0, 2.0], mode=mode) == 45.0


def test_a_remembered_mode_that_would_be_refused_is_not_used(monkeypatch):
    """Another version of the toolkit may have measured it."""
    remembered = ("vectorised", "graph", "remembered")
    monkeypatch.setattr(choice.choice_cache, "recall", lambda _: remembered)
    with runtime.in_process(TestBadValues().checked()) as engine:
        engine.next(engine.initialize(), [1.0])
        assert engine.mode in (XLA, GRAPH)


@pytest.mark.parametrize(
    "mode",
    [
        None,
        XLA,
        GRAPH,
        runtime.Mode("vectorised", "xla"),
        runtime.Mode("separate", "graph"),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("intrinsic", "bound"),
    [
        (lambda values: tff.federated_secure_sum_bitwidth(values, 4), 15),
        (lambda values: tff.federated_secure_sum(values, np.int32(5)), 5),
    ],
)
def test_values_above_the_bound_of_a_secure_sum_fail(intrinsic, bound, mode):
    process = toy_processes.summing_process(intrinsic)
    with runtime.in_process(process, mode=mode) as engine:
        state = engine.initialize()
        assert int(engine.next(state, [3, bound])[1]) == 3 + bound
        with pytest.raises(
            UserError, match="above the bound of its secure sum"
        ) as told:
            engine.next(state, [3, bound + 1])
    assert str(told.value).startswith("client 1 of the cohort: ")


def test_an_initial_state_with_a_seed_is_the_same_each_time():
    first = tff.tensorflow.computation(lambda: tf.random.uniform([], seed=7))

    @tff.federated_computation
    def initialize():
        return tff.federated_eval(first, tff.SERVER)

    @tff.federated_computation(
        tff.FederatedType(np.float32, tff.SERVER),
        tff.FederatedType(np.float32, tff.CLIENTS),
    )
    def next_round(state, values):
        return state, tff.federated_sum(values)

    process = tff.templates.IterativeProcess(initialize, next_round)
    with runtime.in_process(process) as engine:
        one, other = float(engine.initialize()), float(engine.initialize())
    assert one == other


def test_an_explanation_names_generators_with_a_seed():
    process = summing(
        lambda value: value + tf.random.uniform([], seed=7), tff.TensorType(np.float32)
    )
    assert "RandomUniform with a seed draws other numbers" in str(
        runtime.explain(process)
    )


def test_generators_with_a_state_draw_anew_for_each_client():
    def work(value):
        return value + tf.random.uniform([1000])

    process = summing(work, tff.TensorType(np.float32))
    with pytest.raises(runtime.UnsupportedProcess, match="RandomUniform"):
        runtime.in_process(process, mode=XLA)
    with runtime.in_process(process) as engine:
        state = engine.initialize()
        one, other = (np.asarray(engine.next(state, [0.0])[1]) for _ in range(2))
        both = np.asarray(engine.next(state, [0.0, 0.0])[1])
    assert engine.mode == GRAPH
    assert np.abs(one - other).mean() > 0.2
    # The sum of two draws has a variance of 2/12, twice one draw of 4/12.
    assert both.var() == pytest.approx(2 / 12, rel=0.2)


@pytest.mark.slow
def test_a_hash_table_is_handed_to_tffs_runtime(caplog):
    def work(word):
        keys = tf.lookup.KeyValueTensorInitializer(["a", "b"], [1.0, 2.0])
        return tf.lookup.StaticHashTable(keys, -1.0).lookup(word)

    process = summing(work, tff.TensorType(np.str_))
    explanation = runtime.explain(process)
    assert explanation.runtime == "tff_local"
    assert total(process, ["a", "b", "b", "other"]) == 4.0
    assert "TFF's runtime executes this process" in caplog.text


def test_a_run_that_was_handed_over_is_not_asked_for_its_mode(tmp_path):
    path = tmp_path / "runtime.json"
    process = summing(lambda value: 2 * value, tff.TensorType(np.float32))
    with runtime.in_process(process, choice_file=path, choice_made=False) as engine:
        engine._give_up(CannotTrace("a reason"))
    with runtime.in_process(process, choice_file=path, choice_made=True) as engine:
        assert engine.explanation.runtime == "tff_local"
        assert engine.choice_reason == "a reason"


class TestShapes:
    def test_clients_whose_values_are_not_used(self):
        @tff.federated_computation
        def initialize():
            return tff.federated_value(np.int32(1), tff.SERVER)

        @tff.federated_computation(
            tff.FederatedType(np.int32, tff.SERVER),
            tff.FederatedType(np.int32, tff.CLIENTS),
        )
        def next_round(state, values):
            return tff.federated_map(
                tff.tensorflow.computation(lambda s: s + 1, np.int32), state
            ), tff.federated_value(np.int32(5), tff.SERVER)

        process = tff.templates.IterativeProcess(initialize, next_round)
        with runtime.in_process(process) as engine:
            state, metrics = engine.next(engine.initialize(), [7, 8])
        assert (int(state), int(metrics)) == (2, 5)

    def test_values_that_another_process_does_not_have(self):
        one = tff.TensorType(np.float32)
        alone = summing(lambda value: 2 * value, one)
        weighted = summing(
            lambda pair: 2 * pair[0], tff.StructType([("value", one), ("weight", one)])
        )
        assert total(alone, [1.0, 2.0], mode=GRAPH) == 6
        # The graphs are equal, for the weight is not used.
        pairs = [collections.OrderedDict(value=3.0, weight=5.0)]
        assert total(weighted, pairs, mode=GRAPH) == 6

    def test_a_round_that_gives_the_state_alone(self):
        @tff.federated_computation
        def initialize():
            return tff.federated_value(np.float32(0), tff.SERVER)

        @tff.federated_computation(
            tff.FederatedType(np.float32, tff.SERVER),
            tff.FederatedType(np.float32, tff.CLIENTS),
        )
        def next_round(state, values):
            return tff.federated_sum(values)

        process = tff.templates.IterativeProcess(initialize, next_round)
        with runtime.in_process(process) as engine:
            state, metrics = engine.next(engine.initialize(), [1.0, 2.0])
        assert (float(state), metrics) == (3.0, ())

    def test_a_plain_computation(self):
        @tff.federated_computation(tff.FederatedType(np.float32, tff.CLIENTS))
        def mean(values):
            return tff.federated_mean(values)

        process = runtime.as_process(mean)
        with runtime.in_process(process) as engine:
            state, metrics = engine.next(engine.initialize(), [1.0, 2.0, 6.0])
        assert (state, float(metrics)) == ((), 3.0)

    def test_a_plain_computation_with_a_value_of_the_server(self):
        @tff.tensorflow.computation(np.float32, np.float32)
        def scaled(value, scale):
            return value * scale

        @tff.federated_computation(
            tff.FederatedType(np.float32, tff.SERVER),
            tff.FederatedType(np.float32, tff.CLIENTS),
        )
        def scaled_mean(scale, values):
            sent = tff.federated_broadcast(scale)
            return tff.federated_mean(tff.federated_map(scaled, (values, sent)))

        process = runtime.as_process(scaled_mean, server=np.float32(10))
        with runtime.in_process(process) as engine:
            state, metrics = engine.next(engine.initialize(), [1.0, 2.0, 6.0])
        assert (float(state), float(metrics)) == (10.0, 30.0)

    def test_a_computation_at_the_clients_is_no_process(self):
        @tff.federated_computation(tff.FederatedType(np.float32, tff.CLIENTS))
        def same(values):
            return values

        with pytest.raises(ValueError, match="placed at the server"):
            runtime.as_process(same)

    def test_a_value_of_another_shape_names_the_client(self):
        process = summing(lambda v: tf.reduce_sum(v), tff.TensorType(np.float32, [2]))
        with pytest.raises(ValueError, match=r"client 1 of the cohort has .* \[3\]"):
            total(process, [[1, 2], [1, 2, 3]], mode=GRAPH)


class TestDatasets:
    """Reductions of clients' datasets are loops over stacked elements."""

    def process(self):
        element = tff.StructWithPythonType(
            [("y", np.float32), ("x", tff.TensorType(np.float32, [None]))],
            collections.OrderedDict,
        )

        def work(dataset):
            # The order of elements counts, and padding would.
            def step(state, element):
                count = tf.cast(tf.size(element["x"]), tf.float32)
                return (
                    2 * state + element["y"] * tf.reduce_sum(element["x"] + 1) + count
                )

            return dataset.reduce(0.0, step)

        return summing(work, tff.SequenceType(element))

    def datasets(self, lengths):
        return [
            [
                collections.OrderedDict(
                    y=float(k + 1), x=np.arange(n, dtype=np.float32)
                )
                for k, n in enumerate(own)
            ]
            for own in lengths
        ]

    def by_hand(self, clients):
        result = 0.0
        for client in clients:
            state = 0.0
            for e in client:
                state = 2 * state + e["y"] * np.sum(e["x"] + 1) + len(e["x"])
            result += state
        return result

    @pytest.mark.parametrize("mode", [XLA, GRAPH, None], ids=str)
    @pytest.mark.parametrize(
        "lengths",
        [
            [[3, 3, 3, 2], [3, 3], [1]],
            [[], [4, 4]],
            [[1, 2, 3, 2, 1], [0, 2]],
            [[]],
            [],
        ],
        ids=str,
    )
    def test_batches_of_all_sizes(self, lengths, mode):
        clients = self.datasets(lengths)
        found = total(self.process(), clients, mode=mode, chunk_size=2)
        assert float(found) == pytest.approx(self.by_hand(clients), rel=1e-6)

    def test_a_dataset_is_the_same_as_a_list(self):
        clients = self.datasets([[3, 3, 1], [2]])
        signature = {"x": tf.TensorSpec([None]), "y": tf.TensorSpec([])}
        datasets = [
            tf.data.Dataset.from_generator(
                lambda own=own: iter([dict(e) for e in own]), output_signature=signature
            )
            for own in clients
        ]
        found = total(self.process(), datasets, mode=GRAPH)
        assert float(found) == pytest.approx(self.by_hand(clients), rel=1e-6)

    def test_a_dataset_of_another_type_names_the_client(self):
        with pytest.raises(ValueError, match="client 0 of the cohort has a dataset of"):
            total(self.process(), [tf.data.Dataset.range(3)], mode=GRAPH)

    def test_equal_computations_on_elements_of_other_shapes(self):
        """Their graphs are equal, but one of them needs the sizes of elements."""

        def process(shape):
            def work(dataset):
                return dataset.reduce(0.0, lambda s, e: s + tf.reduce_mean(e))

            return summing(work, tff.SequenceType(tff.TensorType(np.float32, shape)))

        assert total(process([2]), [[[1, 3], [5, 7]]], mode=GRAPH) == 8.0
        assert total(process([None]), [[[1, 3], [5]], [[9, 9, 9]]], mode=GRAPH) == 16.0

    def test_strings_are_not_compiled(self):
        def work(dataset):
            return dataset.reduce(
                0.0, lambda s, word: s + tf.cast(tf.strings.length(word), tf.float32)
            )

        process = summing(work, tff.SequenceType(np.str_))
        with pytest.raises(runtime.UnsupportedProcess, match="XLA"):
            runtime.in_process(process, mode=XLA)
        clients = [["a", "bcd"], [], tf.data.Dataset.from_tensor_slices(["ef"])]
        assert total(process, clients) == 6.0

    @pytest.mark.slow
    def test_a_dataset_that_is_changed_is_handed_over(self):
        def work(dataset):
            return dataset.batch(2).reduce(
                0.0, lambda s, batch: s * tf.reduce_sum(batch)
            )

        process = summing(work, tff.SequenceType(np.float32))
        explanation = runtime.explain(process)
        assert explanation.runtime == "tff_local"
        assert "BatchDataset" in explanation.reason
        assert total(process, [[1.0, 2.0, 3.0]]) == 0.0


def test_the_explanation_reads_well():
    process = TestDatasets().process()
    text = str(runtime.explain(process))
    assert text.splitlines()[0].startswith("runtime: in_process (")
    assert "clients' data: datasets, read into tensors once a round" in text
    assert "clients: folded, xla; folded, graph (the first round finds" in text
    assert (
        "work: interpreted: variables are values of the graph (ReduceDataset)" in text
    )
    random = summing(lambda v: tf.random.normal([]) + v, tff.TensorType(np.float32))
    assert "not compiled by XLA: work has the operation RandomStandardNormal" in str(
        runtime.explain(random)
    )


class TestFaultsThatAreNotInAClientsComputation:
    """One line says whose fault it is."""

    @pytest.fixture(scope="class")
    def process(self):
        @tff.tensorflow.computation(tff.SequenceType(np.float32))
        def total_of(dataset):
            return dataset.reduce(0.0, lambda total, value: total + value)

        @tff.tensorflow.computation(np.float32, np.float32)
        def added(state, total):
            low = tf.debugging.assert_less(total, 8.0, message="a sum too large")
            with tf.control_dependencies([low]):
                return state + total

        @tff.federated_computation
        def initialize():
            return tff.federated_value(np.float32(0), tff.SERVER)

        @tff.federated_computation(
            initialize.type_signature.result,
            tff.FederatedType(tff.SequenceType(np.float32), tff.CLIENTS),
        )
        def next_round(state, datasets):
            total = tff.federated_sum(tff.federated_map(total_of, datasets))
            return tff.federated_map(added, (state, total)), total

        return tff.templates.IterativeProcess(initialize, next_round)

    @pytest.mark.parametrize(
        ("dataset", "error", "match"),
        [
            (
                tf.data.Dataset.from_tensor_slices([5.0, 4.0]),
                UserError,
                "the server's computation: .*a sum too large",
            ),
            (
                tf.data.Dataset.from_tensor_slices([0.0]).map(
                    lambda x: tf.debugging.check_numerics(1 / x, "bad file")
                ),
                UserError,
                r"client 1 of the cohort: reading its dataset failed \(bad file",
            ),
            (
                tf.data.Dataset.from_tensors(1.0).repeat(),
                ValueError,
                "client 1 of the cohort has a dataset without an end",
            ),
        ],
    )
    def test_one_line(self, process, dataset, error, match):
        first = tf.data.Dataset.from_tensor_slices([1.0])
        engine = runtime.in_process(process)
        with engine, pytest.raises(error, match=match) as caught:
            engine.next(engine.initialize(), [first, dataset])
        assert "\n" not in str(caught.value)
