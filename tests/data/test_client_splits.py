"""Client data split into training, test and held-out clients."""

from __future__ import annotations

import numpy as np
import pytest

from tfl_research.data import Batching, ClientData, client_splits


def _clients(sizes):
    return ClientData.from_arrays(
        {
            f"c{i}": {
                "x": np.arange(n, dtype=np.float32)[:, None] + 100 * i,
                "y": np.arange(n, dtype=np.int32),
            }
            for i, n in enumerate(sizes)
        },
        Batching(batch_size=3),
    )


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_a_fraction_outside_its_range_is_refused(fraction):
    with pytest.raises(ValueError, match="test_fraction must be at least 0"):
        client_splits.split_each_client(_clients([2]), test_fraction=fraction, seed=0)


def test_clients_keep_their_rows_together_and_their_split_does_not_change():
    data = _clients([10, 1, 0])
    train, test = client_splits.split_each_client(data, test_fraction=0.3, seed=1)
    assert train.batching == data.batching
    for client_id, examples in data.items():
        both = [train.load(client_id), test.load(client_id)]
        assert all(len(half["x"]) == len(half["y"]) for half in both)
        x = np.concatenate([half["x"][:, 0] for half in both])
        assert sorted(x.tolist()) == examples["x"][:, 0].tolist()
        for half in both:
            assert np.array_equal(half["x"][:, 0] % 100, half["y"])
        assert np.array_equal(test.load(client_id)["y"], test.load(client_id)["y"])
    assert 0 < len(test.load("c0")["y"]) < 10
    other, _ = client_splits.split_each_client(data, test_fraction=0.3, seed=2)
    assert not np.array_equal(other.load("c0")["y"], train.load("c0")["y"])


def _two_clients():
    x = np.arange(12, dtype=np.float32).reshape(12, 1)
    y = np.array([0, 1] * 6, np.int32)
    of_a = np.arange(12) % 3 > 0
    return {"a": {"x": x[of_a], "y": y[of_a]}, "b": {"x": x[~of_a], "y": y[~of_a]}}


def test_arrays_of_training_clients_are_split_and_held_out_ones_stay_whole():
    clients = _two_clients()
    train, test, held_out = client_splits.split_arrays(
        clients,
        held_out=("a",),
        test_fraction=0.5,
        seed=0,
        batching=Batching(7),
    )
    assert tuple(train.client_ids) == tuple(test.client_ids) == ("b",)
    assert train.batching.batch_size == 7
    seen = sorted([*train.load("b")["x"][:, 0], *test.load("b")["x"][:, 0]])
    assert seen == [0, 3, 6, 9]
    assert 0 < len(test.load("b")["y"]) < 4
    assert held_out is not None
    assert held_out.num_examples("a") == 8


def test_splitting_arrays_refuses_unknown_and_all_two_clients():
    arguments = {"test_fraction": 0.5, "seed": 0, "batching": Batching()}
    with pytest.raises(ValueError, match="cannot hold out 'z'; the clients are a, b"):
        client_splits.split_arrays(_two_clients(), held_out=("z",), **arguments)
    with pytest.raises(ValueError, match="none is left"):
        client_splits.split_arrays(_two_clients(), held_out=("a", "b"), **arguments)
    assert (
        client_splits.split_arrays(_two_clients(), held_out=(), **arguments)[2] is None
    )


def test_one_example_less_moves_no_other_example():
    data = _clients([30])
    train, test = client_splits.split_each_client(data, test_fraction=0.4, seed=1)
    examples = data.load("c0")
    kept = np.random.default_rng(0).permutation(30)[1:]
    fewer = ClientData.from_arrays({"c0": {n: a[kept] for n, a in examples.items()}})
    parts = client_splits.split_each_client(fewer, test_fraction=0.4, seed=1)
    for before, after in zip((train, test), parts):
        x = before.load("c0")["x"][:, 0]
        assert set(after.load("c0")["x"][:, 0]) == set(x) & set(kept)


def test_arrays_are_split_by_contents_of_ones_own():
    """Features that depend on other examples do not decide."""
    clients = _two_clients()
    arguments = {"test_fraction": 0.5, "seed": 3}
    contents = {i: [b"%d" % v for v in e["x"]] for i, e in clients.items()}
    train, _, _ = client_splits.split_arrays(clients, contents=contents, **arguments)
    scaled = {i: {"x": e["x"] * 2, "y": e["y"]} for i, e in clients.items()}
    again, _, _ = client_splits.split_arrays(scaled, contents=contents, **arguments)
    for client_id in clients:
        x = train.load(client_id)["x"]
        np.testing.assert_array_equal(again.load(client_id)["x"], 2 * x)
