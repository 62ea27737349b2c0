"""Lossy codes against NumPy, their sizes, and error feedback over rounds."""

import struct

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import clients, data, processes, runtime, stateless_random

SEED = tf.constant([3, 4], tf.int32)
SHAPES = [(6, 5), (5,), (2, 3, 4)]


def update(seed=0):
    generator = np.random.default_rng(seed)
    return [generator.normal(size=s).astype(np.float32) for s in SHAPES]


def specs():
    return [tf.TensorSpec(s, tf.float32) for s in SHAPES]


def decoded(compressor, value, seed=SEED):
    value = [tf.constant(v) for v in value]
    return [d.numpy() for d in clients.decoded(compressor, value, seed)]


def decoded_often(compressor, value, times):
    """Decoded updates under as many seeds, each a list of arrays."""
    code = tf.function(lambda seed: clients.decoded(compressor, value, seed))
    value = [tf.constant(v) for v in value]
    seeds = [stateless_random.fold_in(SEED, i) for i in range(times)]
    return [[d.numpy() for d in code(seed)] for seed in seeds]


def flat(tensors):
    return np.concatenate([np.ravel(t) for t in tensors])


def test_top_k_keeps_the_largest():
    value = flat(update())
    kept = flat(decoded(clients.TopK(0.1), update()))
    wanted = np.zeros_like(value)
    largest = np.argsort(-np.abs(value), kind="stable")[:6]  # of 59, rounded up
    wanted[largest] = value[largest]
    np.testing.assert_array_equal(kept, wanted)
    # What is sent can be packed in as many bytes as are said.
    sent = b"".join(struct.pack("<if", i, value[i]) for i in largest)
    assert clients.encoded_bytes(clients.TopK(0.1), specs()) == len(sent)


def test_seven_percent_of_a_hundred_are_seven():
    # With an index each; with a seed of two numbers.
    for code, length in ((clients.TopK(0.07), 7 * 8), (clients.RandomK(0.07), 36)):
        kept = decoded(code, [np.ones([100], np.float32)])
        assert np.count_nonzero(kept[0]) == 7
        specs = [tf.TensorSpec([100], tf.float32)]
        assert clients.encoded_bytes(code, specs) == length


def test_top_k_of_ties_keeps_exactly_k():
    kept = decoded(clients.TopK(0.5), [np.ones([4], np.float32)])
    assert kept[0].tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("rescale", [True, False])
def test_random_k_keeps_k_and_is_unbiased_where_it_says_so(rescale):
    code, value = clients.RandomK(0.25, rescale), flat(update())
    runs = np.array([flat(run) for run in decoded_often(code, update(), 400)])
    assert set(np.count_nonzero(runs, axis=1)) == {15}  # of 59, rounded up
    scale = 59 / 15 if rescale else 1.0
    where = runs != 0
    np.testing.assert_allclose(
        runs[where], scale * np.broadcast_to(value, runs.shape)[where], rtol=1e-6
    )
    share = scale * 15 / 59
    error = np.abs(runs.mean(0) - share * value) / (np.abs(value) * scale)
    # 59 means of 400 coins: five standard deviations are beyond 4e-5 in all.
    assert error.max() < 5 * np.sqrt(15 / 59 * 44 / 59 / 400)
    assert code.is_unbiased == rescale
    assert clients.encoded_bytes(code, specs()) == 15 * 4 + 8


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_quantisation_rounds_to_neighbouring_levels_without_bias(bits):
    code, value = clients.Quantized(bits), update()
    levels = 2 ** (bits - 1) - 1
    runs = decoded_often(code, value, 300)
    for index, tensor in enumerate(value):
        step = np.abs(tensor).max() / levels
        found = np.array([run[index] for run in runs])
        multiples = found / step
        np.testing.assert_allclose(multiples, np.round(multiples), atol=1e-3)
        assert np.abs(found - tensor).max() <= step * (1 + 1e-4)
        spread = step * 0.5 / np.sqrt(len(runs))
        assert np.abs(found.mean(0) - tensor).max() < 5 * spread
    packed = sum(-(-int(np.prod(s)) * bits // 8) + 4 for s in SHAPES)
    assert clients.encoded_bytes(code, specs()) == packed


def test_quantisation_of_zeros_is_zero():
    assert flat(decoded(clients.Quantized(4), [np.zeros([3], np.float32)])).sum() == 0


def test_low_rank_is_the_projection_on_the_drawn_columns():
    value = update()
    code = clients.LowRank(1)
    found = decoded(code, value)
    starts = stateless_random.normals([(5, 1), (4, 1)], SEED)
    for index, shape, start in ((0, (6, 5), starts[0]), (2, (6, 4), starts[1])):
        matrix = value[index].reshape(shape).astype(np.float64)
        basis = np.linalg.qr(matrix @ start)[0]
        wanted = (basis @ basis.T @ matrix).reshape(value[index].shape)
        np.testing.assert_allclose(found[index], wanted, atol=1e-5)
    np.testing.assert_array_equal(found[1], value[1])
    assert clients.encoded_bytes(code, specs()) == 4 * (11 + 5 + 10)


def test_low_rank_is_exact_for_a_matrix_of_that_rank():
    generator = np.random.default_rng(1)
    matrix = (generator.normal(size=(8, 2)) @ generator.normal(size=(2, 9))).astype(
        np.float32
    )
    for rank in (2, 3):
        found = decoded(clients.LowRank(rank), [matrix])[0]
        np.testing.assert_allclose(found, matrix, atol=5e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: clients.TopK(0.0), "above 0 and at most 1, got 0"),
        (lambda: clients.RandomK(1.5), "above 0 and at most 1, got 1.5"),
        (lambda: clients.Quantized(1), "from 2 to 16, got 1"),
        (lambda: clients.LowRank(0), "at least 1, got 0"),
    ],
)
def test_wrong_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()


