"""What an experiment takes for its parts, and defaults that follow from others."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from tfl_research import tasks
from tfl_research.aggregators import AGGREGATORS, Krum, Mean, RepeatedGeometricMedian
from tfl_research.algorithms import ALGORITHMS, FedAvg, FedProx
from tfl_research.errors import SettingError
from tfl_research.experiment import Experiment
from tfl_research.experiment.configs import (
    Audit,
    Cohorts,
    Devices,
    RecordLevelPrivacy,
    TaskChoice,
    Training,
    UserLevelPrivacy,
    Weighting,
)
from tfl_research.models.optimizers import ClientOptimizer, Optimizer, ServerOptimizer
from tfl_research.privacy import MECHANISMS
from tfl_research.program import Callback

NOISED = UserLevelPrivacy(noise_multiplier=1.0)
RECORDS = RecordLevelPrivacy(record_noise_multiplier=1.0)


def test_names_stand_for_settings():
    experiment = Experiment("heart")
    assert experiment.task == TaskChoice("heart")
    assert experiment.algorithm == experiment.chosen_algorithm == FedAvg()
    assert experiment.aggregator == experiment.chosen_aggregator == Mean()
    assert experiment.client_optimizer == ClientOptimizer("sgd", 0.1)
    assert experiment.server_optimizer == ServerOptimizer("sgd", 1.0)
    assert experiment == Experiment(TaskChoice("heart"), FedAvg(), aggregator=Mean())
    other = Experiment("heart", "fed_prox")
    assert other.algorithm == FedProx()


def test_an_experiment_shows_what_differs_from_the_defaults():
    assert repr(Experiment("heart")) == "Experiment(task=TaskChoice(task='heart'))"
    made = Experiment(
        "heart", algorithm="scaffold", training=Training(rounds=3), name="mine"
    )
    assert repr(made) == (
        "Experiment(task=TaskChoice(task='heart'), algorithm=Scaffold(), "
        "training=Training(rounds=3), name='mine')"
    )


def test_an_experiment_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Experiment("heart").task = "mnist"


@pytest.mark.parametrize(
    ("part", "wrong", "message"),
    [
        ("task", 3, "task must be TaskChoice or Task, got int 3"),
        ("task", None, "task must be TaskChoice or Task, got NoneType None"),
        ("task", Training(), "task must be TaskChoice or Task, got Training Training("),
        ("algorithm", 3, "algorithm must be AlgorithmSettings, got int 3"),
        ("algorithm", None, "algorithm must be AlgorithmSettings, got NoneType None"),
        ("algorithm", FedAvg, "algorithm must be AlgorithmSettings, got type <class"),
        ("algorithm", Mean(), "algorithm must be AlgorithmSettings, got Mean Mean()"),
        ("aggregator", 3, "aggregator must be AggregatorSettings"),
        ("aggregator", None, "aggregator must be AggregatorSettings"),
        ("aggregator", Mean, "aggregator must be AggregatorSettings"),
        ("aggregator", FedAvg(), "aggregator must be AggregatorSettings"),
        (
            "client_optimizer",
            "sgd",
            "client_optimizer must be an Optimizer, as SGD(0.1), got str 'sgd'",
        ),
        (
            "server_optimizer",
            0.1,
            "server_optimizer must be an Optimizer, as SGD(0.1), got float 0.1",
        ),
        ("batches", 20, "batches must be Batches, got int 20"),
        ("cohorts", "poisson", "cohorts must be Cohorts, got str 'poisson'"),
        ("weighting", "uniform", "weighting must be Weighting, got str 'uniform'"),
        (
            "privacy",
            "gaussian",
            "privacy must be UserLevelPrivacy or RecordLevelPrivacy or None, got str",
        ),
        ("privacy", Audit(), "privacy must be UserLevelPrivacy or RecordLevelPrivacy"),
        ("compression", None, "compression must be Compression, got NoneType None"),
        ("devices", 50, "devices must be Devices, got int 50"),
        ("silos", 0.2, "silos must be Silos, got float 0.2"),
        ("attack", "alie", "attack must be Attack, got str 'alie'"),
        ("audit", True, "audit must be Audit or None, got bool True"),
        ("baseline", "pooled", "baseline must be Baseline, got str 'pooled'"),
        (
            "personal_evaluation",
            "yes",
            "personal_evaluation must be bool, got str 'yes'",
        ),
        ("training", {"rounds": 3}, "training must be Training, got dict {'rounds': 3"),
        ("runtime", "tff", "runtime must be Runtime, got str 'tff'"),
        ("callbacks", 3, "callbacks must be tuple, got int 3"),
        ("callbacks", Callback(), "callbacks must be tuple, got Callback <"),
        ("callbacks", [print], "callbacks must be objects of Callback, got builtin_fu"),
        ("callbacks", [Callback], "callbacks must be objects of Callback, got type <"),
        ("name", None, "name must be str, got NoneType None"),
    ],
)
def test_what_is_not_of_its_kind(part, wrong, message):
    with pytest.raises(SettingError) as raised:
        Experiment(**{"task": "heart", part: wrong})
    for said in (str(raised.value), raised.value.for_command_line):
        assert said.startswith(message)
        assert "\n" not in said
        assert len(said) < 250


class Slow(Optimizer):
    """Code of a user's own, which the record of a run would not have."""

    def build(self):
        raise AssertionError("the settings alone were taken")


