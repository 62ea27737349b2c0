"""The socket where an engine's job hands weights to a site's process."""

import pathlib
import sys
import threading

import numpy as np
import pytest

from tfl_research import errors
from tfl_research.federation.engines import environments, training_socket
from tfl_research.federation.engines.training_socket import Trained

sys.path.insert(0, str(pathlib.Path(environments.__file__).with_name("relays")))
import tfl_relay_frames as frames
import tfl_training


class AddsRound:
    """Adds the round's number to every weight."""

    def train(self, weights, round_number):
        if len(weights) != 2:
            raise errors.UserError("this model has two arrays")
        return Trained([w + w.dtype.type(round_number) for w in weights], 7, {"a": 0.5})

    def evaluate(self, weights):
        return Trained([], 3, {"a": float(weights[0].sum())})


@pytest.fixture
def path(tmp_path):
    tmp_path.chmod(0o700)
    server = training_socket.TrainingServer(tmp_path / "t.sock", AddsRound(), str)
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield str(tmp_path / "t.sock")
    server.stop()
    thread.join(10)
    assert not thread.is_alive()


def test_weights_come_back_trained_in_their_types(path):
    weights = [np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros((), np.int64)]
    trained, header = tfl_training.ask(path, "train", weights, round=4)
    assert header == {"examples": 7, "metrics": {"a": 0.5}}
    np.testing.assert_array_equal(trained[0], weights[0] + 4)
    assert trained[0].dtype == np.float32
    assert trained[1].dtype == np.int64
    assert trained[1] == 4
    arrays, header = tfl_training.ask(path, "evaluate", weights, round=4)
    assert arrays == []
    assert header == {"examples": 3, "metrics": {"a": 15.0}}


@pytest.mark.parametrize(
    ("kind", "arrays", "number", "reason"),
    [
        ("train", 1, 1, "this model has two arrays"),
        ("train", 2, 0, "round 0: must be a whole number of at least 1"),
        ("predict", 2, 1, "'predict'; expected train or evaluate"),
    ],
)
def test_refusals_reach_the_engine(path, kind, arrays, number, reason):
    weights = [np.zeros(2, np.float32)] * arrays
    with pytest.raises(RuntimeError, match=reason):
        tfl_training.ask(path, kind, weights, round=number)


def test_pickles_and_garbage_are_refused(path):
    import io

    file = io.BytesIO()
    np.savez(file, header=np.array([{"kind": "train"}], dtype=object))
    for frame in (file.getvalue(), b"garbage", b""):
        reply = frames.ask(path, frame)
        with np.load(io.BytesIO(reply), allow_pickle=False) as archive:
            assert b"cannot be read" in archive["header"].tobytes()


def test_saved_weights_are_read_in_order(tmp_path):
    weights = [np.full(2, n, np.float32) for n in range(12)]
    training_socket.save_weights(tmp_path / "w.npz", weights)
    for read in (training_socket.load_weights, tfl_training.load):
        np.testing.assert_array_equal(read(tmp_path / "w.npz"), weights)
    (tmp_path / "w.npz").write_bytes(b"no")
    with pytest.raises(errors.UserError, match="does not hold a model"):
        training_socket.load_weights(tmp_path / "w.npz")
