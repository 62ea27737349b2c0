"""Flat settings of tasks, algorithms, aggregators and mechanisms of one's own."""

from __future__ import annotations

import contextlib
import dataclasses

import numpy as np
import pytest
from flat_parts import HEART, check_round_trip

from tfl_research import settings, tasks
from tfl_research.aggregators import (
    AGGREGATORS,
    AggregatorSettings,
)
from tfl_research.algorithms import ALGORITHMS, AlgorithmSettings
from tfl_research.errors import SettingError
from tfl_research.experiment import Experiment
from tfl_research.experiment.configs import (
    TaskChoice,
    Training,
    UserLevelPrivacy,
)
from tfl_research.privacy import MECHANISMS, MechanismSettings
from tfl_research.registry import registered


class TestTasksOfOnesOwn:
    def test_a_built_task_records_what_its_name_does(self):
        built = tasks.get(
            "mnist",
            partition="dirichlet",
            dirichlet_alpha=0.1,
            num_clients=7,
            model="cnn",
        )
        named = TaskChoice(
            "mnist",
            partition="dirichlet",
            dirichlet_alpha=0.1,
            num_clients=7,
            task_option=("model=cnn",),
        )
        assert Experiment(built).flat() == Experiment(named).flat()
        assert Experiment(tasks.get("heart")).flat() == HEART.flat()

    def test_a_seed_of_its_own_is_recorded(self):
        built = tasks.get("heart", seed=4)
        same = Training(seed=4)
        assert Experiment(built, training=same).flat() == (
            Experiment("heart", training=same).flat()
        )
        assert Experiment(built).flat() == {**HEART.flat(), "task_seed": 4}

    def test_arrays_are_recorded_by_name(self):
        x, y = np.zeros((6, 2)), np.array([0, 1, 0, 1, 0, 1])
        own = tasks.from_arrays({"a": {"x": x, "y": y}}, model=int, name="mine")
        flat = Experiment(own).flat()
        assert flat["task"] == "mine"
        assert not set(flat) & (set(TaskChoice("heart").flat()) - {"task"})
        assert Experiment(own).with_settings(rounds=3).task is own


@dataclasses.dataclass(frozen=True)
class OwnAlgorithm(AlgorithmSettings):
    NAME, SUMMARY = "own_algorithm", "nothing"
    own_strength: float = settings.real(0.5, "A strength.", above=0)


@dataclasses.dataclass(frozen=True)
class OwnAggregator(AggregatorSettings):
    NAME, SUMMARY = "own_aggregator", "nothing"


@dataclasses.dataclass(frozen=True)
class OwnMechanism(MechanismSettings):
    NAME, SUMMARY, SAMPLERS = "own_mechanism", "nothing", ("full",)


def own_task(*, seed=0, size=3):
    raise AssertionError("no data are read")


class TestPlugins:
    def test_modules_of_what_is_used_are_recorded(self):
        assert HEART.flat()["plugins"] == []
        with contextlib.ExitStack() as stack:
            for choices, own in (
                (ALGORITHMS, OwnAlgorithm),
                (AGGREGATORS, OwnAggregator),
                (MECHANISMS, OwnMechanism),
            ):
                stack.enter_context(registered(choices, own.NAME, own))
            tasks.register("own_task", "other_package.module:build")
            tasks.register("own_function", own_task)
            try:
                assert HEART.flat()["plugins"] == []
                for given in (
                    {"algorithm": "own_algorithm"},
                    {"aggregator": OwnAggregator()},
                    {"privacy": UserLevelPrivacy(OwnMechanism(), noise_multiplier=1)},
                ):
                    experiment = dataclasses.replace(HEART, **given)
                    flat = check_round_trip(experiment)
                    assert flat["plugins"] == [__name__]
                own = Experiment(TaskChoice("own_function", task_option=("size=4",)))
                assert check_round_trip(own)["plugins"] == [__name__]
                assert tasks.origin("own_task") == "other_package.module"
                given = {"task": "heart", "own_strength": 2.0}
                with pytest.raises(SettingError, match="goes with algorithm=own_algor"):
                    Experiment.from_flat(given)
            finally:
                tasks.unregister("own_task")
                tasks.unregister("own_function")

    def test_a_class_that_is_not_registered_is_refused(self):
        with pytest.raises(SettingError, match="OwnAlgorithm is not registered"):
            Experiment("heart", algorithm=OwnAlgorithm(2.0))
