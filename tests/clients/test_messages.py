"""What clients send as bytes: how much it is, and that the server can read it."""

import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import aggregators, clients, processes, stateless_random, tasks
from tfl_research.clients import compressed, messages

SEED = tf.constant([3, 4], tf.int32)
CODES = {
    "top_k": (clients.TopK(0.01), True),
    "random_k": (clients.RandomK(0.05, rescale=False), True),
    "random_k, rescaled": (clients.RandomK(0.05), False),
    "quantize": (clients.Quantized(4), False),
    "low_rank": (clients.LowRank(4), True),
}
# Of the model of 784-128-10 units, by hand.
BYTES = {
    "top_k": 1018 * (4 + 4),  # of 101,770
    "random_k": 5089 * 4 + 8,
    "random_k, rescaled": 5089 * 4 + 8,
    "quantize": 101_770 // 2 + 4 * 4,
    "low_rank": 4 * (4 * (784 + 128) + 128 + 4 * (128 + 10) + 10),
}


@pytest.mark.parametrize("bits", [1, 3, 8, 13, 31, 32])
def test_every_entry_arrives(bits):
    generator = np.random.default_rng(bits)
    low, high = (0, 2**bits) if bits < 32 else (-(2**31), 2**31)
    message = [
        generator.integers(low, high, size=(3, 7)).astype(np.int32),
        generator.normal(size=5).astype(np.float32),
        np.float32(math.nan),
        np.array([high - 1], np.int64).astype(np.int32),
    ]
    layout = [tf.TensorSpec(np.shape(m), m.dtype) for m in message]
    sent = messages.to_bytes(message, bits)
    assert len(sent) == -(-21 * bits // 8) + 20 + 4 + -(-bits // 8)
    for found, wanted in zip(messages.from_bytes(sent, layout, bits), message):
        np.testing.assert_array_equal(found, wanted)
        assert found.dtype == wanted.dtype
    for wrong in (sent[:-1], sent + b"0"):
        with pytest.raises(ValueError, match="the message"):
            messages.from_bytes(wrong, layout, bits)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="from 0 to 8 do not fit into 3 bits"):
        messages.to_bytes([np.array([0, 8], np.int32)], 3)
    with pytest.raises(ValueError, match="float32 and int32 tensors, got float64"):
        messages.to_bytes([np.zeros(2)])


@pytest.fixture(scope="module")
def digits():
    return tasks.get("mnist", partition="dirichlet", num_clients=50)


@pytest.fixture(scope="module")
def model(digits):
    return digits.functional_model()


@pytest.fixture(scope="module")
def base():
    return clients.local_training(optimizer=tff.learning.optimizers.build_sgdm(0.1))


@pytest.fixture(scope="module")
def client(digits):
    """A client's local steps in a round, and the server's model."""
    cohort = digits.train.cohort(digits.train.client_ids[:1], seed=0, round_number=3)
    return {name: tf.constant(v) for name, v in cohort.batches(0).items()}


@pytest.fixture(scope="module")
def trained(base, digits, model, client):
    start = [tf.constant(w) for w in model.initial_weights]
    work = base.build(model, digits.build_objective())
    return work(start, client, tf.constant(3))


@pytest.mark.parametrize("name", CODES)
def test_the_server_reads_a_clients_update_from_the_bytes_that_are_counted(
    name, base, digits, model, client, trained
):
    code, feeds_back = CODES[name]
    work = clients.CompressedWork(base, code, feeds_back)
    count = sum(int(np.prod(s.shape)) for s in model.weight_specs)
    lost = np.random.default_rng(0).normal(size=count).astype(np.float32) * 0.01
    batches = dict(client, client_state=tf.constant(lost)) if feeds_back else client
    start = [tf.constant(w) for w in model.initial_weights]
    result = work.build(model, digits.build_objective())(start, batches, tf.constant(3))

    # The client, by hand: its update and what it fed back, as bytes.
    update, place = [], 0
    for tensor in trained.update:
        size = int(np.prod(tensor.shape))
        own = lost[place : place + size].reshape(tensor.shape)
        update.append(tensor + own if feeds_back else tensor)
        place += size
    seed = stateless_random.fold_in(client["seed"], compressed._STREAM)
    message = [part.numpy() for part in code.encode(update, seed)]
    sent = messages.to_bytes(message, code.integer_bits)
    assert len(sent) == work.encoded_bytes(model) == BYTES[name]

    # The server, of these bytes alone.
    layout = [tf.TensorSpec(part.shape, part.dtype) for part in message]
    received = messages.from_bytes(sent, layout, code.integer_bits)
    read = code.decode([tf.constant(r) for r in received], model.weight_specs)
    for ours, theirs in zip(read, result.update):
        np.testing.assert_allclose(ours, theirs, atol=2e-6)
    assert np.abs(read[0]).max() > 0


def test_the_process_says_what_its_clients_send(base, digits):
    work = clients.CompressedWork(base, clients.Quantized(4))
    process = processes.build_fed_avg(digits, client_work=work)
    assert process.upload_bytes == BYTES["quantize"]
    assert process.download_bytes == 4 * 101_770


def test_the_process_says_what_tffs_own_code_sends(base, digits):
    process = processes.build_fed_avg(
        digits, client_work=base, aggregator=aggregators.compression()
    )
    # The kernel of 784 x 128 in 8 bits, seven entries in two integers of 32 bits, its
    # smallest and its largest entry; the other 1,418 weights as they are.
    assert process.upload_bytes == 784 * 128 // 7 * 8 + 8 + 4 * 1418


class OneEntryDiverged(clients.ClientWork):
    """Client work of an update of ones, of which one entry is not finite."""

    def __init__(self, value):
        self.value = value

    def build(self, model, objective):
        def client_function(weights, batches, round_number):
            update = [tf.ones(w.shape) for w in weights]
            place = [[0, 0]]
            update[0] = tf.tensor_scatter_nd_update(update[0], place, [self.value])
            return clients.ClientResult(
                update, batches["num_examples"], {"loss": tf.constant(0.0)}
            )

        return client_function


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_code_does_not_hide_that_a_client_diverged(name, value, model):
    code, feeds_back = CODES[name]
    work = clients.CompressedWork(OneEntryDiverged(value), code, feeds_back)
    function = work.build(model, None)
    start = [tf.constant(w) for w in model.initial_weights]
    batches = {"seed": SEED, "client_state": tf.zeros([101_770])}
    result = function(start, {**batches, "num_examples": tf.constant(5)}, 3)
    assert not np.isfinite(result.update[0]).any()
    # One without examples sends zeros all the same.
    result = function(start, {**batches, "num_examples": tf.constant(0)}, 3)
    assert not np.any(result.update[0])
