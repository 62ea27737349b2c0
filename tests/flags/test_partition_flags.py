"""Flags of partitions: each reaches the task, and none is given in vain."""

from __future__ import annotations

import pytest

from tfl_research.flags import FlagError, TaskFlags


@pytest.mark.parametrize(
    ("partition", "option", "value"),
    [
        ("dirichlet", "dirichlet_alpha", 0.1),
        ("shards", "shards_per_client", 3),
        ("quantity", "quantity_alpha", 0.2),
        ("rotation", "rotation_degrees", 0.0),
        ("noise", "noise_level", 0.7),
        ("concept_shift", "num_concepts", 2),
    ],
)
def test_a_partitions_flag_reaches_the_task(partition, option, value):
    given = {"partition": partition, option: value}
    flags = TaskFlags("mnist", num_clients=4, **given)
    assert flags.options() == {**given, "num_clients": 4}
    title = flags.build(0).card.title
    assert title.endswith(f"{partition} partition, {option}={value}")
    with pytest.raises(FlagError) as raised:
        TaskFlags("mnist", **{option: value})
    assert str(raised.value) == (
        f"--{option}={value}: has no effect with --partition=iid; leave it out or give "
        f"--partition={partition}"
    )


def test_a_task_option_given_in_vain():
    with pytest.raises(FlagError, match=r"^--task_option=num_concepts=2: has no eff"):
        TaskFlags("emnist", partition="iid", task_option=("num_concepts=2",))


def test_a_mistyped_partition_is_one_line_about_the_task():
    with pytest.raises(FlagError, match=r"--task=mnist: partition must be one of iid"):
        TaskFlags("mnist", partition="dirichelt").build(0)
