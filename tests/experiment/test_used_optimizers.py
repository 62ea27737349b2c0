"""The run's record names an optimizer only if the algorithm uses this optimizer."""

from __future__ import annotations

import dataclasses

import pytest
import tensorflow as tf
import tensorflow_federated as tff

import tfl_research as tfl
from tfl_research import algorithms, clients, processes
from tfl_research.experiment import setup as setups
from tfl_research.experiment.running import building
from tfl_research.registry import registered

NAMES = algorithms.ALGORITHMS.names()


@dataclasses.dataclass(frozen=True)
class Own(algorithms.AlgorithmSettings):
    """Takes the steps and the server of the experiment, or its own."""

    NAME, SUMMARY = "own", "for tests"

    own_client: bool = tfl.settings.switch(False, "An own client optimizer.")
    own_server: bool = tfl.settings.switch(False, "An own server optimizer.")

    def build(self, context):
        steps, server = context.steps, context.server
        if self.own_client:
            own = tff.learning.optimizers.build_sgdm(0.5)
            steps = dataclasses.replace(steps, optimizer=own)
        if self.own_server:
            server = processes.OptimizerStep()
        return algorithms.Algorithm(clients.LocalTraining(steps), server)


@pytest.fixture(autouse=True)
def own():
    with registered(algorithms.ALGORITHMS, "own", Own):
        yield


def experiment(algorithm, **parts):
    training = tfl.Training(rounds=2, tensorboard=False, progress_bar=False)
    return tfl.Experiment("heart", algorithm=algorithm, training=training, **parts)


def processed(tried):
    return building.process(setups.prepare(tried), noise_seed=1)


class TestUndeclared:
    def test_the_experiments_optimizers(self):
        processed(experiment(Own()))

    @pytest.mark.parametrize(
        ("algorithm", "said"),
        [
            (
                Own(own_client=True),
                "algorithm=own: does not use context.steps.optimizer, .*; set "
                "OWN_CLIENT_STEP = True in Own",
            ),
            (
                Own(own_server=True),
                "algorithm=own: does not use context.server, .*; set "
                "OWN_SERVER_STEP = True in Own",
            ),
        ],
    )
    def test_one_that_is_not_used_is_refused(self, algorithm, said):
        with pytest.raises(tfl.SettingError, match=said):
            processed(experiment(algorithm))


class TestDeclared:
    @pytest.fixture(autouse=True)
    def declared(self, monkeypatch):
        monkeypatch.setattr(Own, "OWN_CLIENT_STEP", True)

    def test_the_record_does_not_name_the_client_optimizer(self, tmp_path):
        tried = experiment(Own(own_client=True))
        flat = tried.flat()
        names = ("client_optimizer", "client_learning_rate", "client_momentum")
        assert [flat[name] for name in names] == [None] * 3
        assert (flat["server_optimizer"], flat["server_learning_rate"]) == ("sgd", 1)
        assert tfl.Experiment.from_flat(flat).algorithm == Own(own_client=True)
        folder = tmp_path / "run"
        losses = tried.run(folder).metrics["train_loss"]
        assert tried.run(folder).metrics["train_loss"].equals(losses)
        # SGD of rate 0.5, as the algorithm says.
        same = experiment("fed_avg", client_optimizer=tfl.SGD(0.5))
        assert same.run(tmp_path / "same").metrics["train_loss"].equals(losses)

    def test_a_client_optimizer_that_would_be_ignored_is_refused(self):
        tried = experiment(Own(own_client=True), client_optimizer=tfl.SGD(0.3))
        with pytest.raises(tfl.SettingError, match=r"client_learning_rate=0\.3: own"):
            tried.check()

    def test_the_schedule_of_other_steps_keeps_its_rate(self):
        optimizer = tfl.SGD(0.3, learning_rate_schedule="inverse_sqrt")
        tried = experiment(Own(own_client=True), client_optimizer=optimizer)
        tried.check()
        flat = tried.flat()
        assert (flat["client_optimizer"], flat["client_learning_rate"]) == (None, 0.3)

    def test_one_that_is_used_all_the_same_is_refused(self):
        with pytest.raises(tfl.SettingError, match="OWN_CLIENT_STEP = False in Own"):
            processed(experiment(Own()))


def test_the_record_does_not_name_a_server_optimizer_that_is_replaced(monkeypatch):
    monkeypatch.setattr(Own, "OWN_SERVER_STEP", True)
    flat = experiment(Own(own_server=True)).flat()
    assert {v for n, v in flat.items() if n.startswith("server_")} == {None}


@pytest.mark.parametrize("name", NAMES)
def test_classes_of_the_toolkit_say_it_for_their_subclasses(name):
    """An own algorithm that differs from a built-in one in a default."""
    base = algorithms.ALGORITHMS.get(name)
    subclass = type("Sub", (base,), {"NAME": "sub", "SUMMARY": "a subclass"})
    parts = {}
    if base().buffering is not None:
        parts["devices"] = tfl.Devices(200)
        task = tfl.TaskChoice("mnist", num_clients=200)
    else:
        task = tfl.TaskChoice("mnist", num_clients=10)
    with registered(algorithms.ALGORITHMS, "sub", subclass):
        tried = tfl.Experiment(task, algorithm=subclass(), **parts)
        assert isinstance(processed(tried), tff.templates.IterativeProcess)


def test_a_watched_optimizer_computes_as_without():
    from tfl_research.experiment.used_optimizers import Watched

    plain = tff.learning.optimizers.build_adam(0.1)
    specs = (tf.TensorSpec([2]),)
    weights, gradients = (tf.constant([1.0, 2.0]),), (tf.constant([0.5, -1.0]),)
    for optimizer in (plain, Watched(plain)):
        state = optimizer.initialize(specs)
        state = optimizer.set_hparams(state, optimizer.get_hparams(state))
        _, moved = optimizer.next(state, weights, gradients)
        # Adam's first step is the learning rate along the sign.
        tf.debugging.assert_near(moved[0], [0.9, 2.1], atol=1e-4)
