"""The server's own examples, beside clients of which some are malicious."""

from __future__ import annotations

import dataclasses
import types

import numpy as np
import pytest

from tfl_research import data, flags, sampling
from tfl_research.flags import attack_assembly, root_assembly
from tfl_research.flags.aggregator_flags import ROOT_ROLE
from tfl_research.tasks.task import Card, Task

SIZES = (3, 0, 5, 2)
TOTAL = sum(SIZES)


@pytest.fixture
def parts():
    """Ten examples, x their number, y a class that `label_flip` turns around."""
    numbers = np.split(np.arange(TOTAL), np.cumsum(SIZES)[:-1])
    held = data.ClientData.from_arrays(
        {
            f"c{i}": {
                "x": own[:, None].astype(np.float32),
                "y": (own % 2).astype(np.int32),
            }
            for i, own in enumerate(numbers)
        }
    )
    return flags.assembly.Setup(
        client=flags.ClientOptimizerFlags(),
        server=flags.ServerOptimizerFlags(),
        cohort=flags.SamplerFlags(sampler="full"),
        weighting=flags.WeightingFlags(client_weighting="uniform"),
        run=flags.RunFlags(output_dir="none", seed=3),
        runtime=types.SimpleNamespace(runtime="in_process"),
        task=Task("toy", Card("", "", "", "", ""), held, held, None, int, int),
        sampler=sampling.Full(held.client_ids),
    )


def rooted(parts, examples, honest=None):
    aggregation = flags.AggregatorFlags("trusted_root", root_examples=examples)
    aggregation.check_with(parts, has_root=True)
    return root_assembly.with_root(aggregation, parts, honest or parts.task.train)


def numbers_of_root(parts):
    found = parts.task.train.load(root_assembly.ROOT_ID)
    np.testing.assert_array_equal(found["y"], found["x"][:, 0].astype(int) % 2)
    return sorted(int(x) for x in found["x"][:, 0])


def test_root_examples_are_some_of_all_clients_and_none_twice(parts):
    found = rooted(parts, 6)
    drawn = numbers_of_root(found)
    assert len(set(drawn)) == 6
    assert drawn == numbers_of_root(rooted(parts, 6))
    run = dataclasses.replace(parts.run, seed=4)
    assert drawn != numbers_of_root(rooted(dataclasses.replace(parts, run=run), 6))
    assert numbers_of_root(rooted(parts, TOTAL)) == list(range(TOTAL))


def test_every_example_is_drawn_alike(parts):
    counts = np.zeros(TOTAL)
    for seed in range(300):
        run = dataclasses.replace(parts.run, seed=seed)
        for number in numbers_of_root(rooted(dataclasses.replace(parts, run=run), 3)):
            counts[number] += 1
    # Binomial with mean 90 and standard deviation 7.9.
    assert counts.sum() == 900
    assert np.abs(counts - 90).max() < 5 * 7.9


def test_the_root_is_in_every_cohort_with_a_role_of_its_own(parts):
    found = rooted(parts, 4)
    cohort = found.sampler.sample(1)
    assert cohort == ("c0", "c1", "c2", "c3", root_assembly.ROOT_ID)
    held = found.task.train.cohort(cohort, seed=0, round_number=1)
    assert list(held.roles) == [0, 0, 0, 0, ROOT_ROLE]
    assert found.sampler.maximum_cohort_size == 4
    # Clients keep theirs.
    assert [found.task.train.num_examples(c) for c in cohort] == [*SIZES, 4]


def test_an_attack_reaches_neither_the_root_nor_its_role(parts):
    aggregation = flags.AggregatorFlags("trusted_root", root_examples=TOTAL)
    attack = flags.AttackFlags("label_flip", malicious_fraction=0.5)
    simulation = attack_assembly.simulate(attack, parts, aggregation)
    found = root_assembly.with_root(aggregation, simulation.parts, parts.task.train)
    assert numbers_of_root(found) == list(range(TOTAL))
    roles = found.task.train.roles
    assert roles[root_assembly.ROOT_ID] == ROOT_ROLE
    assert {c for c, role in roles.items() if role == 1} == set(simulation.malicious)
    assert len(simulation.malicious) == 2


def test_what_is_refused(parts):
    with pytest.raises(flags.FlagError, match="--root_examples=11: the clients have"):
        rooted(parts, 11)
    with pytest.raises(flags.FlagError, match="needs --root_examples too"):
        flags.AggregatorFlags("trusted_root")
    with pytest.raises(flags.FlagError, match="--root_examples=5: goes with"):
        flags.AggregatorFlags("krum", byzantine=1, root_examples=5)


def test_other_aggregators_have_no_root(parts):
    aggregation = flags.AggregatorFlags("coordinate_median")
    assert root_assembly.with_root(aggregation, parts, parts.task.train) is parts
