"""Personal models' metrics against NumPy, and clients that lack something."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import types

import numpy as np
import pytest
import tensorflow_federated as tff

from tfl_research import clients, data, models, program, tasks
from tfl_research.program.evaluation.client_metrics import Evaluation
from tfl_research.program.evaluation.personal_metrics import PersonalEvaluation
from tfl_research.runtime import cores

RATE = 0.1
WEIGHT, BIAS = np.array([[0.3], [0.7]], np.float32), np.array([-0.2], np.float32)
TRAIN = {"a": 5, "b": 2, "none": 0, "untested": 3}
TEST = {"a": 4, "b": 7, "none": 3, "untested": 0, "unseen": 2}


def held(sizes, seed):
    found = {}
    for number, (name, size) in enumerate(sizes.items()):
        generator = np.random.default_rng([seed, number])
        x = generator.normal(size=(size, 2)).astype(np.float32)
        y = (3.0 * number + generator.normal(size=size)).astype(np.float32)
        found[name] = (x, y)
    return found


@pytest.fixture(scope="module")
def task(make_linear_task):
    batching = data.Batching(batch_size=2, epochs=2, shuffle=False)
    train = make_linear_task(held(TRAIN, 1), batching)
    test = make_linear_task(held(TEST, 2), batching)
    return dataclasses.replace(train, test=test.train)


def evaluator(task, batch_size=3):
    steps = clients.LocalSteps(tff.learning.optimizers.build_sgdm(RATE))
    model = task.functional_model()
    personal = clients.LocalTraining(steps).build_personal(
        model, task.build_objective()
    )
    return program.PersonalEvaluator(task, personal, model, batch_size=batch_size)


def state():
    weights = types.SimpleNamespace(trainable=(WEIGHT, BIAS), non_trainable=())
    return types.SimpleNamespace(global_model_weights=weights, finalizer=())


def loss(weight, bias, x, y):
    return float(np.mean(0.5 * (x @ weight[:, 0] + bias[0] - y) ** 2))


def tuned(x, y):
    """Two epochs of steps on two examples each."""
    weight, bias = WEIGHT.astype(float), BIAS.astype(float)
    for _ in range(2):
        for first in range(0, len(y), 2):
            rows = slice(first, first + 2)
            errors = x[rows] @ weight[:, 0] + bias[0] - y[rows]
            weight = weight - RATE * (x[rows].T @ errors / len(errors))[:, None]
            bias = bias - RATE * errors.mean()
    return weight, bias


@pytest.fixture(scope="module")
def found(task):
    return evaluator(task).evaluate(state(), 7, progress_bar=False)


def expected():
    train, test = held(TRAIN, 1), held(TEST, 2)
    models = dict.fromkeys(TEST, (WEIGHT, BIAS))
    models.update({name: tuned(*train[name]) for name in ("a", "b")})
    names = ["a", "b", "none", "unseen"]
    return (
        names,
        [loss(WEIGHT, BIAS, *test[name]) for name in names],
        [loss(*models[name], *test[name]) for name in names],
    )


def test_metrics_are_those_by_hand(found):
    names, common, personal = expected()
    assert list(found.personal.client_ids) == names
    np.testing.assert_array_equal(found.personal.examples, [4, 7, 3, 2])
    np.testing.assert_array_equal(found.train_examples, [5, 2, 0, 0])
    np.testing.assert_allclose(found.global_model.per_client["loss"], common, rtol=1e-5)
    np.testing.assert_allclose(found.personal.per_client["loss"], personal, rtol=1e-5)
    total = np.average(personal, weights=[4, 7, 3, 2])
    assert found.personal.overall["loss"] == pytest.approx(total, rel=1e-5)


def test_the_summary_has_mean_worst_decile_and_who_gains(found):
    _, common, personal = expected()
    summary = found.summary()
    assert summary["round"] == 7
    assert summary["clients"] == 4
    for name, losses in (("global", common), ("personal", personal)):
        # The worst tenth of four clients is one client.
        mean, worst = np.mean(losses), max(losses)
        assert summary[f"{name}_client_mean_loss"] == pytest.approx(mean, rel=1e-5)
        found_worst = summary[f"{name}_client_worst_decile_loss"]
        assert found_worst == pytest.approx(worst, rel=1e-5)
    gains = np.mean(np.array(personal) < np.array(common))
    assert 0 < gains < 1
    assert summary["gain_share_loss"] == gains
    assert found.lines()[0].endswith(f"better for {gains:.1%} of 4 clients")


def test_who_gains_where_a_model_diverged_or_a_metric_is_undefined():
    """One class at d: no AUC. The personal model of c diverged, and is no better."""
    nan = math.nan
    names, count = ("a", "b", "c", "d"), np.full(4, 3)
    losses, areas = np.array([1.0, 1.0, 1.0, 1.0]), np.array([0.5, 0.5, 0.5, nan])
    ours, our_areas = np.array([0.5, 2.0, nan, 0.5]), np.array([0.9, 0.4, nan, nan])
    both = [
        Evaluation({}, names, count, {"loss": loss, "auc": auc})
        for loss, auc in ((losses, areas), (ours, our_areas))
    ]
    found = PersonalEvaluation(3, *both, count)
    assert found.gains("loss") == 0.5
    assert found.compared("loss") == 4
    assert found.gains("auc") == pytest.approx(1 / 3)
    assert found.lines()[0].endswith("better for 50.0% of 4 clients")
    assert found.lines()[1].endswith("better for 33.3% of 3 clients")
    # The AUC of c is NaN since its model diverged, and not for want of a class.
    assert math.isnan(both[1].spread("auc").mean)
    assert both[0].spread("auc").mean == 0.5


def test_the_table_has_a_row_for_each_client_with_test_examples(found):
    names, common, personal = expected()
    rows = list(csv.DictReader(io.StringIO(found.table().decode())))
    assert [row["client_id"] for row in rows] == names
    assert [row["train_examples"] for row in rows] == ["5", "2", "0", "0"]
    for row, before, after in zip(rows, common, personal):
        assert float(row["global_loss"]) == pytest.approx(before, rel=1e-5)
        assert float(row["personal_loss"]) == pytest.approx(after, rel=1e-5)


def test_the_batch_size_changes_nothing(task, found):
    whole = evaluator(task, batch_size=100).evaluate(state(), 7, progress_bar=False)
    np.testing.assert_allclose(
        whole.personal.per_client["loss"], found.personal.per_client["loss"], rtol=1e-6
    )


def test_clients_at_a_time_change_nothing(monkeypatch, task, found):
    monkeypatch.setattr(cores, "jobs_at_once", lambda: 3)
    at_a_time = evaluator(task).evaluate(state(), 7, progress_bar=False)
    assert at_a_time.personal.client_ids == found.personal.client_ids
    np.testing.assert_array_equal(at_a_time.train_examples, found.train_examples)
    for name in ("global_model", "personal"):
        one, other = getattr(at_a_time, name), getattr(found, name)
        assert one.overall == other.overall
        for metric, values in other.per_client.items():
            np.testing.assert_array_equal(one.per_client[metric], values)


def test_one_graph_serves_clients_of_every_size(make_linear_task):
    sizes = {f"c{n}": n for n in range(1, 9)}
    many = make_linear_task(held(sizes, 3), data.Batching(batch_size=2))
    traces = []
    steps = clients.LocalSteps(tff.learning.optimizers.build_sgdm(RATE))
    model = many.functional_model()
    personal = clients.LocalTraining(steps).build_personal(
        model, many.build_objective()
    )

    def counted(*arguments):
        traces.append(None)
        return personal(*arguments)

    made = program.PersonalEvaluator(many, counted, model)
    made.evaluate(state(), 1, progress_bar=False)
    # The first two sizes, and one graph for all others.
    assert len(traces) <= 2


def test_no_client_with_test_examples(task, make_linear_task):
    nobody = make_linear_task({"a": (np.zeros((0, 2)), np.zeros(0))})
    found = evaluator(dataclasses.replace(task, test=nobody.train)).evaluate(
        state(), 1, progress_bar=False
    )
    assert found.summary() == {"round": 1, "clients": 0}
    assert found.lines() == ["personal models: no client has test examples"]
    assert found.table() == b"client_id,examples,train_examples\n"


def test_a_personal_model_whose_loss_is_nan_is_no_gain(found):
    changed = dataclasses.replace(
        found.personal, per_client={"loss": np.array([0.0, math.nan, 0.0, 99.0])}
    )
    with_nan = dataclasses.replace(found, personal=changed)
    assert with_nan.gains("loss") == 0.5


def test_bad_settings_are_refused(task):
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        evaluator(task, batch_size=0)
    drawn = dataclasses.replace(
        task, train=task.train.with_batching(data.PoissonBatching(2, 2.0))
    )
    with pytest.raises(ValueError, match="Poisson"):
        evaluator(drawn)


def test_the_auc_of_saturated_scores_is_exact(task):
    """Of the model whose logit is x, and of a personal model whose logit is -x."""
    x = np.array([300.0, 100.0, 200.0, 400.0, 100.0], np.float32)
    y = np.array([1, 0, 1, 0, 1], np.int32)
    held = {
        "a": {"x": x[:3, None], "y": y[:3]},
        "b": {"x": x[3:, None], "y": y[3:]},
        "one class": {"x": x[:1, None], "y": y[:1]},
    }
    clients_data = data.ClientData.from_arrays(held)
    binary = dataclasses.replace(
        task,
        train=clients_data,
        test=clients_data,
        build_objective=tasks.objectives.binary,
    )
    model = models.FunctionalModel(
        (np.ones((1, 1), np.float32),),
        lambda weights, state, x, *_: models.Forward(x @ weights[0], 0.0, state),
    )
    evaluator = program.PersonalEvaluator(
        binary, lambda weights, *_: [-weights[0]], model, batch_size=2
    )
    weights = types.SimpleNamespace(trainable=model.initial_weights, non_trainable=())
    state = types.SimpleNamespace(global_model_weights=weights, finalizer=())
    found = evaluator.evaluate(state, 1, progress_bar=False)
    # Scores of the positives 300, 200, 100 and 300, of the negatives 100 and 400.
    assert found.global_model.overall["auc"] == pytest.approx((3 + 0.5) / 8)
    assert found.personal.overall["auc"] == pytest.approx((4 + 0.5) / 8)
    np.testing.assert_array_equal(
        found.global_model.per_client["auc"], [1.0, 0.0, np.nan]
    )
    np.testing.assert_array_equal(found.personal.per_client["auc"], [0.0, 1.0, np.nan])


def test_personal_models_have_their_own_non_trainable_weights():
    """The prediction is x times the weight, plus the model's state."""
    arrays = {"a": {"x": np.ones((2, 1), np.float32), "y": np.zeros(2, np.float32)}}
    held = data.ClientData.from_arrays(arrays)
    card = tasks.Card("t", "client", "y", "here", "none")
    made = tasks.Task("t", card, held, held, None, None, tasks.objectives.regression)
    model = models.FunctionalModel(
        (np.ones((1, 1), np.float32),),
        lambda weights, state, x, *_: models.Forward(
            x @ weights[0] + state[0], 0.0, state
        ),
        initial_state=(np.zeros(1, np.float32),),
    )

    def personal(weights, steps, round_number):
        return clients.PersonalModel(
            [2 * weights[0]], (steps["model_state"][0] + 10.0,)
        )

    evaluator = program.PersonalEvaluator(made, personal, model)
    given = types.SimpleNamespace(
        trainable=model.initial_weights, non_trainable=(np.full(1, 3.0, np.float32),)
    )
    state = types.SimpleNamespace(global_model_weights=given, finalizer=())
    found = evaluator.evaluate(state, 1, progress_bar=False)
    assert found.global_model.overall["loss"] == pytest.approx((1 + 3) ** 2)
    assert found.personal.overall["loss"] == pytest.approx((2 + 13) ** 2)
