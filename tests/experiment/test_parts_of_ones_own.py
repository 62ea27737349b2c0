"""What an experiment refuses of a user's own classes and data; no TensorFlow."""

from __future__ import annotations

import contextlib
import dataclasses

import numpy as np
import pytest

import tfl_research as tfl
from tfl_research import aggregators, algorithms, privacy, settings, tasks
from tfl_research.experiment import setup as setups
from tfl_research.registry import registered

PRIVATE = tfl.UserLevelPrivacy("gaussian", noise_multiplier=1.0, delta=1e-2)


def experiment(**parts):
    return tfl.Experiment(
        **{"task": "heart", "cohorts": tfl.Cohorts("full"), "privacy": PRIVATE, **parts}
    )


def points(*, seed: int = 0) -> tasks.Task:
    generator = np.random.default_rng(seed)
    clients = {
        str(n): {
            "x": generator.normal(size=(9, 2)).astype(np.float32),
            "y": np.array([0, 1, 0] * 3, np.int32),
        }
        for n in range(4)
    }
    return tasks.from_arrays(clients, model=lambda: None, name="own", seed=seed)


def digest(**parts):
    """In hparams.json, of a run without privacy."""
    own = experiment(**{"privacy": None, **parts})
    return setups.prepare(own).hparams().get("data_sha256")


class TestData:
    def test_what_a_recipe_says_is_enough(self):
        task = tasks.get("heart")
        assert digest(task=task) is None
        assert digest(task=task.with_batching(task.test.batching)) is None

    def test_data_that_were_replaced_are_recorded(self):
        task, other = tasks.get("heart"), tasks.get("heart", seed=5)
        replaced = dataclasses.replace(task, train=other.train)
        assert digest(task=replaced) == tasks.content_digest(replaced)
        fewer = task.train.subset(task.train.client_ids[:3])
        assert digest(task=dataclasses.replace(task, train=fewer)) is not None

    def test_a_plugins_data_are_recorded(self):
        with registered(tasks.registry.TASKS, "points_of_mine", points):
            by_name = digest(task="points_of_mine")
            assert by_name == tasks.content_digest(points())
            assert digest(task=tasks.get("points_of_mine")) == by_name
            other = digest(
                task="points_of_mine",
                training=dataclasses.replace(tfl.Training(), seed=1),
            )
            assert other != by_name


@dataclasses.dataclass(frozen=True)
class FalseMean(aggregators.AggregatorSettings):
    NAME = "mean"


@dataclasses.dataclass(frozen=True)
class TwoExchanges(algorithms.AlgorithmSettings):
    NAME, ONLY_UPDATES_LEAVE, EXCHANGES = "two_exchanges", True, 2


@dataclasses.dataclass(frozen=True)
class FalseFedAvg(algorithms.AlgorithmSettings):
    NAME, ONLY_UPDATES_LEAVE = "fed_avg", True


class MyCohorts(tfl.Cohorts):
    pass


class TestParts:
    def test_a_class_under_the_name_of_another(self):
        with pytest.raises(tfl.SettingError, match="aggregator=mean: FalseMean is not"):
            experiment(aggregator=FalseMean())
        with pytest.raises(tfl.SettingError, match="algorithm=fed_avg: FalseFedAvg is"):
            experiment(algorithm=FalseFedAvg())
        with pytest.raises(tfl.SettingError, match="TwoExchanges is not registered"):
            experiment(algorithm=TwoExchanges())

    def test_a_weighting_that_does_not_exist(self):
        kind = type("Weighs", (TwoExchanges,), {"NAME": "weighs", "WEIGHTING": "equal"})
        with pytest.raises(ValueError, match="WEIGHTING of Weighs must be 'uniform'"):
            algorithms.register(kind)
        assert "weighs" not in algorithms.ALGORITHMS

    def test_a_subclass_of_a_part(self):
        with pytest.raises(tfl.SettingError, match="cohorts must be Cohorts itself"):
            experiment(cohorts=MyCohorts("full"))

    def test_cohorts_that_repeat_are_not_accounted(self):
        with registered(algorithms.ALGORITHMS, "two_exchanges", TwoExchanges):
            made = experiment(algorithm=TwoExchanges())
            with pytest.raises(tfl.SettingError, match="do not have one cohort each"):
                made.check()


def mechanism_with(**defaults):
    fields = [
        (name, float, settings.real(value, "A parameter.", above=0))
        for name, value in defaults.items()
    ]
    return dataclasses.make_dataclass(
        "Mine",
        fields,
        bases=(type(privacy.MECHANISMS.resolve("gaussian")),),
        namespace={"NAME": "mine", "__module__": __name__},
        frozen=True,
    )


class TestParameters:
    @pytest.mark.parametrize(
        ("name", "owner"),
        [
            ("rounds", "a setting of every experiment"),
            ("delta", "a setting of every experiment"),
            ("clip_radius", "a parameter of aggregator="),
        ],
    )
    def test_a_name_that_another_setting_has(self, name, owner):
        mine = mechanism_with(**{name: 0.5})
        with contextlib.ExitStack() as stack:
            stack.enter_context(registered(privacy.MECHANISMS, "mine", mine))
            with pytest.raises(tfl.SettingError) as raised:
                experiment(privacy=tfl.UserLevelPrivacy(mine(), noise_multiplier=1.0))
        said = str(raised.value)
        assert f"mechanism=mine: its parameter {name} is called like {owner}" in said

    def test_a_name_of_its_own(self):
        mine = mechanism_with(own_parameter=0.5)
        with registered(privacy.MECHANISMS, "mine", mine):
            made = experiment(
                privacy=tfl.UserLevelPrivacy(mine(), noise_multiplier=1.0)
            )
            assert made.flat()["own_parameter"] == 0.5


@pytest.mark.parametrize("folder", ["", None, 3])
def test_a_folder_that_is_no_path(folder):
    with pytest.raises(tfl.UserError, match=r"output_dir=.*must be the path"):
        experiment().run(folder)


def test_a_ledger_that_cannot_be_opened_names_its_setting(tmp_path):
    path = tmp_path / "nowhere" / "ledger.jsonl"
    private = dataclasses.replace(PRIVATE, ledger=str(path))
    with pytest.raises(tfl.SettingError, match=r"^ledger=.*cannot open"):
        experiment(privacy=private).check()
