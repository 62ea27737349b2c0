"""The socket where an engine's job hands weights to a site's process."""

import io
import json
import pathlib
import sys
import threading

import numpy as np
import pytest

from tfl_research import errors
from tfl_research.federation.engines import environments, training_socket
from tfl_research.federation.engines.training_socket import Trained
from tfl_research.federation.wire.handler import Refused

sys.path.insert(0, str(pathlib.Path(environments.__file__).with_name("relays")))
import tfl_relay_frames as frames
import tfl_training


class AddsRound:
    """Adds the round's number to every weight."""

    def train(self, weights, round_number):
        if len(weights) != 2:
            raise Refused("this model has two arrays")
        if round_number == 99:
            raise errors.UserError("row 7: 'Smith' is no number")
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


def test_what_may_quote_data_stays_at_the_site(path):
    weights = [np.zeros(2, np.float32)] * 2
    with pytest.raises(RuntimeError, match="its own data or computation") as raised:
        tfl_training.ask(path, "train", weights, round=99)
    assert "Smith" not in str(raised.value)
    # The site goes on.
    assert tfl_training.ask(path, "train", weights, round=1)[1]["examples"] == 7


def _archive(compressed, elements=200):
    header = {"kind": "train", "round": 1}
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    arrays = {"header": text, "0000": np.zeros(elements), "0001": np.zeros(3)}
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
def test_a_site_survives_damaged_archives(path, compressed):
    whole, chance, refused = _archive(compressed), np.random.default_rng(0), 0
    for _ in range(300):
        frame = bytearray(whole)
        for place in chance.integers(len(frame), size=chance.integers(1, 4)):
            frame[place] = chance.integers(256)
        with np.load(io.BytesIO(frames.ask(path, bytes(frame)))) as archive:
            refused += b"error" in archive["header"].tobytes()
    assert refused > 100


def test_an_archive_may_not_grow(path):
    frame = _archive(True, elements=10_000_000)
    assert len(frame) < 200_000
    with np.load(io.BytesIO(frames.ask(path, frame))) as archive:
        assert b"it is compressed" in archive["header"].tobytes()


def test_pickles_and_garbage_are_refused(path):
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
