"""Every kind of leaf and of nest survives a checkpoint, bit by bit."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any, NamedTuple

import attrs
import numpy as np
import pytest

from tfl_research.errors import UserError
from tfl_research.storage import Checkpoint, CheckpointStore, leaves, nest

KEY = b"a key"


class Pair(NamedTuple):
    first: Any
    second: Any


@attrs.define
class Attrs:
    own: Any
    _hidden: Any


@dataclasses.dataclass
class Data:
    here: Any


def saved_and_loaded(folder, state, template=None, **options):
    CheckpointStore(folder, key=KEY).save(Checkpoint(3, state, None, {}))
    store = CheckpointStore(folder, key=KEY)
    loaded = store.load_latest(state if template is None else template, **options)
    return loaded.state


def assert_same_leaf(one, other):
    assert type(one) is type(other)
    one, other = np.asarray(one), np.asarray(other)
    assert one.dtype == other.dtype
    np.testing.assert_array_equal(one, other)


LEAVES = {
    "text": "ε and δ",
    "empty text": "",
    "bytes": b"\x00\xff with zeros at the end\x00\x00",
    "python numbers": [True, 3, 2.5, 1 + 2j],
    "numpy scalars": [np.int64(2**62), np.float16(0.1), np.bool_(True), np.uint8(7)],
    "object array": np.array([b"a", b"", b"longer\x00"], object),
    "array of texts": np.array([["é", "longer"]], object),
    "empty object array": np.zeros((0, 3), object),
    "fixed bytes": np.array([b"ab", b"c"]),
    "fixed text": np.array(["ab", "c"]),
    "bool": np.array([True, False]),
    "int64": np.array([-(2**63), 2**63 - 1]),
    "uint64": np.array([2**64 - 1], np.uint64),
    "float16": np.array([0.1, np.inf], np.float16),
    "float64 with NaN": np.array([np.nan, -0.0, 5e-324]),
    "complex64": np.array([1 + 2j], np.complex64),
    "empty": np.zeros((0, 4), np.float32),
}


@pytest.mark.parametrize("name", LEAVES)
def test_a_leaf(name, tmp_path):
    state = {"leaf": LEAVES[name]}
    loaded = saved_and_loaded(tmp_path, state)
    pairs = zip(nest.flatten(state), nest.flatten(loaded))
    for (path, one), (path_loaded, other) in pairs:
        assert path == path_loaded
        assert_same_leaf(one, other)


def test_texts_may_change_their_lengths(tmp_path):
    later = {"words": np.array([b"a", b"much longer than before"]), "one": "long"}
    first = {"words": np.array([b"a", b"b"]), "one": ""}
    loaded = saved_and_loaded(tmp_path, later, first)
    assert loaded["words"].tolist() == later["words"].tolist()
    assert loaded["one"] == "long"


def test_tensors_of_every_type(tmp_path):
    tf = pytest.importorskip("tensorflow")
    state = {
        "texts": tf.constant([["a", "b\0"]]),
        "text": tf.constant(b"x\0"),
        "none": tf.constant([], tf.string),
        "bfloat16": tf.constant([0.1, 3e38], tf.bfloat16),
        "one bfloat16": tf.constant(0.1, tf.bfloat16),
        "float16": tf.constant([0.1], tf.float16),
        "bool": tf.constant(True),
        "int8": tf.constant([-128], tf.int8),
        "complex128": tf.constant([1 + 1j], tf.complex128),
    }
    loaded = saved_and_loaded(tmp_path, state)
    for name, tensor in state.items():
        assert loaded[name].dtype == tensor.dtype, name
        assert loaded[name].shape == tensor.shape, name
        np.testing.assert_array_equal(loaded[name].numpy(), tensor.numpy())
    assert nest.first_non_finite(state) is None
    assert nest.equal(nest.copied(state), state)


def test_nests_of_every_kind(tmp_path):
    one = np.float32(1)
    state = Pair(
        [Attrs({"a": one, 3: (one, None, ())}, Data([one, {}]))],
        collections.OrderedDict(z=one, a=Pair(one, [])),
    )
    loaded = saved_and_loaded(tmp_path, state)
    assert loaded == state
    assert list(loaded.second) == ["z", "a"]
    assert type(loaded.first[0]) is Attrs
    assert loaded.first[0]._hidden.here == [one, {}]


def test_a_struct_of_tff(tmp_path):
    tff = pytest.importorskip("tensorflow_federated")
    inner = tff.structure.Struct([(None, np.int32(2)), (None, b"text")])
    state = tff.structure.Struct([("count", np.int32(1)), ("inner", inner)])
    loaded = saved_and_loaded(tmp_path, state)
    assert loaded == state
    paths = [path for path, _ in nest.flatten(state)]
    assert paths == [".count", ".inner[0]", ".inner[1]"]


def test_a_shape_that_the_type_leaves_open(tmp_path):
    later, first = {"seen": np.arange(5)}, {"seen": np.zeros(0, np.int64)}
    with pytest.raises(UserError, match=r"its state\['seen'\] is <i8 \[5\]"):
        saved_and_loaded(tmp_path, later, first)
    loaded = saved_and_loaded(tmp_path, later, first, any_shape=["['seen']"])
    np.testing.assert_array_equal(loaded["seen"], np.arange(5))


def test_another_kind_is_refused(tmp_path):
    for later, first in ((b"text", np.float32(1)), (np.float32(1), "text")):
        with pytest.raises(UserError, match="does not fit this run's process"):
            saved_and_loaded(tmp_path, {"leaf": later}, {"leaf": first})


def test_an_edited_text_breaks_the_seal(tmp_path):
    path = CheckpointStore(tmp_path, key=KEY).save(
        Checkpoint(1, {"leaf": "original"}, None, {})
    )
    path.write_bytes(path.read_bytes().replace(b"original", b"replaced"))
    store = CheckpointStore(tmp_path, key=KEY)
    with pytest.warns(UserWarning, match="is damaged"):
        assert store.load_latest({"leaf": "original"}) is None


def test_texts_of_earlier_versions():
    described = [
        {"path": "", "kind": "array", "dtype": "|S2", "shape": [2], "bytes": 4}
    ]
    template = np.array([b"xy", b"z"])
    loaded, rest = leaves.decode(described, memoryview(b"abc\0"), template)
    assert loaded.tolist() == [b"ab", b"c"]
    assert not rest


def test_an_object_is_no_leaf(tmp_path):
    with pytest.raises(ValueError, match=r"state\['leaf'\] is a object; expected"):
        saved_and_loaded(tmp_path, {"leaf": object()})
