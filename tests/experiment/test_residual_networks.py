"""Residual networks with batch normalization: averaged and local statistics."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

import tfl_research as tfl
from tfl_research import tasks
from tfl_research.errors import SettingError, UserError

CLIENTS = ("north", "south", "west")


def residual_network():
    import tensorflow as tf

    layers = tf.keras.layers
    images = layers.Input([6, 6, 1])
    x = layers.Conv2D(4, 3, padding="same")(images)
    for _ in range(2):
        inner = layers.BatchNormalization(momentum=0.5)(x)
        inner = layers.Conv2D(4, 3, padding="same")(layers.ReLU()(inner))
        x = layers.Add()([x, layers.BatchNormalization(momentum=0.5)(inner)])
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    return tf.keras.Model(images, layers.Dense(2)(x))


def task_of(non_trainable, **options):
    """Clients whose images differ in brightness, as from different cameras."""
    generator = np.random.default_rng(0)
    clients = {}
    for number, name in enumerate(CLIENTS):
        x = generator.normal(2.0 * number, 1.0 + number, size=(12, 6, 6, 1))
        clients[name] = {"x": x, "y": (x.mean((1, 2, 3)) > 2 * number).astype(int)}
    return tasks.from_arrays(
        clients,
        model=residual_network,
        non_trainable=non_trainable,
        test=0.25,
        **options,
    )


def experiment_of(task, rounds=2, **training):
    return tfl.Experiment(
        task,
        client_optimizer=tfl.SGD(0.1),
        batches=tfl.Batches(batch_size=3),
        cohorts=tfl.Cohorts(cohort_size=2),
        training=tfl.Training(rounds=rounds, **training),
    )


def test_averaged_statistics_are_in_the_model_that_is_evaluated_and_exported(tmp_path):
    task = task_of("averaged")
    result = experiment_of(task).run(tmp_path / "run")
    model = result.model()
    moved = [w for w in model.non_trainable_weights if "mean" in w.name]
    assert all(np.abs(w.numpy()).max() > 0 for w in moved)
    x, y = (
        np.concatenate([task.test.load(name)[part] for name in task.test.client_ids])
        for part in ("x", "y")
    )
    right = model.predict(x, verbose=0).argmax(1) == y
    assert result.metrics["eval_accuracy"].iloc[-1] == pytest.approx(right.mean())


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    folder = tmp_path_factory.mktemp("local") / "run"
    task = task_of("local")
    experiment = dataclasses.replace(experiment_of(task), personal_evaluation=True)
    return task, experiment.run(folder)


def test_clients_are_evaluated_with_their_own_statistics(local):
    from tfl_research.clients.local_state import own_state

    task, result = local
    functional = task.functional_model()
    spec = _Spec(_initial(functional))
    states = tfl.storage.client_states.ClientStates(
        result.path / "client_states.sqlite", spec
    )
    model, found, of_all = result.model(), {}, []
    initial = [w.numpy() for w in model.non_trainable_weights]
    for name in CLIENTS:
        own = own_state(functional, states.rows([name])[0], initial)
        for weight, value in zip(model.non_trainable_weights, own):
            weight.assign(value)
        examples = task.test.load(name)
        if not len(examples["y"]):
            continue
        predicted = model.predict(examples["x"], verbose=0)
        shifted = predicted - predicted.max(1, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        of_all.append(-logs[np.arange(len(logs)), examples["y"]])
        found[name] = float(of_all[-1].mean())
    evaluation = result.ended.evaluations["final", "eval"]
    losses = dict(zip(evaluation.client_ids, evaluation.per_client["loss"]))
    assert len(found) >= 2
    for name, loss in found.items():
        assert losses[name] == pytest.approx(loss, abs=1e-5)
    assert result.metrics["eval_loss"].iloc[-1] == pytest.approx(
        np.concatenate(of_all).mean(), abs=1e-5
    )


def test_the_model_of_a_client(local):
    """Its final weights with the client's own statistics, or its personal model."""
    task, result = local
    evaluation = result.ended.evaluations["final", "eval"]
    losses = dict(zip(evaluation.client_ids, evaluation.per_client["loss"]))
    losses = {name: loss for name, loss in losses.items() if np.isfinite(loss)}
    shared = result.model()

    def differs(name):
        examples = task.test.load(name)
        return abs(loss_of(shared, examples["x"], examples["y"]) - losses[name])

    name = max(losses, key=differs)  # Another may not have been in a cohort yet.
    assert differs(name) > 1e-3
    x, y = task.test.load(name)["x"], task.test.load(name)["y"]
    expected, own = losses[name], result.model_of(name)
    for ours, theirs in zip(own.trainable_weights, shared.trainable_weights):
        np.testing.assert_array_equal(ours, theirs)
    assert loss_of(own, x, y) == pytest.approx(expected, abs=1e-5)
    personal = result.model_of(name, personal=True)
    evaluated = result.ended.summary["personal"]
    table = pd.read_csv(result.path / "personal_clients.csv", index_col="client_id")
    assert evaluated["clients"] == len(table)
    assert loss_of(personal, x, y) == pytest.approx(
        table.loc[name, "personal_loss"], abs=1e-5
    )
    assert table.loc[name, "global_loss"] == pytest.approx(expected, abs=1e-5)
    with pytest.raises(UserError, match="'east' is not one of the 3 trained clients"):
        result.model_of("east")


def loss_of(model, x, y):
    logits = model.predict(x, verbose=0).astype(np.float64)
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return -logs[np.arange(len(y)), y].mean()


def test_no_model_of_an_earlier_round_is_the_best(local, tmp_path):
    _, result = local
    assert result.ended.best_round is None
    assert "own statistics" in str(result.summary)
    chooses = experiment_of(task_of("local"), selection_metric="eval_loss")
    with pytest.raises(UserError, match=r"selection_metric.*own statistics"):
        chooses.run(tmp_path / "run")


def test_clients_without_statistics_are_refused(tmp_path):
    with pytest.raises(ValueError, match="'far' of held_out is never trained"):
        task_of("local", held_out={"far": {"x": np.zeros((2, 6, 6, 1)), "y": [0, 1]}})
    with pytest.raises((SettingError, ValueError), match="averaged"):
        dataclasses.replace(
            experiment_of(task_of("averaged")),
            privacy=tfl.UserLevelPrivacy(noise_multiplier=1.0),
        ).run(tmp_path / "never")


@dataclasses.dataclass
class _Spec:
    initial: np.ndarray
    capacity: int = 1


def _initial(functional):
    parts = [np.ravel(functional.initial_state[index]) for index in functional.local]
    return np.concatenate(parts).astype(np.float32)