class TestErrorFeedback:
    @pytest.fixture(scope="class")
    def task(self, make_linear_task, two_clients):
        return make_linear_task(
            two_clients, data.Batching(batch_size=2, epochs=1, shuffle=False)
        )

    @pytest.fixture(scope="class")
    def process(self, task):
        base = clients.local_training(optimizer=tff.learning.optimizers.build_sgdm(0.1))
        return processes.build_fed_avg(
            task,
            client_work=clients.CompressedWork(base, clients.TopK(0.3), True),
            max_cohort_size=2,
        )

    def test_what_is_lost_comes_later(self, task, process):
        plain = processes.build_fed_avg(
            task, client_optimizer=tff.learning.optimizers.build_sgdm(0.1)
        )
        mode = runtime.Mode("folded", "graph")
        ids = task.train.client_ids
        lost = np.zeros([2, 3], np.float32)
        with (
            runtime.in_process(process, mode=mode) as coded,
            runtime.in_process(plain, mode=mode) as exact,
        ):
            state = coded.initialize()
            for round_number in range(1, 4):
                cohort = task.train.cohort(ids, seed=0, round_number=round_number)
                start = state
                handed = cohort.with_members(
                    client_state=lost, position=np.arange(2, dtype=np.int32)
                )
                state, metrics = coded.next(start, handed)
                sizes = np.array([len(task.train.load(i)["y"]) for i in ids])
                mean = np.zeros(3)
                for row, size in enumerate(sizes):
                    # The server's step for one client alone is its update.
                    alone, _ = exact.next(
                        _with_weights(exact.initialize(), start), cohort.select([row])
                    )
                    trained = flat(alone.global_model_weights.trainable)
                    wanted = trained - flat(start.global_model_weights.trainable)
                    wanted = wanted + lost[row]
                    sent = np.zeros(3)
                    place = np.argmax(np.abs(wanted))
                    sent[place] = wanted[place]
                    lost[row] = wanted - sent
                    mean += size * sent / sizes.sum()
                np.testing.assert_allclose(
                    np.asarray(metrics["client_states"]), lost, atol=1e-6
                )
                moved = flat(state.global_model_weights.trainable) - flat(
                    start.global_model_weights.trainable
                )
                np.testing.assert_allclose(moved, mean, atol=1e-6)
        assert process.upload_bytes == 8  # one value and its index
        assert process.download_bytes == 12

    def test_is_refused_over_clients_with_states(self, task):
        stateful = clients.CompressedWork(
            clients.local_training(optimizer=tff.learning.optimizers.build_sgdm(0.1)),
            clients.TopK(0.5),
            True,
        )
        twice = clients.CompressedWork(stateful, clients.TopK(0.5), True)
        with pytest.raises(ValueError, match="keep a state of their own"):
            processes.build_fed_avg(task, client_work=twice, max_cohort_size=2)
        with pytest.raises(ValueError, match="keep a state of their own"):
            twice.build(task.functional_model(), task.build_objective())


def _with_weights(state, other):
    return tff.learning.templates.LearningAlgorithmState(
        global_model_weights=other.global_model_weights,
        distributor=state.distributor,
        client_work=state.client_work,
        aggregator=state.aggregator,
        finalizer=state.finalizer,
    )
