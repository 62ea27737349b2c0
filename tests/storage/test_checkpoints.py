"""Checkpoints: exact leaves, damaged files, states that do not fit."""

from __future__ import annotations

import collections
import dataclasses
import stat
from typing import Any

import attrs
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.errors import UserError
from tfl_research.storage import Checkpoint, CheckpointStore, nest


@dataclasses.dataclass
class Counters:
    rounds: int
    rate: float


@attrs.define
class Query:
    clip: Any
    _hidden: Any


def learning_state() -> Any:
    weights = tff.learning.models.ModelWeights(
        [np.arange(6, dtype=np.float32).reshape(2, 3), np.float32(0.1)], []
    )
    return tff.learning.templates.LearningAlgorithmState(
        weights,
        (),
        np.int32(4),
        collections.OrderedDict(
            query=Query(tf.constant([1.5, -0.0], tf.float64), None),
            counters=Counters(3, 1 / 3),
            flags=[True, np.array([], np.int64), np.array(b"ab")],
            half=tf.constant([1.0, 3.0], tf.bfloat16),
            seed=np.array([2**63 - 1, -1], np.int64),
        ),
        (np.array(np.nan, np.float32), None),
    )


def saved(tmp_path, state=None, best=None, number=4):
    store = CheckpointStore(tmp_path / "checkpoints")
    state = learning_state() if state is None else state
    store.save(Checkpoint(number, state, best, {"a": [1, "x", None]}))
    return store


def test_restores_every_leaf_as_it_was(tmp_path):
    state = learning_state()
    store = saved(tmp_path, state, best=state.global_model_weights)
    template = learning_state()
    found = store.load_latest(template, template.global_model_weights)
    assert found.round_number == 4
    assert found.progress == {"a": [1, "x", None]}
    assert type(found.state) is tff.learning.templates.LearningAlgorithmState
    assert type(found.best) is tff.learning.models.ModelWeights
    pairs = list(zip(nest.flatten(state), nest.flatten(found.state)))
    assert len(pairs) == 12
    for (path, before), (same_path, after) in pairs:
        assert path == same_path
        assert type(before) is type(after)
        one, other = np.asarray(before), np.asarray(after)
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tobytes() == other.tobytes()
    assert isinstance(found.state.aggregator["counters"], Counters)
    assert found.state.aggregator["query"]._hidden is None
    found.state.global_model_weights.trainable[0][0, 0] = 5.0  # writable


def test_a_fresh_process_need_not_give_the_same_leaf_types(tmp_path):
    store = saved(tmp_path, {"round": np.int32(3), "w": np.float32([1, 2])})
    found = store.load_latest({"round": 0, "w": tf.zeros(2)})
    assert type(found.state["round"]) is np.int32
    assert type(found.state["w"]) is np.ndarray


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ({"w": np.zeros(3, np.float32)}, r"state\['w'\] is <f4 \[2\], expected <f4"),
        ({"w": np.zeros(2)}, r"is <f4 \[2\], expected <f8 \[2\]"),
        ({"w": np.zeros(2, np.float32), "b": 0.0}, r"it has no state\['b'\]"),
        ({}, r"it has a state\['w'\], which the process has not"),
        ([np.zeros(2, np.float32)], r"it has no state\[0\]"),
    ],
)
def test_a_state_that_does_not_fit(tmp_path, template, problem):
    store = saved(tmp_path, {"w": np.zeros(2, np.float32)})
    with pytest.raises(UserError, match=problem):
        store.load_latest(template)


def test_what_cannot_be_stored_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"state\['f'\] is a object"):
        saved(tmp_path, {"f": object()})


def test_owner_only_and_the_newest_are_kept(tmp_path):
    store = CheckpointStore(tmp_path / "checkpoints", keep=2)
    for number in (1, 2, 3):
        path = store.save(Checkpoint(number, {"n": number}, None, {}))
    assert store.rounds() == [3, 2]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    assert store.load_latest({"n": 0}).state == {"n": 3}
    with pytest.raises(ValueError, match="at least 1, got 0"):
        CheckpointStore(tmp_path, keep=0)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other", "header"])
def test_damaged_versions_are_skipped(tmp_path, damage):
    store = saved(tmp_path, {"n": 1}, number=1)
    path = store.save(Checkpoint(2, {"n": 2}, None, {}))
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[-40] ^= 1
    header = bytearray(content)
    header[9] ^= 1
    path.write_bytes(
        {
            "cut": content[:-1],
            "flip": bytes(flipped),
            "header": bytes(header),
            "empty": b"",
            "other": b"x" * 100,
        }[damage]
    )
    with pytest.warns(UserWarning, match=r"round-00000002.ckpt is damaged"):
        assert store.load_latest({"n": 0}).state == {"n": 1}
    # The next version takes its place, and leftovers of later rounds go.
    store.save(Checkpoint(3, {"n": 3}, None, {}))
    store.save(Checkpoint(1, {"n": 1}, None, {}))
    assert store.rounds() == [1]


def test_half_written_versions_are_cleared_away(tmp_path):
    store = saved(tmp_path, {"n": 1})
    leftover = store.folder / "round-00000009.ckpt.tmp"
    leftover.write_bytes(b"half")
    store = CheckpointStore(store.folder)
    assert not leftover.exists()
    assert store.rounds() == [4]


def test_none_without_any(tmp_path):
    assert CheckpointStore(tmp_path / "new").load_latest({"n": 0}) is None
