"""A point of a sweep gives the same bits as the same experiment alone."""

from __future__ import annotations

import csv
import dataclasses
import io

import numpy as np
import pytest
import tensorflow as tf

from tfl_research.experiment import Experiment
from tfl_research.experiment.configs import (
    Attack,
    Cohorts,
    RecordLevelPrivacy,
    Runtime,
    TaskChoice,
    Training,
    UserLevelPrivacy,
    Weighting,
)
from tfl_research.experiment.sweeps import Point, Sweep
from tfl_research.models import known_builders
from tfl_research.runtime.compiler import families
from tfl_research.runtime.conversion import known_forms

BASE = Experiment(
    "heart",
    training=Training(rounds=2, print_every=2, run_seed=5),
    runtime=Runtime(client_execution="folded_xla"),
)
SWEPT = {
    "rates": (BASE, "client_learning_rate", (0.3, 0.07, 0.2)),
    "epsilons": (
        dataclasses.replace(
            BASE,
            cohorts=Cohorts("poisson", cohort_size=3),
            privacy=UserLevelPrivacy("gaussian", target_epsilon=4),
        ),
        "target_epsilon",
        (8.0, 4.0, 6.0),
    ),
    # The noised sum of a step's gradients is divided by a constant.
    "private_records": (
        dataclasses.replace(
            BASE, privacy=RecordLevelPrivacy(record_noise_multiplier=1.0)
        ),
        "client_learning_rate",
        (0.3, 0.07, 0.2),
    ),
    # Clients' numbers of steps differ, and chunks take the shapes of earlier points.
    "attacks": (
        dataclasses.replace(
            BASE,
            task=TaskChoice("mnist", partition="dirichlet", num_clients=30),
            weighting=Weighting("uniform"),
            attack=Attack("sign_flip", malicious_fraction=0.2),
        ),
        "attack",
        ("label_flip", "scaled", "sign_flip"),
    ),
    "rules": (
        dataclasses.replace(
            BASE,
            task=TaskChoice("mnist", partition="dirichlet", num_clients=30),
            weighting=Weighting("uniform"),
        ),
        "aggregator",
        ("mean", "geometric_median", "coordinate_median"),
    ),
}


def forget():
    known_forms.forget()
    known_builders.forget()
    families.forget()


def ran(folder, points):
    """Of the last point: the rows of metrics.csv without seconds, and the weights."""
    sweep = Sweep(folder, points)
    sweep.run(io.StringIO())
    path = sweep.path(points[-1])
    with (path / "metrics.csv").open(newline="") as file:
        rows = [
            {name: cell for name, cell in row.items() if "seconds" not in name}
            for row in csv.DictReader(file)
        ]
    weights = [
        tf.keras.models.load_model(path / "export" / name).get_weights()
        for name in ("final", "best")
    ]
    return rows, weights


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "rates",
        pytest.param("epsilons", marks=pytest.mark.campaign),
        pytest.param("private_records", marks=pytest.mark.campaign),
        pytest.param("attacks", marks=pytest.mark.campaign),
        pytest.param("rules", marks=pytest.mark.campaign),
    ],
)
def test_the_third_point_is_the_same_alone(name, tmp_path):
    base, setting, values = SWEPT[name]
    points = [
        Point.changed(f"{value}", base, {}, **{setting: value}) for value in values
    ]
    forget()
    rows, weights = ran(tmp_path / "all", points)
    forget()
    rows_alone, weights_alone = ran(tmp_path / "alone", points[-1:])
    assert rows == rows_alone
    for found, expected in zip(weights, weights_alone):
        for ours, alone in zip(found, expected):
            np.testing.assert_array_equal(ours, alone)
