"""What the settings of a task accept, refuse and build, without TensorFlow."""

from __future__ import annotations

import pytest
from refused_settings import refused

from tfl_research.experiment.configs import (
    TaskChoice,
)


class TestTask:
    def test_only_given_options_are_passed(self):
        assert TaskChoice("mnist").options() == {}
        choice = TaskChoice(
            "mnist",
            partition="dirichlet",
            dirichlet_alpha=0.1,
            num_clients=7,
            task_option=("model=cnn", "held_out_clients=2"),
        )
        assert choice.options() == {
            "partition": "dirichlet",
            "dirichlet_alpha": 0.1,
            "num_clients": 7,
            "model": "cnn",
            "held_out_clients": 2,
        }

    def test_options_as_values(self):
        options = {"partition": "dirichlet", "dirichlet_alpha": 0.1, "model": "cnn"}
        choice = TaskChoice.of("mnist", {**options, "num_clients": 100})
        # 100 clients are the default.
        assert choice == TaskChoice(
            "mnist",
            partition="dirichlet",
            dirichlet_alpha=0.1,
            task_option=("model=cnn",),
        )
        assert choice.options() == options

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({}, "--task is missing; give one of shakespeare, heart, loans, taxi, "),
            ({"task": "hart"}, "--task=hart: unknown task; give one of shakespeare, "),
            (
                {"task": "heart", "partition": "iid"},
                "--partition=iid: task heart has no such option; leave it out (task "
                "heart takes model, test_fraction",
            ),
            (
                {"task": "heart", "task_option": ("model",)},
                "--task_option=model: must be NAME=VALUE",
            ),
            (
                {"task": "heart", "task_option": ("=mlp",)},
                "--task_option==mlp: must be NAME=VALUE",
            ),
            (
                {"task": "heart", "task_option": ("modell=mlp",)},
                "--task_option=modell=mlp: task heart has no such option; it takes "
                "model, test_fraction",
            ),
            (
                {"task": "heart", "task_option": ("model=mlp", "model=logistic")},
                "--task_option=model=logistic: model is given twice",
            ),
            (
                {"task": "mnist", "num_clients": 5, "task_option": ("num_clients=6",)},
                "--task_option=num_clients=6: num_clients is given twice",
            ),
            (
                {"task": "heart", "task_option": ("test_fraction=x",)},
                "--task_option: option 'test_fraction' of task 'heart' must be float, "
                "got 'x'",
            ),
            (
                {"task": "csv", "label_column": "y"},
                "--data_dir: task 'csv' needs the option 'data_dir'",
            ),
            (
                {"task": "csv", "data_dir": "x"},
                "--label_column: task 'csv' needs the option 'label_column'",
            ),
        ],
    )
    def test_refusals(self, given, message):
        found = refused(lambda: TaskChoice(**given))
        assert found.startswith(message)

    def test_what_the_task_refuses_names_the_task(self, tmp_path):
        refused(
            lambda: TaskChoice("heart", task_option=("model=tree",)).build(0),
            "--task=heart: ",
            "tree",
        )
        missing = tmp_path / "none"
        refused(
            lambda: TaskChoice("csv", data_dir=missing, label_column="y").build(0),
            "--task=csv: ",
            str(missing),
        )

    def test_files_of_the_users_own_have_a_digest(self, tmp_path):
        assert TaskChoice("heart").files_digest() is None
        (tmp_path / "a.csv").write_text("x,y\n1,0\n2,1\n")
        choice = TaskChoice("csv", data_dir=tmp_path, label_column="y")
        before = choice.files_digest()
        assert len(before) == 64
        (tmp_path / "a.csv").write_text("x,y\n1,0\n2,0\n")
        assert choice.files_digest() != before


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
def test_a_partitions_option_reaches_the_task(partition, option, value):
    given = {"partition": partition, option: value}
    choice = TaskChoice("mnist", num_clients=4, **given)
    assert choice.options() == {**given, "num_clients": 4}
    title = choice.build(0).card.title
    assert title.endswith(f"{partition} partition, {option}={value}")
    assert refused(lambda: TaskChoice("mnist", **{option: value})) == (
        f"--{option}={value}: has no effect with --partition=iid; leave it out or give "
        f"--partition={partition}"
    )


def test_a_task_option_given_in_vain():
    found = refused(
        lambda: TaskChoice("emnist", partition="iid", task_option=("num_concepts=2",))
    )
    assert found.startswith("--task_option=num_concepts=2: has no effect with")


def test_a_mistyped_partition_is_one_line_about_the_task():
    refused(
        lambda: TaskChoice("mnist", partition="dirichelt").build(0),
        "--task=mnist: partition must be one of iid",
    )
