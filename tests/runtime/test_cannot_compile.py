"""What XLA cannot compile, told from what a client's values do."""

import re
import signal

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import interrupts, runtime
from tfl_research.errors import UserError
from tfl_research.runtime import Mode
from tfl_research.runtime.compiler import xla
from tfl_research.runtime.compiler.chunks import Chunk
from tfl_research.runtime.kept_execution import Execution, KeptExecution
from tfl_research.runtime.rounds import failures
from tfl_research.runtime.rounds.separate import SeparateProcess

XLA, SEPARATE = Mode("folded", "xla"), Mode("separate", "xla")


@tff.tensorflow.computation(np.int32)
def looked_up(index):
    """10 or 20, eight times: the loop's tensor grows, which XLA cannot compile."""
    found = tf.gather([10.0, 20.0], index)
    (grown,) = tf.while_loop(
        lambda values: tf.size(values) < 8,
        lambda values: [tf.tile(values, [2])],
        [tf.reshape(found, [1])],
        shape_invariants=[tf.TensorShape([None])],
        name="growing",
    )
    return tf.reduce_sum(grown)


@pytest.fixture(scope="module")
def process():
    @tff.federated_computation
    def initialize():
        return tff.federated_value(0.0, tff.SERVER)

    @tff.federated_computation(
        tff.FederatedType(np.float32, tff.SERVER),
        tff.FederatedType(np.int32, tff.CLIENTS),
    )
    def next_round(state, indices):
        return state, tff.federated_sum(tff.federated_map(looked_up, indices))

    return tff.templates.IterativeProcess(initialize, next_round)


def test_a_mode_that_was_asked_for_is_refused_with_the_operation(process):
    refusal = pytest.raises(runtime.UnsupportedProcess)
    with (
        runtime.in_process(process, mode=XLA, parallel=1) as engine,
        refusal as refused,
    ):
        engine.next(engine.initialize(), [0, 1])
    line = str(refused.value)
    assert len(line.splitlines()) == 1
    assert re.match(
        r"mode folded, xla cannot execute this process: XLA cannot compile the "
        r"operation \S*growing of the clients' work \(Input and output shapes of loop "
        r"body do not match.*\); leave the mode out, or use",
        line,
    )
    assert "client 0" not in line


def test_the_measured_mode_is_another_one(process):
    with runtime.in_process(process) as engine:
        _, total = engine.next(engine.initialize(), [0, 1])
        assert engine.mode.compiler == "graph"
    assert float(total) == 8 * 10 + 8 * 20
    assert "folded, xla: cannot" in engine.choice_reason


def test_a_kept_choice_leaves_such_clients_to_tensorflow(process, tmp_path, caplog):
    """As where the first round's clients have shapes that XLA compiles."""
    path = tmp_path / "runtime.json"
    KeptExecution(path, b"").write(Execution(XLA, 1, "measured"))
    with runtime.in_process(process, choice_file=path, chunk_size=1) as engine:
        for indices, expected in (([0, 1, 1], 8 * 50), ([1], 8 * 20)):
            _, total = engine.next(engine.initialize(), indices)
            assert float(total) == expected
        assert engine.mode == XLA
    (line,) = [r for r in caplog.records if "XLA cannot compile" in r.message]
    assert line.levelname == "WARNING"


def test_a_site_leaves_such_clients_to_tensorflow(process, caplog):
    separate = SeparateProcess(process)
    assert separate.compiler == "xla"
    state = separate.state_leaves(separate.initialize())
    context = separate.clients.context(state)
    with runtime.in_process(process, mode=SEPARATE, parallel=1) as engine:
        _, expected = engine.next(engine.initialize(), [1, 1])
    chunk = Chunk([np.array([1], np.int32)], 1, ["c"])
    caplog.clear()
    reports = [separate.clients.report(context, chunk) for _ in range(2)]
    leaves = separate.clients.result(state, separate.clients.total(reports))
    _, total = separate.packed(leaves)
    assert float(total) == float(expected) == 2 * 8 * 20
    lines = [r for r in caplog.records if "XLA cannot compile" in r.message]
    assert len(lines) == 1


@pytest.mark.parametrize("clients", ["folded", "separate"])
def test_bad_values_are_the_clients(process, clients):
    """XLA fails before it sees them."""
    engine = runtime.in_process(process, mode=Mode(clients, "xla"), parallel=1)
    with engine, pytest.raises(UserError, match=r"client 1 .*= 7 is not") as found:
        engine.next(engine.initialize(), [0, 7])
    assert not isinstance(found.value, runtime.UnsupportedProcess)


def test_a_reason_without_an_operation_is_a_line_too():
    error = tf.errors.UnimplementedError(None, None, 'no such kernel\n\nFile "x"\n y')
    with pytest.raises(xla.CannotCompile) as found:
        xla.executed(lambda: _raise(error), lambda: [], _raise)
    expected = "XLA cannot compile the clients' work (no such kernel)"
    assert str(found.value) == expected


def _raise(error):
    raise error


def test_the_text_of_an_error_that_autograph_repeats():
    repeated = (
        'in user code:\n\n    File "a.py", line 1, in work\n\n    ValueError: bad'
    )
    assert xla.said_by(ValueError(repeated)) == "bad"
    assert xla.said_by(ValueError("bad: worse\nmore")) == "bad: worse"
    assert xla.said_by(ValueError("in user code:\n\n    bad")) == "in user code:"


def test_the_text_of_an_error_that_a_program_repeats():
    text = (
        "Graph execution error:\n\nDetected at node while defined at (most recent call "
        "last):\n<stack traces unavailable>\nInput 0 to node `{{node while/draw}}` must"
        ' be known\n\nStack trace for op definition: \nFile "a.py", line 1, in work\n'
    )
    error = tf.errors.InvalidArgumentError(None, None, text)
    assert xla.said_by(error) == "Input 0 to node `while/draw` must be known"
    bare = tf.errors.InvalidArgumentError(None, None, "Graph execution error:")
    assert xla.said_by(bare) == "Graph execution error:"


def test_what_cannot_be_vectorised_is_told_without_hundreds_of_lines(caplog):
    """TensorFlow raises the reason, and logs the whole program as well."""

    def step(index, values):
        return index + 1, values + tf.reduce_sum(tf.unique(values)[0])

    def looped(values):
        return tf.while_loop(lambda index, _: index < 3, step, (0, values))[1]

    with pytest.raises(ValueError, match="No pfor vectorization defined for Unique"):
        tf.vectorized_map(looped, tf.ones([3, 4]), fallback_to_while_loop=False)
    tf.get_logger().error("this is for users")
    assert [record.message for record in caplog.records] == ["this is for users"]


def test_no_client_is_named_for_the_error_of_a_signal():
    error = tf.errors.InvalidArgumentError(None, None, "REPLACED BY Interrupt")
    signals = interrupts.Signals()
    signals.number = signal.SIGTERM
    # Without programs: none is executed.
    with interrupts.raised_on_signals(signals), pytest.raises(interrupts.Interrupt):
        failures.named(None, [], Chunk([np.zeros([1])], 1, ["first"]), error)
