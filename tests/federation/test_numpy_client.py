"""A class with Flower's methods as a site, against the same site in TensorFlow."""

import dataclasses

import numpy as np
import pytest
from federations import running

import tfl_research as tfl
from tfl_research.experiment.at_sites.numpy_client import NumPySite

pytestmark = pytest.mark.slow


class LogisticRegression:
    """One gradient step of logistic regression on all rows, in NumPy."""

    def __init__(self, examples, tests):
        self.examples, self.tests, self.rounds = examples, tests, []

    def get_parameters(self, config):
        return [np.zeros((self.examples[0].shape[1], 1)), np.zeros(1)]

    def fit(self, parameters, config):
        self.rounds.append(config["server_round"])
        (weights, bias), (x, y) = parameters, self.examples
        loss, right, error = self._judged(parameters, x, y)
        step = [x.T @ error / len(y), error.sum(0) / len(y)]
        trained = [weights - 0.5 * step[0], bias - 0.5 * step[1]]
        return trained, len(y), {"loss": loss, "accuracy": right}

    def evaluate(self, parameters, config):
        loss, right, _ = self._judged(parameters, *self.tests)
        return loss, len(self.tests[1]), {"accuracy": right}

    @staticmethod
    def _judged(parameters, x, y):
        logits = x @ np.float64(parameters[0]) + parameters[1]
        chance = 1 / (1 + np.exp(-logits))
        losses = -np.log(np.where(y > 0, chance, 1 - chance))
        return losses.mean(), np.mean((logits > 0) == (y > 0)), chance - y


def arrays(clients):
    """A client's rows as the task encodes them."""
    examples = clients.load("west")
    x = np.concatenate(
        [
            np.reshape(examples[name], (len(examples["y"]), -1))
            for name in clients.specs
            if name != "y"
        ],
        axis=1,
    )
    return np.float64(x), np.float64(examples["y"]).reshape(-1, 1)


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    with running(tmp_path_factory.mktemp("numpy"), names=("north", "west")) as started:
        yield started


def test_a_class_of_ones_own_trains_as_the_site_it_replaces(federation, tmp_path):
    experiment = federation.experiment(
        client_optimizer=tfl.SGD(0.5),
        batches=tfl.Batches(batch_size=500),
        training={"rounds": 3, "evaluate_every": 1, "selection_metric": "loss"},
        execution="separate_graph",
    )
    linear = dataclasses.replace(experiment.task, task_option=("model=linear",))
    experiment = dataclasses.replace(experiment, task=linear)
    expected = experiment.run(tmp_path / "ours")
    whole = tfl.TaskChoice(
        "csv", data_dir=str(federation.folder / "all"), label_column="y"
    ).build(experiment.training.seed)
    client = LogisticRegression(arrays(whole.train), arrays(whole.test))
    federation.stop("west")
    site = federation.site_file("west")
    federation.start(
        "west",
        NumPySite(site, client, len(client.examples[1]), federation.lines.append),
    )
    found = experiment.run(tmp_path / "theirs")
    assert client.rounds == [1, 2, 3]
    for ours, theirs in zip(
        expected.model().get_weights(), found.model().get_weights()
    ):
        np.testing.assert_allclose(theirs, ours, atol=1e-5)
    for name in ("train_loss", "train_accuracy", "eval_loss", "eval_accuracy"):
        np.testing.assert_allclose(
            found.metrics[name], expected.metrics[name], rtol=1e-4, err_msg=name
        )


def test_the_number_of_examples_stays_where_the_policy_wants_it(federation):
    site = federation.site_file("west")
    policy = dataclasses.replace(site.policy, metrics=("loss",))
    experiment = federation.experiment(secure_sums=tfl.SecureSums(True))
    told = {}
    for examples in (1207, 1208):
        client = LogisticRegression((np.zeros((1, 4)), np.zeros((1, 1))), None)
        work = NumPySite(
            dataclasses.replace(site, policy=policy), client, examples, print
        )
        told[examples] = work._facts(work._task(experiment)).header()
        assert told[examples]["sizes"] is None
        assert str(examples) not in repr(told[examples])
    assert told[1207]["mark"] != told[1208]["mark"]
