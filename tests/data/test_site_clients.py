"""Clients whose examples are at sites, and clients with seeds of their own."""

import numpy as np
import pytest

from tfl_research import data
from tfl_research.errors import UserError


def clients(batching=data.Batching(batch_size=2)):  # noqa: B008
    return data.ClientData.from_arrays(
        {
            name: {"x": np.arange(n, dtype=np.float32)[:, None], "y": np.zeros(n)}
            for name, n in (("a", 3), ("b", 4), ("c", 5))
        },
        batching,
    )


def of_site(names):
    whole = clients()
    return data.SiteClients.of(
        whole.client_ids,
        whole.specs,
        whole.batching,
        sizes={"a": 3, "c": 5},
        own=whole.subset(names) if names else None,
    )


def test_a_site_makes_the_same_local_steps_as_a_simulation():
    here = of_site(["b"]).cohort(["b"], seed=7, round_number=3)
    there = clients().cohort(["a", "b", "c"], seed=7, round_number=3)
    for name, array in here.batches(0).items():
        np.testing.assert_array_equal(array, there.batches(1)[name])


def test_a_coordinator_knows_ids_and_the_round_alone():
    coordinator = of_site([])
    cohort = coordinator.cohort(["c", "a"], seed=7, round_number=3)
    assert isinstance(cohort, data.SiteCohort)
    assert (cohort.client_ids, cohort.round_number) == (("c", "a"), 3)
    assert coordinator.num_examples("c") == 5
    assert list(coordinator.items()) == []
    with pytest.raises(UserError, match="its examples are at its site"):
        coordinator.load("a")
    with pytest.raises(UserError, match=r"'b': its site does not tell its number"):
        coordinator.num_examples("b")


@pytest.mark.parametrize(
    "batching",
    [data.Batching(batch_size=2), data.PoissonBatching(3, 2.0)],
    ids=["epochs", "poisson"],
)
def test_seeds_of_their_own_replace_the_common_one(batching):
    whole = clients(batching)
    seeded = data.SeededClients.of(whole, {"a": 1, "b": 2, "c": 3})
    cohort = seeded.cohort(["c", "a"], seed=99, round_number=4)
    for place, (name, seed) in enumerate((("c", 3), ("a", 1))):
        alone = whole.cohort([name], seed=seed, round_number=4)
        own, expected = cohort.select([place]).batches(0), alone.batches(0)
        assert own.keys() == expected.keys()
        for key in own:
            np.testing.assert_array_equal(own[key], expected[key])
    assert len(seeded.cohort([], seed=0, round_number=1)) == 0
    with pytest.raises(ValueError, match="client 'c' has no seed"):
        data.SeededClients.of(whole, {"a": 1, "b": 2})
