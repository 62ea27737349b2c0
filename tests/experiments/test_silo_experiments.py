"""Baselines of cross-silo federation, and the comparison, on the four hospitals."""

import json

import numpy as np
import pandas as pd
import pytest

from tfl_research import data, tasks


def test_pooled_data_are_everybodys():
    train = tasks.get("heart").train
    pooled = data.client_splits.pooled(train)
    assert len(pooled) == 1
    held = pooled.load(pooled.client_ids[0])
    assert len(held["y"]) == sum(train.num_examples(i) for i in train.client_ids)
    first = train.load(train.client_ids[0])
    np.testing.assert_array_equal(held["x"][: len(first["x"])], first["x"])


def test_a_silo_alone_trains_on_its_own_and_is_tried_on_all(train, tmp_path):
    rows = train("silo_baseline", tmp_path / "run", "--train_on=Cleveland")
    heart = tasks.get("heart")
    assert rows[0]["examples"] == str(heart.train.num_examples("Cleveland"))
    clients = pd.read_csv(tmp_path / "run" / "clients.csv")
    assert set(clients["client_id"]) == set(heart.test.client_ids)


def test_an_unknown_silo_is_refused(execute, tmp_path):
    code, _, errors = execute(
        "silo_baseline",
        ["--task=heart", "--train_on=Rome", f"--output_dir={tmp_path / 'run'}"],
    )
    assert code == 2
    assert (
        "--train_on=Rome: there is no such silo; give pooled or one of Cleveland"
        in errors
    )


@pytest.fixture(scope="module")
def compared(execute, tmp_path_factory):
    """Flags of a comparison, its folder and what it printed."""
    folder = tmp_path_factory.mktemp("compared") / "silos"
    flags = [
        "--task=heart",
        "--rounds=6",
        "--evaluate_every=1",
        "--record_epsilons=4",
        "--client_steps=2",
        "--silo_drop_out=0.4",
        "--minimum_clients=3",
        "--selection_metric=auc:0.7,loss:0.3",
        "--compared_model=best",
        f"--output_dir={folder}",
    ]
    code, output, errors = execute("cross_silo", flags)
    assert code == 0, errors
    return flags, folder, output


@pytest.mark.slow
def test_comparison_with_private_records(execute, compared):
    flags, _, output = compared
    start = output.index("accuracy of the best models, mean over seeds:")
    table = output[start:].splitlines()
    assert table[1].startswith("| method | Cleveland | Hungary | Switzerland | VA")
    assert [line.split(" | ")[0] for line in table[3:9]] == [
        "| fed_avg",
        "| fed_avg, ε 4",
        "| ε of its records",
        "| pooled",
        "| each silo alone, at home",
        "| the average silo alone",
    ]
    # Silos are charged for every round, also when they are down.
    spent = [float(cell) for cell in table[5].split(" | ")[1:5]]
    assert max(spent) == pytest.approx(4, abs=0.01)
    # The fewer patients a hospital has, the more each of them spends.
    cleveland, hungary, switzerland, va_long_beach = spent
    assert cleveland < hungary < va_long_beach < switzerland
    again, output, _ = execute("cross_silo", flags)
    assert again == 0
    assert output.count("done before") == 7


@pytest.mark.slow
def test_silos_that_are_down_in_a_comparison(compared):
    _, folder, _ = compared
    for name in ("fed_avg-0", "record_dp-4-0"):
        rows = pd.read_csv(folder / "points" / name / "metrics.csv")
        down = 4 - rows["dropped_out"] < 3
        assert down.any()
        assert not down.all()
        np.testing.assert_array_equal(rows["abandoned"], down)
        np.testing.assert_array_equal(
            rows["cohort_size"], np.where(down, 0, 4 - rows["dropped_out"])
        )
    # A silo alone, and pooled data, are never down.
    for name in ("only_0-0", "pooled-0"):
        rows = pd.read_csv(folder / "points" / name / "metrics.csv")
        assert (rows["cohort_size"] == 1).all()
        assert "abandoned" not in rows


@pytest.mark.slow
def test_the_best_model_by_weighted_metrics_is_compared(compared):
    _, folder, output = compared
    rows = pd.read_csv(folder / "points" / "fed_avg-0" / "metrics.csv")
    score = 0.7 * rows["eval_auc"] - 0.3 * rows["eval_loss"]
    results = pd.read_csv(folder / "results.csv")
    assert results["best_round"][0] == rows["round"][score.idxmax()]
    clients = pd.read_csv(folder / "points" / "fed_avg-0" / "clients.csv")
    best = clients[(clients["model"] == "best") & (clients["split"] == "eval")]
    found = pd.read_csv(folder / "silos.csv")
    found = found[found["method"] == "fed_avg"]
    np.testing.assert_array_equal(found["auc"], best["auc"])
    assert "auc of the best models, mean over seeds:" in output


