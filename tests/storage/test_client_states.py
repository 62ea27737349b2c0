"""The table of clients' states: rounds, checkpoints, newcomers, damage."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tfl_research import data
from tfl_research.errors import UserError
from tfl_research.storage import ClientStates, client_states


@dataclasses.dataclass
class Spec:
    initial: np.ndarray = dataclasses.field(
        default_factory=lambda: np.array([7.0, 8.0], np.float32)
    )
    capacity: int = 3


def rows(*values):
    return np.array([[v, -v] for v in values], np.float32)


@pytest.fixture
def table(tmp_path):
    states = ClientStates(tmp_path / "states.sqlite", Spec())
    yield states
    states.close()


def test_newcomers_have_the_initial_state(table):
    table.store(1, ["b"], rows(1))
    np.testing.assert_array_equal(
        table.rows(["a", "b"]), np.array([[7, 8], [1, -1]], np.float32)
    )
    assert table.num_clients == 1


def test_the_rows_of_a_cohort_smaller_than_the_capacity(table):
    table.store(1, ["a", "b"], rows(1, 2, 0))
    np.testing.assert_array_equal(table.rows(["b", "a"]), rows(2, 1))


def test_going_back_to_a_checkpoint(table):
    table.store(1, ["a", "b"], rows(1, 2))
    table.store(2, ["a", "c"], rows(3, 4))
    extent = table.extent
    assert extent[:2] == (3, 5)
    table.store(3, ["a"], rows(5))
    table.restore(2, extent)
    np.testing.assert_array_equal(table.rows(["a", "b", "c"]), rows(3, 2, 4))
    table.store(3, ["a"], rows(6))
    table.store(3, ["a"], rows(9))
    np.testing.assert_array_equal(table.rows(["a"]), rows(9))
    table.restore(0, client_states.EMPTY_TABLE)
    np.testing.assert_array_equal(table.rows(["a"]), Spec().initial[None])


def test_the_state_after_a_round_that_counts(table):
    """A site keeps states of late reports, and of rounds that may be repeated."""
    for number in range(1, 6):
        table.store(number, ["a", "b"], rows(number, 10 * number))
    np.testing.assert_array_equal(
        table.rows(["a", "b"], after={"a": 3, "b": 4}), rows(3, 40)
    )
    np.testing.assert_array_equal(
        table.rows(["a"], after={"a": 0}), Spec().initial[None]
    )
    table.go_back("a", 4, oldest=3)
    assert [table.has("a", n) for n in range(6)] == [
        *(True, False, False),
        *(True, True, False),
    ]
    assert all(table.has("b", n) for n in range(6))
    # The state before the oldest round is what counts in that round.
    table.go_back("b", 2, oldest=4)
    assert [n for n in range(1, 6) if table.has("b", n)] == [2]
    table.go_back("b", 0, oldest=0)
    assert [n for n in range(6) if table.has("b", n)] == [0]


def count(table):
    return table._database.execute("select count(*) from states").fetchone()[0]


def test_rows_go_once_no_checkpoint_needs_them(table):
    table.store(2, ["b"], rows(20))
    for round_number in range(1, 6):
        table.store(round_number, ["a"], rows(round_number))
        if round_number == 3:
            extent = table.extent
    table.sync()
    table.drop_outdated(oldest_checkpoint=3)
    # Of a: what held after round 3, and the rounds since; b's only row stays.
    assert count(table) == 4
    table.restore(3, extent)
    np.testing.assert_array_equal(table.rows(["a", "b"]), rows(3, 20))


def test_states_survive_the_process(tmp_path):
    path = tmp_path / "states.sqlite"
    first = ClientStates(path, Spec())
    first.store(1, ["a"], rows(1))
    # Not closed: as after a kill.
    second = ClientStates(path, Spec())
    np.testing.assert_array_equal(second.rows(["a"]), rows(1))
    first.close()
    second.close()


def test_ten_million_registered_cost_nothing_until_they_take_part(table):
    class Ids:
        def __len__(self):
            return 10_000_000

        def __getitem__(self, index):
            return f"device {index}"

    held = {"x": np.zeros((2, 1), np.float32), "y": np.zeros(2, np.float32)}
    specs = {"x": data.ArraySpec((1,), np.dtype("f4"))}
    specs["y"] = data.ArraySpec((), np.dtype("f4"))
    clients = data.ClientData(Ids(), lambda _: held, specs)
    ids = [clients.client_ids[i] for i in (9_999_999, 5)]
    cohort = table.attach(clients.cohort(ids, seed=0, round_number=1))
    stacked = cohort.stacked(num_clients=3)
    np.testing.assert_array_equal(stacked["position"], [0, 1, 0])
    np.testing.assert_array_equal(stacked["client_state"][:2], [[7, 8], [7, 8]])
    np.testing.assert_array_equal(
        cohort.select([1]).stacked()["position"], np.array([1])
    )
    table.store(1, cohort.client_ids, rows(1, 2))
    assert count(table) == 2


def test_a_cohort_that_is_too_large(table):
    examples = {"x": np.zeros((1, 1), np.float32), "y": np.zeros(1, np.float32)}
    clients = data.ClientData.from_arrays(dict.fromkeys("abcd", examples))
    cohort = clients.cohort(tuple("abcd"), seed=0, round_number=1)
    with pytest.raises(ValueError, match="4 clients, but the process has room for"):
        table.attach(cohort)


def test_a_client_that_is_in_a_cohort_twice(table):
    examples = {"x": np.zeros((1, 1), np.float32), "y": np.zeros(1, np.float32)}
    clients = data.ClientData.from_arrays(dict.fromkeys("abc", examples))
    cohort = clients.cohort(tuple("bab"), seed=0, round_number=1)
    with pytest.raises(UserError) as refused:
        table.attach(cohort)
    assert str(refused.value) == (
        "client 'b' is in a cohort 2 times, but clients keep one state between "
        "rounds; draw cohorts without replacement"
    )
    assert len(table.attach(clients.cohort(tuple("ba"), seed=0, round_number=1))) == 2


def test_a_lost_or_foreign_file_is_one_clear_error(tmp_path):
    table = ClientStates(tmp_path / "states.sqlite", Spec())
    with pytest.raises(UserError, match="states of 0 clients that differ"):
        table.restore(4, (2, 7, 1))
    table.close()
    foreign = tmp_path / "foreign.sqlite"
    foreign.write_bytes(b"no database" * 100)
    with pytest.raises(UserError, match="is not a table of client states"):
        ClientStates(foreign, Spec())


def test_a_state_that_was_damaged_on_disk(table):
    table.store(1, ["a"], rows(1))
    table._database.execute("update states set state = zeroblob(8)")
    with pytest.raises(UserError, match=r"damaged \(client 'a': its checksum"):
        table.rows(["a"])


def test_rows_of_another_round_are_noticed(table):
    table.store(1, ["a", "b"], rows(1, 2))
    assert table.extent[:2] == (2, 2)
    table.store(2, ["a"], rows(3))
    extent = table.extent
    assert extent[:2] == (2, 3)
    table._database.execute("delete from states where round = 2")
    with pytest.raises(
        UserError, match="from the states of 2 clients at the checkpoint of round"
    ):
        table.restore(2, extent)


@pytest.mark.parametrize(
    "damage",
    [
        "update states set client = 'A' where client = 'a'",
        # Each with its own checksum.
        "update states set (checksum, state) = (select checksum, state from states as "
        "other where other.client != states.client)",
        "update states set round = 3 - round",
    ],
)
def test_states_that_changed_hands_are_noticed(table, damage):
    table.store(1, ["a"], rows(1))
    table.store(2, ["b"], rows(2))
    extent = table.extent
    table.restore(2, extent)
    table._database.execute(damage)
    assert table.extent[:2] == extent[:2]
    with pytest.raises(UserError, match="holds states of 2 clients that differ"):
        table.restore(2, extent)


def test_states_of_another_model(table, tmp_path):
    table.store(1, ["a"], rows(1))
    other = ClientStates(
        tmp_path / "states.sqlite", Spec(initial=np.zeros(5, np.float32))
    )
    with pytest.raises(UserError, match="has 2 numbers, but this model's has 5"):
        other.rows(["a"])
    other.close()
