"""Client data and the padded local steps of cohorts, by hand."""

from __future__ import annotations

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from tfl_research import data
from tfl_research.data import Batching, ClientData, client_data, derived_generator


def _examples(count, offset=0):
    return {
        "x": (np.arange(count, dtype=np.float32) + offset)[:, np.newaxis],
        "y": np.arange(count, dtype=np.int32) + offset,
    }


def _data(sizes, **batching):
    return ClientData.from_arrays(
        {f"c{i}": _examples(n, 100 * (i + 1)) for i, n in enumerate(sizes)},
        Batching(**batching),
    )


def test_unshuffled_steps_by_hand():
    data = _data([5, 2, 0], batch_size=2, shuffle=False)
    cohort = data.cohort(["c0", "c1", "c2"], seed=0, round_number=1)
    assert len(cohort) == 3
    assert cohort.max_steps == 3
    stacked = cohort.stacked()
    assert stacked["y"].tolist() == [
        [[100, 101], [102, 103], [104, 0]],
        [[200, 201], [0, 0], [0, 0]],
        [[0, 0], [0, 0], [0, 0]],
    ]
    assert stacked["mask"].tolist() == [
        [[True, True], [True, True], [True, False]],
        [[True, True], [False, False], [False, False]],
        [[False, False], [False, False], [False, False]],
    ]
    np.testing.assert_array_equal(stacked["x"][..., 0], stacked["y"])
    assert stacked["num_examples"].tolist() == [5, 2, 0]
    assert stacked["num_steps"].tolist() == [3, 1, 0]
    assert stacked["seed"].shape == (3, 2)
    assert {name: a.dtype.name for name, a in stacked.items()} == {
        "x": "float32",
        "y": "int32",
        "mask": "bool",
        "num_examples": "int32",
        "num_steps": "int32",
        "seed": "int32",
    }


def test_padding_to_more_clients_and_steps():
    cohort = _data([3], batch_size=2, shuffle=False).cohort(
        ["c0"], seed=0, round_number=1
    )
    stacked = cohort.stacked(num_clients=2, num_steps=4)
    assert stacked["x"].shape == (2, 4, 2, 1)
    assert stacked["mask"].sum() == 3
    assert stacked["num_examples"].tolist() == [3, 0]
    with pytest.raises(ValueError, match="cannot pad 1 clients of up to 2 steps"):
        cohort.stacked(num_steps=1)
    with pytest.raises(ValueError, match="cannot pad 1 clients"):
        cohort.stacked(num_clients=0)


def test_an_empty_cohort():
    cohort = _data([3], batch_size=2).cohort([], seed=0, round_number=1)
    assert len(cohort) == 0
    assert cohort.max_steps == 0
    stacked = cohort.stacked(num_clients=2, num_steps=1)
    assert stacked["x"].shape == (2, 1, 2, 1)
    assert not stacked["mask"].any()
    assert cohort.stacked()["x"].shape == (0, 0, 2, 1)