def test_the_best_model_for_the_silos_that_count(train, tmp_path):
    rows = train(
        "federated",
        tmp_path / "run",
        "--client_weight=Hungary=3",
        "--client_weight=VA Long Beach=0",
        "--selection_metric=weighted_mean_loss",
        "--evaluate_every=1",
    )
    clients = pd.read_csv(tmp_path / "run" / "clients.csv")
    final = clients[(clients["model"] == "final") & (clients["split"] == "eval")]
    losses = final.set_index("client_id")["loss"]
    # Three times Hungary, once Cleveland and Switzerland.
    mean = (3 * losses["Hungary"] + losses["Cleveland"] + losses["Switzerland"]) / 5
    assert float(rows[-1]["eval_weighted_mean_loss"]) == pytest.approx(mean, rel=1e-5)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["best"]["selected_by"] == "eval_weighted_mean_loss"


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (["Rome=1"], "--client_weight=Rome=1: the task has no client 'Rome'"),
        (["Hungary"], "--client_weight=Hungary: must be NAME=WEIGHT"),
        (["Hungary=-1"], "--client_weight=Hungary=-1: must be NAME=WEIGHT"),
        (["Hungary=nan"], "a weight of at least 0"),
        (["Hungary=1", "Hungary=2"], "Hungary has a weight already"),
    ],
)
def test_weights_that_are_refused(refused, tmp_path, weights, message):
    flags = [f"--client_weight={weight}" for weight in weights]
    refused("cross_silo", tmp_path / "silos", flags, message)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--minimum_clients=5", "--minimum_clients=5: minimum must be from 1 to 4"),
        ("--sampler=fixed", "every silo takes part in every round"),
    ],
)
def test_rounds_that_no_silos_make_are_refused(refused, tmp_path, flag, message):
    refused("cross_silo", tmp_path / "silos", [flag], message)


@pytest.mark.slow
def test_grid_of_algorithms(execute, tmp_path):
    flags = [
        "--task=heart",
        "--rounds=2",
        "--alphas=natural",
        "--algorithms=fed_avg,scaffold",
        "--seeds=1",
        "--selection_metric=accuracy",
        f"--output_dir={tmp_path / 'grid'}",
    ]
    code, output, errors = execute("heterogeneity", flags)
    assert code == 0, errors
    results = pd.read_csv(tmp_path / "grid" / "results.csv")
    assert list(results["algorithm"]) == ["fed_avg", "scaffold"]
    assert results["final_value"].notna().all()
    assert "| natural | scaffold | " in output
    picture = (tmp_path / "grid" / "heterogeneity.svg").read_text()
    # By rounds and traffic; there is no clock where no devices are simulated.
    assert picture.count('id="axes_') == 2
    assert "| final | target | round | megabytes |" in output


def test_a_point_that_is_refused_is_named(refused, tmp_path):
    # The user gave no --partition, which the grid's default stands for.
    said = "point fed_avg-0.1-0 of the sweep is refused: --partition=dirichlet: task"
    refused("heterogeneity", tmp_path / "grid", ["--algorithms=fed_avg"], said)


@pytest.mark.parametrize(
    ("binary", "own"),
    [
        ("heterogeneity", ["--alphas=natural", "--algorithms=fed_avg"]),
        ("privacy_utility", ["--epsilons=5"]),
        ("byzantine", ["--attacks=none", "--fractions=0.25", "--rules=mean"]),
    ],
)
def test_a_grid_that_diverges_says_so(execute, tmp_path, binary, own):
    flags = [
        "--task=heart",
        "--rounds=2",
        "--sampler=full",
        "--client_learning_rate=10",
        "--client_weighting=uniform",
        "--server_learning_rate=3e38",
        f"--output_dir={tmp_path / 'grid'}",
    ]
    code, _, errors = execute(binary, [*flags, *own])
    assert code == 2
    assert errors.splitlines()[-1].startswith("error: every run diverged before")
    assert "Traceback" not in errors


def test_a_metric_that_is_nowhere_defined_is_no_divergence(execute, tmp_path):
    """One example has no AUC; the grid said that every run had diverged."""
    flags = [
        "--task=heart",
        "--rounds=1",
        "--sampler=full",
        "--alphas=natural",
        "--algorithms=fed_avg",
        "--max_evaluation_examples=1",
        f"--output_dir={tmp_path / 'grid'}",
    ]
    code, _, errors = execute("heterogeneity", flags)
    assert code == 2
    last = errors.splitlines()[-1]
    assert last.startswith("error: no run has a value of the metric that chooses")
    assert "--max_evaluation_examples" in last
    assert "diverged" not in errors


@pytest.mark.parametrize("metric", ["loss", "auc:0.7,loss:0.3"])
def test_a_loss_is_no_target(execute, tmp_path, metric):
    folder = tmp_path / "grid"
    code, _, errors = execute(
        "heterogeneity",
        [
            "--task=heart",
            "--alphas=natural",
            f"--selection_metric={metric}",
            f"--output_dir={folder}",
        ],
    )
    assert code == 2
    assert f"--selection_metric={metric}: the target needs a metric" in errors
    assert errors.count("\n") == 1
    assert not folder.exists()


def test_compressed_updates_by_flag(train, execute, tmp_path):
    rows = train(
        "federated",
        tmp_path / "run",
        "--compression=top_k",
        "--compression_fraction=0.5",
    )
    assert float(rows[1]["train_loss"]) < float(rows[0]["train_loss"])
    assert (tmp_path / "run" / "client_states.sqlite").exists()
    code, _, errors = execute(
        "federated",
        [
            "--task=heart",
            "--algorithm=scaffold",
            "--compression=top_k",
            f"--output_dir={tmp_path / 'other'}",
        ],
    )
    assert code == 2
    assert "clients of scaffold keep a state of their own" in errors
