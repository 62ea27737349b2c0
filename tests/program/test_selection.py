"""Best model, early stopping and metrics across clients, by hand."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from tfl_research.program.evaluation.client_metrics import (
    Evaluation,
    client_table,
)
from tfl_research.program.evaluation.selection import Selection
from tfl_research.tasks.metrics import Metric, higher_is_better


def test_direction_is_known_by_name():
    assert higher_is_better("eval_accuracy", {})
    assert higher_is_better("held_out_auc", {})
    assert not higher_is_better("eval_client_worst_loss", {})
    with pytest.raises(
        ValueError, match="it is not known whether a higher 'eval_size'"
    ):
        higher_is_better("eval_size", {})


@pytest.mark.parametrize(
    ("metric", "values", "best_round"),
    [
        ("eval_accuracy", [0.1, 0.3, 0.2], 2),
        ("eval_loss", [3.0, 1.0, 2.0], 2),
        ("eval_accuracy", [math.nan, 0.1, math.nan], 2),
        ("eval_loss", [1.0, math.nan, -math.inf], 3),
        ("eval_accuracy", [0.5, 0.5], 1),
        ("eval_accuracy", [math.nan, math.nan], None),
    ],
)
def test_best_round(metric, values, best_round):
    selection = Selection(metric)
    for number, value in enumerate(values, start=1):
        selection.update(number, value)
    assert selection.best_round == best_round
    assert not selection.should_stop


def test_a_declared_metric_has_its_direction_under_any_name():
    declared = {"my_error": Metric(True), "size": Metric(False), "error": Metric(False)}
    for column, best in (
        ("eval_my_error", 2),
        ("eval_client_mean_size", 1),
        ("held_out_error", 1),
    ):
        selection = Selection(column, metrics=declared)
        for number, value in enumerate([0.1, 0.3, 0.2], start=1):
            selection.update(number, value)
        assert selection.best_round == best
    both = Selection("eval_my_error:1,eval_size:2", metrics=declared)
    assert both.value_of({"eval_my_error": 0.5, "eval_size": 0.2}) == pytest.approx(0.1)
    found = dataclasses.replace(
        evaluation(my_error=[0.2, 0.4, 0.9, math.nan], spot=[1.0, 2.0, 3.0, math.nan]),
        metrics=declared,
    )
    assert found.spread("my_error").worst == 0.2
    assert found.spread("my_error").worst_decile == 0.2
    # Nobody has said which spots are good.
    assert math.isnan(found.spread("spot").worst)
    assert found.spread("spot").mean == pytest.approx(2.0)
    assert "eval_client_mean_spot" in found.columns("eval")
    assert "eval_client_worst_spot" not in found.columns("eval")


def test_patience_counts_evaluations_without_improvement():
    selection = Selection("eval_accuracy", patience=2)
    stops = []
    for number, value in enumerate([0.1, 0.1, 0.2, 0.1, math.nan], start=1):
        selection.update(number, value)
        stops.append(selection.should_stop)
    assert stops == [False, False, False, False, True]
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Selection("eval_accuracy", patience=0)


def test_state_survives_json():
    selection = Selection("eval_accuracy", patience=2)
    selection.update(1, 1 / 3)
    selection.update(2, 0.1)
    other = Selection("eval_accuracy", patience=2)
    other.restore(json.loads(json.dumps(selection.export())))
    assert (other.best_round, other.best_value) == (1, 1 / 3)
    other.update(3, 0.2)
    assert other.should_stop
    with pytest.raises(ValueError, match="eval_accuracy, expected eval_loss"):
        Selection("eval_loss").restore(selection.export())


def evaluation(**per_client):
    columns = {name: np.array(values) for name, values in per_client.items()}
    return Evaluation(
        dict.fromkeys(columns, 0.5),
        ("a", "b", "c", "d"),
        np.array([1, 2, 3, 0]),
        columns,
    )


def test_spread_over_clients():
    spread = evaluation(accuracy=[0.2, 0.4, 0.9, math.nan]).spread("accuracy")
    assert spread.mean == pytest.approx(0.5)
    assert spread.worst == 0.2
    # The worst tenth of three clients is one client.
    assert spread.worst_decile == 0.2
    spread = evaluation(loss=[1.0, 2.0, 4.0, math.nan]).spread("loss")
    assert spread.worst == 4.0
    assert spread.worst_decile == 4.0


def of_clients(metric, values):
    """An evaluation of so many clients with two examples each."""
    count = len(values)
    names = tuple(str(number) for number in range(count))
    columns = {metric: np.array(values, float)}
    return Evaluation({}, names, np.full(count, 2), columns).spread(metric)


@pytest.mark.parametrize(
    ("metric", "values", "worst_decile", "worst"),
    [
        ("accuracy", [0.7], 0.7, 0.7),
        ("loss", [0.7], 0.7, 0.7),
        # Ten clients: one. Eleven and twenty: two. Twenty-one: three.
        ("accuracy", [0.1 * n for n in range(1, 11)], 0.1, 0.1),
        ("accuracy", [0.5, 0.1, 0.9, 0.3, *[0.8] * 7], (0.1 + 0.3) / 2, 0.1),
        ("loss", [0.5, 4.0, 0.9, 3.0, *[0.8] * 7], (4.0 + 3.0) / 2, 4.0),
        ("loss", [1.0] * 18 + [2.0, 6.0], 4.0, 6.0),
        ("loss", [1.0] * 18 + [2.0, 6.0, 7.0], 5.0, 7.0),
        # Equal values at the border: any of them gives the same mean.
        ("accuracy", [0.2, 0.4, 0.4, 0.4, *[0.9] * 8], (0.2 + 0.4) / 2, 0.2),
        ("accuracy", [0.6] * 12, 0.6, 0.6),
        # An AUC is undefined for clients with one class: ten clients remain.
        ("auc", [0.5, 0.6, *[0.9] * 8, math.nan], 0.5, 0.5),
        # A loss that is NaN is a model that diverged.
        ("loss", [0.5, math.nan, *[0.9] * 10], math.nan, math.nan),
        ("loss", [1.0, math.inf, *[0.9] * 10], math.inf, math.inf),
    ],
)
def test_the_worst_decile_is_the_mean_of_the_worst_tenth(
    metric, values, worst_decile, worst
):
    spread = of_clients(metric, values)
    assert spread.worst_decile == pytest.approx(worst_decile, nan_ok=True)
    assert spread.worst == pytest.approx(worst, nan_ok=True)


def test_a_client_that_diverged_is_not_hidden():
    spread = evaluation(loss=[1.0, math.nan, 4.0, math.nan]).spread("loss")
    assert math.isnan(spread.mean)
    assert math.isnan(spread.worst)
    # An AUC is undefined for clients with one class, and then left out.
    spread = evaluation(auc=[0.5, math.nan, 0.7, math.nan]).spread("auc")
    assert spread.mean == pytest.approx(0.6)


def test_means_weighted_by_client():
    columns = {
        "accuracy": np.array([0.2, 0.4, 0.9, math.nan]),
        "auc": np.array([0.5, math.nan, 0.8, math.nan]),
    }
    found = Evaluation(
        {"accuracy": 0.5, "auc": 0.6},
        ("a", "b", "c", "d"),
        np.array([1, 2, 3, 0]),
        columns,
        np.array([1.0, 0.0, 3.0, 100.0]),
    )
    # d has no examples, and b counts nothing.
    cells = found.columns("eval")
    assert cells["eval_weighted_mean_accuracy"] == pytest.approx((0.2 + 2.7) / 4)
    assert cells["eval_weighted_mean_auc"] == pytest.approx((0.5 + 2.4) / 4)
    assert cells["eval_client_mean_accuracy"] == pytest.approx(0.5)
    assert higher_is_better("eval_weighted_mean_accuracy", {})
    # A client that diverged is not hidden, unless it counts nothing.
    columns["accuracy"][1] = math.nan
    assert found.weighted_mean("accuracy") == pytest.approx((0.2 + 2.7) / 4)
    columns["accuracy"][2] = math.nan
    assert math.isnan(found.weighted_mean("accuracy"))
    nobody = dataclasses.replace(found, weights=np.zeros(4))
    assert math.isnan(nobody.weighted_mean("auc"))
    with pytest.raises(ValueError, match="no weights of clients"):
        dataclasses.replace(found, weights=None).weighted_mean("auc")


def test_no_client_with_examples():
    empty = Evaluation({}, ("a",), np.array([0]), {"loss": np.array([math.nan])})
    assert math.isnan(empty.spread("loss").worst)


def test_columns_and_table():
    found = evaluation(accuracy=[0.2, 0.4, 0.9, math.nan])
    assert dict(found.columns("eval")) == {
        "eval_accuracy": 0.5,
        "eval_client_mean_accuracy": pytest.approx(0.5),
        "eval_client_worst_decile_accuracy": 0.2,
        "eval_client_worst_accuracy": 0.2,
    }
    lines = client_table({("final", "eval"): found}).decode().splitlines()
    assert lines == [
        "model,split,client_id,examples,accuracy",
        "final,eval,a,1,0.2",
        "final,eval,b,2,0.4",
        "final,eval,c,3,0.9",
        "final,eval,d,0,",
    ]


def test_weighted_metrics_by_hand():
    selection = Selection("eval_auc:0.7,eval_loss:0.3")
    assert selection.columns == ("eval_auc", "eval_loss")
    cells = [{"eval_auc": 0.8, "eval_loss": 0.5}, {"eval_auc": 0.82, "eval_loss": 0.6}]
    assert [selection.value_of(c) for c in cells] == pytest.approx([0.41, 0.394])
    better = [selection.update(n, selection.value_of(c)) for n, c in enumerate(cells)]
    assert better == [True, False]
    assert math.isnan(selection.value_of({"eval_auc": math.nan, "eval_loss": 1.0}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("eval_auc:0.7,eval_loss", "'eval_loss' has no weight"),
        ("eval_auc:0,eval_loss:1", "'eval_auc:0' must have a weight above 0"),
        ("eval_auc:x", "must have a weight above 0"),
        ("eval_auc:1,eval_auc:2", "'eval_auc' is given twice"),
        ("eval_size:1,eval_auc:1", "it is not known whether a higher 'eval_size'"),
    ],
)
def test_wrong_weights(text, message):
    with pytest.raises(ValueError, match=message):
        Selection(text)