@hypothesis.given(
    size=st.integers(0, 30),
    batch_size=st.integers(1, 8),
    epochs=st.integers(1, 4),
    shuffle=st.booleans(),
)
@hypothesis.settings(deadline=None, max_examples=100)
def test_each_epoch_visits_every_example_once(size, batch_size, epochs, shuffle):
    data = _data([size], batch_size=batch_size, epochs=epochs, shuffle=shuffle)
    one = data.cohort(["c0"], seed=1, round_number=2).batches(0)
    per_epoch = -(-size // batch_size)
    assert one["x"].shape[:2] == (epochs * per_epoch, batch_size)
    everything = list(range(100, 100 + size))
    for epoch in range(epochs):
        steps = slice(epoch * per_epoch, (epoch + 1) * per_epoch)
        visited = one["y"][steps][one["mask"][steps]]
        assert sorted(visited.tolist()) == everything
        if not shuffle:
            assert visited.tolist() == everything
    assert one["num_examples"] == size


@pytest.mark.parametrize(("steps", "distinct"), [(1, 2), (3, 5), (7, 5)])
def test_a_fixed_number_of_steps_runs_over_epochs(steps, distinct):
    data = _data([5], batch_size=2, steps=steps, shuffle=False)
    one = data.cohort(["c0"], seed=0, round_number=1).batches(0)
    visits = [100, 101, 102, 103, 104] * 3
    # Three steps make an epoch: 2, 2 and 1 examples.
    counts = [2, 2, 1] * 3
    assert one["mask"].sum(axis=1).tolist() == counts[:steps]
    assert one["y"][one["mask"]].tolist() == visits[: sum(counts[:steps])]
    assert one["num_examples"] == distinct


def test_at_most_so_many_examples_and_new_ones_each_round():
    data = _data([50], batch_size=4, max_examples=6)
    rounds = [data.cohort(["c0"], seed=0, round_number=r).batches(0) for r in range(40)]
    assert all(one["mask"].sum() == one["num_examples"] == 6 for one in rounds)
    seen = {int(y) for one in rounds for y in one["y"][one["mask"]]}
    assert len(seen) > 40
    first = _data([50], batch_size=4, max_examples=6, shuffle=False)
    one = first.cohort(["c0"], seed=0, round_number=5).batches(0)
    assert one["y"][one["mask"]].tolist() == list(range(100, 106))


def test_a_cohort_is_a_function_of_seed_client_and_round_alone():
    data = _data([9, 9, 9], batch_size=4)
    alone = data.cohort(["c1"], seed=3, round_number=4).batches(0)
    among = data.cohort(["c0", "c1", "c2"], seed=3, round_number=4).batches(1)
    for name, array in alone.items():
        np.testing.assert_array_equal(array, among[name])
    for seed, round_number in ((3, 5), (4, 4)):
        other = data.cohort(["c1"], seed=seed, round_number=round_number).batches(0)
        assert not np.array_equal(other["y"], alone["y"])
        assert not np.array_equal(other["seed"], alone["seed"])


def test_selecting_clients_of_a_cohort():
    data = _data([3, 4, 5], batch_size=2)
    cohort = data.cohort(["c0", "c1", "c2"], seed=0, round_number=1)
    chosen = cohort.select([2, 0])
    assert chosen.client_ids == ("c2", "c0")
    for name, array in cohort.batches(2).items():
        np.testing.assert_array_equal(array, chosen.batches(0)[name])
    assert len(cohort.select([])) == 0


def test_subset_items_and_batching():
    data = _data([3, 4], batch_size=2)
    assert data.num_examples("c1") == 4
    assert [client_id for client_id, _ in data.items()] == ["c0", "c1"]
    assert len(data.subset(["c1"])) == 1
    assert data.with_batching(Batching(batch_size=7)).batching.batch_size == 7


@pytest.mark.parametrize("name", ["batch_size", "epochs", "steps", "max_examples"])
def test_batching_refuses_numbers_below_one(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        Batching(**{name: 0})


def test_clients_that_disagree_are_refused():
    good = _examples(3)
    for name, bad, message in (
        ("length", {"x": good["x"][:2], "y": good["y"]}, "has 2 rows of x but 3 of y"),
        ("shape", {"x": np.zeros((3, 2), np.float32), "y": good["y"]}, "has x of"),
        ("dtype", {"x": good["x"], "y": good["y"].astype(np.int64)}, "has y of"),
    ):
        with pytest.raises(ValueError, match=f"client '{name}' {message}"):
            ClientData.from_arrays({"good": good, name: bad})
    with pytest.raises(ValueError, match="at least one client"):
        ClientData.from_arrays({})


def test_derived_generators():
    same = [derived_generator("a", 1).integers(0, 2**62) for _ in range(2)]
    assert same[0] == same[1]
    others = {
        int(derived_generator(*parts).integers(0, 2**62))
        for parts in (("a", 1), ("a", 2), ("b", 1), ("a", "1"), ("a", 1, 0), ("a1",))
    }
    assert len(others) == 6


def test_a_large_cohort_loads_its_clients_when_they_are_gathered(monkeypatch):
    monkeypatch.setattr(client_data, "_CACHE_BYTES", 3 * 40)
    loaded = []

    def load(client_id):
        loaded.append(client_id)
        number = int(client_id)
        return {"x": np.full((4, 2), number, np.float32), "y": np.arange(4, dtype="i4")}

    specs = {
        "x": data.ArraySpec((2,), np.dtype("f4")),
        "y": data.ArraySpec((), np.dtype("i4")),
    }
    ids = tuple(str(i) for i in range(5))
    lazy = data.ClientData(ids, load, specs, data.Batching(2))
    cohort = lazy.cohort(ids, seed=1, round_number=2)
    assert loaded == list(ids)
    last = cohort.select([0, 4]).stacked()
    # 48 bytes a client: two fit, the others are loaded again.
    assert loaded == [*ids, "4"]
    np.testing.assert_array_equal(last["x"][:, 0, 0, 0], [0, 4])
    held = data.ClientData.from_arrays({i: load(i) for i in ids}, data.Batching(2))
    whole = held.cohort(ids, seed=1, round_number=2).stacked()
    for name, array in cohort.stacked().items():
        np.testing.assert_array_equal(array, whole[name])


def test_roles_reach_the_clients_and_padding_has_none():
    clients = {
        name: {"x": np.zeros((2, 1), np.float32), "y": np.zeros(2, np.int32)}
        for name in "abc"
    }
    plain = data.ClientData.from_arrays(clients, data.Batching(2))
    assert "role" not in plain.cohort(["a"], seed=0, round_number=1).stacked()
    told = plain.with_roles({"b": 3})
    cohort = told.cohort(["b", "c"], seed=0, round_number=1)
    stacked = cohort.stacked(num_clients=4)
    assert stacked["role"].dtype == np.int32
    assert stacked["role"].tolist() == [3, 0, 0, 0]
    assert cohort.select([1]).stacked()["role"].tolist() == [0]
    assert int(cohort.batches(0)["role"]) == 3
    assert told.subset(["b"]).roles == {"b": 3}