class LikeTffs:
    def next(self, state, weights, gradients):
        return state, weights


@pytest.mark.parametrize("part", ["client_optimizer", "server_optimizer"])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Slow("sgd", 0.1), "itself, as SGD(0.1), got its subclass Slow; put an "),
        (LikeTffs(), "as SGD(0.1), got LikeTffs <"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_optimizer_of_a_users_own(part, given, message):
    with pytest.raises(SettingError) as raised:
        Experiment("heart", **{part: given})
    assert message in str(raised.value)
    assert "put an optimizer of your own into an algorithm of your" in str(raised.value)


def test_an_optimizer_of_the_other_side():
    """The gradient clip of a client optimizer would be lost at the server."""
    clipped = ClientOptimizer("sgd", 0.1, gradient_clip=1.0)
    with pytest.raises(SettingError, match="got its subclass ClientOptimizer"):
        Experiment("heart", server_optimizer=clipped)
    assert Experiment("heart", client_optimizer=clipped).client_optimizer is clipped


@pytest.mark.parametrize(
    ("part", "name", "message"),
    [
        ("task", "hart", "--task=hart: unknown task; give one of shakespeare, heart,"),
        ("algorithm", "fed", "--algorithm=fed: must be one of fed_avg, fed_prox, "),
        ("aggregator", "kram", "--aggregator=kram: must be one of mean, robust, "),
        ("algorithm", "", "--algorithm=: must be one of fed_avg, fed_prox, "),
    ],
)
def test_unknown_names_list_the_known_ones(part, name, message):
    with pytest.raises(SettingError) as raised:
        Experiment(**{"task": "heart", part: name})
    assert raised.value.for_command_line.startswith(message)
    assert str(raised.value).startswith(message[2:])


def test_callbacks_of_ones_own():
    class Own(Callback):
        pass

    one, two = Own(), Callback()
    assert Experiment("heart", callbacks=[one, two]).callbacks == (one, two)


class TestDefaults:
    @pytest.mark.parametrize(
        ("given", "sampler"),
        [
            ({}, "fixed"),
            ({"privacy": NOISED}, "poisson"),
            ({"privacy": RECORDS}, "full"),
            ({"devices": Devices(50)}, "fixed"),
            ({"privacy": NOISED, "devices": Devices(50)}, "fixed"),
            ({"privacy": NOISED, "audit": Audit()}, "poisson"),
            # A mechanism that does not take it refuses it.
            (
                {"privacy": UserLevelPrivacy("tree", noise_multiplier=1)},
                "poisson",
            ),
        ],
    )
    def test_of_the_sampler(self, given, sampler):
        experiment = Experiment("heart", **given)
        assert experiment.resolved_cohorts == Cohorts(sampler)
        assert experiment.cohorts == Cohorts()
        assert experiment.flat()["sampler"] == sampler
        # What is given stays.
        for name in ("poisson", "fixed", "shuffled", "full"):
            chosen = dataclasses.replace(experiment, cohorts=Cohorts(name))
            assert chosen.resolved_cohorts is chosen.cohorts
            assert chosen.flat()["sampler"] == name
        sized = dataclasses.replace(experiment, cohorts=Cohorts(cohort_size=3.0))
        if sampler != "full":
            assert sized.resolved_cohorts == Cohorts(sampler, 3)
        else:
            with pytest.raises(SettingError, match="takes every client"):
                _ = sized.resolved_cohorts

    @pytest.mark.parametrize("name", ALGORITHMS.names())
    def test_of_the_weighting_by_algorithm(self, name):
        uniform = name in ("scaffold", "fed_dyn", "fed_buff")
        experiment = Experiment("heart", name)
        kind = "uniform" if uniform else "examples"
        assert experiment.resolved_weighting == Weighting(kind)
        assert experiment.flat()["client_weighting"] == kind

    @pytest.mark.parametrize("name", AGGREGATORS.names())
    def test_of_the_weighting_by_aggregator(self, name):
        needs = {"root_examples": 5, "clip_radius": 1.0, "byzantine": 1}
        own = {f.name for f in dataclasses.fields(AGGREGATORS.get(name))}
        given = {k: v for k, v in needs.items() if k in own}
        chosen = AGGREGATORS.from_flat({"aggregator": name, **given})
        experiment = Experiment("heart", aggregator=chosen)
        kind = "examples" if chosen.takes_weights else "uniform"
        assert experiment.resolved_weighting == Weighting(kind)
        # The aggregator accepts the default.
        chosen.check_weights(kind)

    def test_of_the_weighting_by_privacy(self):
        for name in MECHANISMS.names():
            private = UserLevelPrivacy(name, noise_multiplier=1)
            found = Experiment("heart", privacy=private).resolved_weighting
            assert found == Weighting("uniform")
        records = Experiment("heart", privacy=RECORDS)
        assert records.resolved_weighting == Weighting("examples")

    @pytest.mark.parametrize(
        "given",
        [
            {},
            {"algorithm": "scaffold"},
            {"aggregator": Krum(byzantine=1)},
            {"privacy": NOISED},
            {"aggregator": RepeatedGeometricMedian()},
        ],
    )
    def test_a_given_weighting_stays(self, given):
        for weighting in (
            Weighting("uniform"),
            Weighting("examples"),
            Weighting("capped", 3),
        ):
            experiment = Experiment("heart", weighting=weighting, **given)
            assert experiment.resolved_weighting is experiment.weighting
            assert experiment.flat()["client_weighting"] == weighting.client_weighting


def test_a_task_of_ones_own_is_a_task():
    own = tasks.get("heart")
    assert Experiment(own).task is own


@pytest.mark.parametrize(
    ("part", "wrong", "ending"),
    [
        ("training", 10, "; give Training(...)"),
        (
            "training",
            Training,
            "; give an object, Training(...), in place of the class",
        ),
        ("algorithm", FedAvg, "; give an object, FedAvg(...), in place of the class"),
        (
            "callbacks",
            [Callback],
            "; give an object, Callback(...), in place of the class",
        ),
        ("callbacks", Callback(), "; give a list of callbacks, as [program.MLflow()]"),
        ("privacy", 8, "; give UserLevelPrivacy(...), RecordLevelPrivacy(...) or None"),
    ],
)
def test_what_to_give_in_place_of_it(part, wrong, ending):
    with pytest.raises(SettingError) as raised:
        Experiment(**{"task": "heart", part: wrong})
    assert str(raised.value).endswith(ending)


def test_wrong_parts_import_no_tensorflow():
    code = (
        "import sys\n"
        "import tfl_research as tfl\n"
        "for wrong in ({'aggregator': 3}, {'callbacks': [3]}, {'privacy': 'x'}):\n"
        "    try:\n"
        "        tfl.Experiment('heart', **wrong)\n"
        "    except tfl.SettingError as error:\n"
        "        print(error)\n"
        "print([m for m in ('tensorflow', 'tensorflow_federated') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    *messages, imported = done.stdout.splitlines()
    assert len(messages) == 3
    assert messages[0] == (
        "aggregator must be AggregatorSettings, got int 3; give the name of an "
        "aggregator, its settings or a TFF factory"
    )
    assert imported == "[]"
