"""The area under the ROC curve against all pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics

from tfl_research.tasks import ranking


def all_pairs(positive, scores):
    one, zero = scores[positive], scores[~positive]
    return ((one[:, None] > zero) + 0.5 * (one[:, None] == zero)).mean()


@pytest.mark.parametrize(
    ("positive", "scores", "expected"),
    [
        ([True, False], [2.0, 1.0], 1.0),
        ([True, False], [1.0, 2.0], 0.0),
        ([True, False], [1.0, 1.0], 0.5),
        # Pairs: 1/2 and 1 of the first, 1 and 1 of the second.
        ([True, True, False, False], [3.0, 4.0, 3.0, 1.0], 0.875),
        ([True, False, False], [np.inf, 1.0, -np.inf], 1.0),
    ],
)
def test_by_hand(positive, scores, expected):
    assert ranking.auc(np.array(positive), np.array(scores)) == expected


@pytest.mark.parametrize("seed", range(8))
def test_against_all_pairs(seed):
    generator = np.random.default_rng(seed)
    size = int(generator.integers(2, 400))
    positive = generator.random(size) < generator.uniform(0.01, 0.99)
    positive[:2] = True, False
    # With many equal scores.
    scores = generator.normal(size=size).round(int(generator.integers(0, 4)))
    found = ranking.auc(positive, scores)
    assert found == pytest.approx(all_pairs(positive, scores), abs=1e-12)
    assert found == pytest.approx(sklearn.metrics.roc_auc_score(positive, scores))
    # The order alone counts.
    assert ranking.auc(positive, np.exp(3 * scores) - 7) == pytest.approx(found)
    assert ranking.auc(~positive, scores) == pytest.approx(1 - found)


def test_of_a_million_examples_with_few_positives():
    generator = np.random.default_rng(0)
    positive = np.zeros(1_000_000, bool)
    positive[:50] = True
    scores = (generator.normal(size=len(positive)) + positive - 9).astype(np.float32)
    assert ranking.auc(positive, scores) == pytest.approx(all_pairs(positive, scores))


@pytest.mark.parametrize("positive", [[], [True, True], [False]])
def test_of_one_class_it_is_undefined(positive):
    assert math.isnan(ranking.auc(np.array(positive, bool), np.ones(len(positive))))


def test_a_score_that_is_not_a_number_has_no_rank():
    assert math.isnan(ranking.auc(np.array([True, False]), np.array([math.nan, 1.0])))


@pytest.mark.parametrize("mean", [ranking.mean_auc, ranking.mean_average_precision])
def test_a_label_with_a_score_that_is_not_a_number_is_not_left_out(mean):
    y = np.array([[0, 1], [1, 0], [1, 1]])
    scores = np.array([[0.1, 0.9], [0.9, 0.2], [0.8, 0.3]])
    assert mean(y, scores) == 1.0
    scores[0, 1] = math.nan
    assert math.isnan(mean(y, scores))
    # A label of one class is.
    assert mean(np.array([[0, 1], [1, 1], [1, 1]]), np.abs(scores[:, [0, 0]])) == 1.0
