"""Curves and targets of algorithms, by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from tfl_research.report import convergence


def write_run(folder, values, **columns):
    folder.mkdir(parents=True)
    rows = pd.DataFrame(
        {"round": range(1, len(values) + 1), "eval_accuracy": values, **columns}
    )
    rows.to_csv(folder / "metrics.csv", index=False)
    return folder


@pytest.fixture
def curves(tmp_path):
    labels, folders = [], []
    for algorithm, seed, values in (
        ("slow", 0, [0.1, math.nan, 0.4, 0.79]),
        ("slow", 1, [0.2, math.nan, 0.5, 0.7]),
        ("fast", 0, [0.1, math.nan, 0.8, 0.6]),
        ("fast", 1, [0.1, math.nan, 0.76, 0.8]),
    ):
        labels.append((algorithm, "0.1", seed))
        folders.append(
            write_run(
                tmp_path / f"{algorithm}{seed}",
                values,
                simulated_seconds=[10.0, 20.0, 35.0, 50.0],
                bytes_down=[1e6] * 4,
                bytes_up=[5e5] * 4,
            )
        )
    return convergence.read(labels, folders, metric="eval_accuracy")


def test_rounds_seconds_and_traffic_to_the_target(curves):
    found = convergence.reached(curves).set_index(["algorithm", "seed"])
    # 95% of 0.8, the best of any run.
    assert found["target"].unique() == pytest.approx(0.76)
    assert found.loc[("slow", 0), "round"] == 4
    assert math.isnan(found.loc[("slow", 1), "round"])
    assert found.loc[("fast", 0), "round"] == 3
    assert found.loc[("fast", 1), "seconds"] == 35
    assert found.loc[("fast", 1), "megabytes"] == pytest.approx(4.5)
    assert found.loc[("fast", 0), "final"] == 0.6


def test_table(curves):
    lines = convergence.table(curves, target=0.75).splitlines()
    assert (
        lines[0] == "| α | algorithm | final | target | round | seconds | megabytes |"
    )
    # Half width: 12.706 standard errors of two values.
    half = 12.7062 * 0.09 / math.sqrt(2) / math.sqrt(2)
    assert lines[2] == (
        f"| 0.1 | slow | 0.745 ± {half:.3f} | 0.750 | 1 of 2: 4 | 1 of 2: 50 | "
        "1 of 2: 6 |"
    )
    assert lines[3].endswith("| 0.750 | 3 | 35 | 4.5 |")


def test_interval_of_one_value_is_unknown():
    mean, half = convergence.interval(np.array([0.5]))
    assert mean == 0.5
    assert math.isnan(half)


def test_a_target_that_nobody_reaches(curves):
    assert convergence.table(curves, target=0.99).count("never") == 6


def test_plot_has_a_panel_for_each_heterogeneity(curves, tmp_path):
    both = pd.concat([curves, curves.assign(alpha="natural")])
    path = tmp_path / "curves.svg"
    convergence.plot(both, path, metric="eval_accuracy")
    assert path.read_text().count('id="axes_') == 2
