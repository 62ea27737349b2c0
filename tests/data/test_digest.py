"""The fingerprint of client data."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pytest

from tfl_research import data
from tfl_research.data import ClientData, content_digest

_X = np.arange(6, dtype=np.float32).reshape(3, 2)
_Y = np.array([0, 1, 0], np.int32)


def _data(**clients):
    return ClientData.from_arrays(
        {n: {"x": x, "y": y} for n, (x, y) in clients.items()}
    )


def test_the_bytes_by_hand():
    expected = hashlib.sha256(
        b'["train", 1]\n["a", "x", "<f4", 3, 2]\n'
        + _X.tobytes()
        + b'["a", "y", "<i4", 3]\n'
        + _Y.tobytes()
        + b'["held_out", null]\n'
    ).hexdigest()
    train = _data(a=(_X, _Y))
    assert content_digest({"train": train, "held_out": None}) == expected


def test_every_part_of_the_content_counts():
    one, other = (_X, _Y), (_X + 1, _Y)
    digests = [
        content_digest(splits)
        for splits in (
            {"train": _data(a=one, b=other)},
            {"train": _data(b=other, a=one)},
            {"train": _data(a=other, b=one)},
            {"train": _data(a=one, c=other)},
            {"test": _data(a=one, b=other)},
            {"train": _data(a=one, b=other), "test": None},
            {"train": _data(a=one)},
            {"train": _data(a=(_X.astype(np.float64), _Y))},
            {"train": _data(a=(_X.reshape(3, 2, 1), _Y))},
            {"train": _data(a=(_X, 1 - _Y))},
            {"train": _data(a=(_X[:0], _Y[:0]))},
        )
    ]
    assert len(set(digests)) == len(digests)


def test_memory_layout_byte_order_and_batching_play_no_part():
    expected = content_digest({"train": _data(a=(_X, _Y))})
    assert content_digest({"train": _data(a=(np.asfortranarray(_X), _Y))}) == expected
    swapped = (_X.astype(">f4"), _Y.astype(">i4"))
    assert content_digest({"train": _data(a=swapped)}) == expected
    batched = _data(a=(_X, _Y)).with_batching(data.Batching(1))
    assert content_digest({"train": batched}) == expected


def test_objects_are_refused():
    with pytest.raises(ValueError, match="client 'a': y holds Python objects"):
        content_digest({"train": _data(a=(_X, np.array([1, "b", None], object)))})


def test_a_loader_must_give_the_same_examples_again():
    generator = np.random.default_rng(0)

    def load(client_id):
        return {"x": _X + generator.normal(), "y": _Y}

    steady = _data(a=(_X, _Y))
    with pytest.raises(ValueError, match="'a': loading the examples twice gave two"):
        content_digest({"train": dataclasses.replace(steady, load=load)})
