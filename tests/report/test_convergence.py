"""Curves and targets of algorithms, by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from tfl_research.report import convergence, convergence_picture


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
    lost = [False] * len(labels)
    return convergence.read(labels, folders, metric="eval_accuracy", diverged=lost)


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
    # Two values, and no interval of one degree of freedom.
    assert lines[2] == (
        "| 0.1 | slow | 0.790, 0.700 (2 seeds) | 0.750 | 1 of 2: 4 | 1 of 2: 50 | "
        "1 of 2: 6 |"
    )
    assert lines[3].endswith("| 0.750 | 3 | 35 | 4.5 |")


def test_runs_that_diverged_are_said_to(tmp_path):
    runs = (
        ("early", 0, []),
        ("early", 1, []),
        ("late", 0, [0.5, 0.7]),
        ("late", 1, [0.6, 0.8, 0.9]),
        ("late", 2, [0.6, 0.8, 0.7]),
    )
    folders = [write_run(tmp_path / f"{name}{seed}", v) for name, seed, v in runs]
    curves = convergence.read(
        [(name, "1", seed) for name, seed, _ in runs],
        folders,
        metric="eval_accuracy",
        diverged=[True, True, True, False, False],
    )
    early, late = convergence.table(curves, target=0.65).splitlines()[2:]
    assert early == "| 1 | early | diverged | 0.650 | never |"
    assert late == "| 1 | late | 0.900, 0.700 (2 seeds; 1 of 3 diverged) | 0.650 | 2 |"
    # The target is of what was seen.
    assert convergence.targets(curves, None) == {"1": pytest.approx(0.855)}
    means = convergence.averaged(curves[curves["algorithm"] == "late"], "round")
    assert means["round"].tolist() == [1, 2]
    early = convergence.averaged(curves[curves["algorithm"] == "early"], "round")
    assert early.empty
    figure = convergence_picture.draw(curves, metric="eval_accuracy")
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["early", "late"]


def test_three_values_have_an_interval_and_fewer_have_none():
    for values, expected in (([0.5], 0.5), ([0.5, 0.7], 0.6)):
        mean, half = convergence.interval(np.array(values))
        assert mean == pytest.approx(expected)
        assert math.isnan(half)
    mean, half = convergence.interval(np.array([0.5, 0.6, 0.7]))
    # 4.30265 standard errors: a standard deviation of 0.1 over the root of three.
    assert half == pytest.approx(4.30265 * 0.1 / math.sqrt(3), rel=1e-5)
    assert mean == pytest.approx(0.6)


def test_the_table_of_three_seeds_has_an_interval(tmp_path):
    finals = (0.5, 0.6, 0.7)
    folders = [write_run(tmp_path / f"{i}", [0.1, v]) for i, v in enumerate(finals)]
    curves = convergence.read(
        [("fed_avg", "1", seed) for seed in range(3)],
        folders,
        metric="eval_accuracy",
        diverged=[False] * 3,
    )
    assert "| 0.600 ± 0.248 |" in convergence.table(curves, target=0.9)
    figure = convergence_picture.draw(curves, metric="eval_accuracy", title="mnist")
    assert len(figure.axes[0].collections) == 1
    assert figure.get_suptitle().startswith("mnist\n")
    assert "band: 95% interval of the mean" in figure.get_suptitle()


def test_a_target_that_nobody_reaches(curves):
    assert convergence.table(curves, target=0.99).count("never") == 6


def test_means_at_equal_rounds_and_the_mean_of_what_they_cost(curves):
    slow = curves[curves["algorithm"] == "slow"].copy()
    slow.loc[slow["seed"] == 1, "seconds"] += [600.0, 600.0, 600.0]
    found = convergence.averaged(slow, "seconds")
    assert found["seconds"].tolist() == [310, 335, 350]
    assert found["mean"].tolist() == pytest.approx([0.15, 0.45, 0.745])
    # Two seeds have no interval.
    assert found["half"].isna().all()
    # A round that one of the seeds did not get to has no mean over seeds.
    short = slow[(slow["seed"] == 0) | (slow["round"] < 4)]
    assert convergence.averaged(short, "megabytes")["megabytes"].tolist() == [1.5, 4.5]
    alone = convergence.averaged(slow[slow["seed"] == 0], "round")
    assert alone["mean"].tolist() == [0.1, 0.4, 0.79]
    assert alone["half"].isna().all()


def bold(axes):
    """The means of a panel; the legend's own lines are empty."""
    return [
        line
        for line in axes.lines
        if line.get_linewidth() > 1 and len(line.get_xdata())
    ]


def test_picture_has_a_row_for_each_cost_and_a_column_for_each_heterogeneity(curves):
    both = pd.concat([curves, curves[curves["algorithm"] == "fast"].assign(alpha="1")])
    figure = convergence_picture.draw(both, metric="eval_accuracy")
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "round",
        "round",
        "simulated seconds",
        "simulated seconds",
        "megabytes sent and received",
        "megabytes sent and received",
    ]
    titles = [axes.get_title() for axes in figure.axes[:2]]
    assert titles == ["Dirichlet, α = 0.1", "Dirichlet, α = 1"]
    slow, fast = bold(figure.axes[4])
    assert slow.get_xdata().tolist() == pytest.approx([1.5, 4.5, 6])
    assert slow.get_ydata().tolist() == pytest.approx([0.15, 0.45, 0.745])
    assert fast.get_ydata().tolist() == pytest.approx([0.1, 0.78, 0.7])
    # The same colour in every panel, also where an algorithm has no run.
    (other,) = bold(figure.axes[5])
    assert other.get_color() == fast.get_color() != slow.get_color()
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["slow", "fast"]
    # What was seen is from 0.1 to 0.8.
    assert figure.axes[0].get_ylim() == pytest.approx((0.079, 0.821))
    # Two seeds for each of the two algorithms, and no band, which is said.
    assert not figure.axes[0].collections
    assert "no band with fewer than three seeds" in figure.get_suptitle()
    thin = [line for line in figure.axes[2].lines if line.get_linewidth() < 1]
    assert len(thin) == 4


def test_picture_of_one_seed_and_one_evaluation_without_devices(curves, tmp_path):
    one = curves[(curves["seed"] == 0) & (curves["round"] == 4)]
    one = one.drop(columns=["seconds", "megabytes"])
    figure = convergence_picture.draw(one, metric="eval_accuracy")
    assert len(figure.axes) == 1
    assert [line.get_marker() for line in bold(figure.axes[0])] == [".", "."]
    assert not figure.axes[0].collections
    convergence_picture.write(one, tmp_path / "one.svg", metric="eval_accuracy")
    assert (tmp_path / "one.svg").read_text().count('id="axes_') == 1
