"""What cohorts hand their clients beside their local steps, and cut-off steps."""

import numpy as np
import pytest

from tfl_research import data


@pytest.fixture
def cohort():
    def client(size):
        x = np.arange(size, dtype=np.float32)[:, None]
        return {"x": x, "y": np.zeros(size, np.int32)}

    clients = data.ClientData.from_arrays(
        {"a": client(5), "b": client(0), "c": client(3)},
        data.Batching(batch_size=2, epochs=2, shuffle=False),
    )
    return clients.cohort(("a", "b", "c"), seed=0, round_number=1)


def test_members_follow_their_clients(cohort):
    handed = cohort.with_members(age=np.array([4, 5, 6], np.int32))
    np.testing.assert_array_equal(handed.stacked(num_clients=5)["age"], [4, 5, 6, 0, 0])
    np.testing.assert_array_equal(handed.select([2, 0]).stacked()["age"], [6, 4])
    assert handed.batches(1)["age"] == 5


def test_loaders_are_asked_for_the_clients_that_are_gathered(cohort):
    asked = []

    def load(client_ids):
        asked.append(tuple(client_ids))
        return np.array([[ord(name)] for name in client_ids], np.float32)

    handed = cohort.with_loader("letter", load)
    assert asked == []
    np.testing.assert_array_equal(
        handed.select([2, 0]).stacked(num_clients=3)["letter"], [[99], [97], [0]]
    )
    assert asked == [("c", "a")]


def test_wrong_members(cohort):
    with pytest.raises(ValueError, match="age has 2 rows, expected one for each of"):
        cohort.with_members(age=np.zeros(2))
    handed = cohort.with_members(age=np.zeros(3))
    for name in ("age", "x", "role"):
        with pytest.raises(ValueError, match=f"already have a member '{name}'"):
            handed.with_members(**{name: np.zeros(3)})
        with pytest.raises(ValueError, match=f"already have a member '{name}'"):
            handed.with_loader(name, lambda _: np.zeros(3))


def test_cut_off_after_some_steps(cohort):
    # Three and two steps an epoch.
    assert [len(order) for order in cohort.orders] == [6, 0, 4]
    cut = cohort.truncated([1, 3, 9])
    stacked = cut.stacked()
    assert stacked["num_steps"].tolist() == [1, 0, 4]
    assert stacked["num_examples"].tolist() == [2, 0, 3]
    np.testing.assert_array_equal(stacked["x"][0, :2, :, 0], [[0, 1], [0, 0]])
    assert stacked["mask"][0].sum() == 2
    assert cohort.truncated([0, 0, 0]).max_steps == 0


@pytest.mark.parametrize("limits", [[1, 2], [1, -1, 2]])
def test_wrong_limits(cohort, limits):
    with pytest.raises(ValueError, match="at least 0 for each of the 3 clients"):
        cohort.truncated(limits)


def test_poisson_steps_are_not_cut():
    batching = data.PoissonBatching(steps=2, expected_batch_size=2.0, microbatch_size=1)
    held = {"x": np.zeros((4, 1), np.float32), "y": np.zeros(4, np.int32)}
    clients = data.ClientData.from_arrays({"a": held}, batching)
    cohort = clients.cohort(("a",), seed=0, round_number=1)
    with pytest.raises(ValueError, match="Poisson sampling cannot be cut off"):
        cohort.truncated([1])
