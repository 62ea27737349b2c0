"""A small grid of attacks end to end: runs, tables, heatmap, and resuming."""

from __future__ import annotations

import csv
import json
import math

import pytest

GRID = (
    "--task=mnist",
    "--num_clients=10",
    "--task_option=held_out_clients=0",
    "--partition=dirichlet",
    "--sampler=full",
    "--rounds=2",
    "--max_examples_per_client=40",
    "--max_evaluation_examples=300",
    "--attacks=backdoor,alie",
    "--rules=mean,bulyan",
    "--attack_flags=alie: --attack_scale=1.5",
)


@pytest.fixture(scope="module")
def grid(execute, tmp_path_factory):
    folder = tmp_path_factory.mktemp("grid") / "sweep"
    return folder, execute("byzantine", [*GRID, f"--output_dir={folder}"])


def rows(folder):
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_grid_with_a_refused_point_runs_none_of_it(execute, tmp_path):
    code, output, errors = execute(
        "byzantine",
        [
            "--task=heart",
            "--sampler=full",
            "--attacks=none,alie",
            "--fractions=0.25",
            "--rules=mean,repeated_geometric_median",
            f"--output_dir={tmp_path}",
        ],
    )
    assert code == 2
    assert output == ""
    assert "--attack=alie: needs all updates of a round" in errors
    assert "point alie-repeated_geometric_median-0.25-0 of the sweep" in errors
    assert not (tmp_path / "points").exists()


def test_a_first_point_that_diverges_leaves_the_table_of_the_others(execute, tmp_path):
    """Its row has no metric, which ended the grid as an unforeseen KeyError."""
    code, output, errors = execute(
        "byzantine",
        [
            "--task=heart",
            "--sampler=full",
            "--rounds=2",
            "--attacks=none",
            "--fractions=0.25",
            "--rules=mean,coordinate_median",
            "--rule_flags=mean: --client_learning_rate=1e30",
            f"--output_dir={tmp_path / 'grid'}",
        ],
    )
    assert code == 0, errors
    assert "point none-mean-0.25-0: round 1: the aggregated model is larger" in errors
    assert "eval_auc, median over seeds:\n| rule | none |" in output
    assert "| mean | – |" in output
    values = [row["final_value"] for row in rows(tmp_path / "grid")]
    assert values[0] == ""
    assert f"| coordinate_median | {float(values[1]):.3f} |" in output


@pytest.mark.slow
class TestGrid:
    def test_runs_are_of_the_grid(self, grid):
        folder, (code, output, errors) = grid
        assert code == 0, errors
        found = rows(folder)
        assert [(row["attack"], row["rule"]) for row in found] == [
            ("backdoor", "mean"),
            ("alie", "mean"),
        ]
        assert {row["byzantine"] for row in found} == {"2"}
        # Of 10 clients 2 are malicious, and 4 · 2 + 3 is more than 10.
        assert "left out: bulyan at 0.2: needs cohorts of at least 11" in output

    def test_accuracy_and_backdoor_success_are_reported(self, grid):
        folder, (_, output, _) = grid
        backdoor, alie = rows(folder)
        assert 0 <= float(backdoor["eval_backdoor_accuracy"]) <= 1
        assert alie["eval_backdoor_accuracy"] == ""
        assert all(0 <= float(row["eval_accuracy"]) <= 1 for row in (backdoor, alie))
        assert "backdoor success, median over seeds:" in output
        assert f"| mean | {float(backdoor['final_value']):.3f}" in output
        assert (folder / "byzantine.svg").read_text("utf-8").startswith("<?xml")

    def test_points_are_runs_of_their_own(self, grid):
        folder, _ = grid
        for name, count in (("backdoor-mean-0.2-0", 2), ("alie-mean-0.2-0", 2)):
            record = json.loads((folder / "points" / name / "hparams.json").read_text())
            hparams = record["hparams"]
            assert len(hparams["malicious_clients"]) == count
            assert hparams["malicious_fraction"] == 0.2
        points = json.loads((folder / "sweep.json").read_text())["points"]
        assert points["alie-mean-0.2-0"]["attack_scale"] == 1.5
        assert points["backdoor-mean-0.2-0"]["attack_scale"] is None
        metrics = folder / "points" / "backdoor-mean-0.2-0" / "metrics.csv"
        with metrics.open(encoding="utf-8", newline="") as file:
            last = list(csv.DictReader(file))[-1]
        assert math.isfinite(float(last["eval_backdoor_accuracy"]))
        assert math.isfinite(float(last["eval_backdoor_loss"]))

    def test_a_second_start_runs_nothing_again(self, grid, execute):
        folder, _ = grid
        before = rows(folder)
        code, output, _ = execute("byzantine", [*GRID, f"--output_dir={folder}"])
        assert code == 0
        assert output.count("(done before)") == 2
        assert rows(folder) == before


@pytest.mark.parametrize(
    ("experiment", "flags", "message"),
    [
        ("byzantine", ["--seed=1"], "--seed: the grid of the sweep sets it"),
        ("byzantine", ["--rules=best"], "--rules=best: 'best': must be one of"),
        (
            "byzantine",
            ["--rules=bulyan"],
            "--rules=bulyan: bulyan at 0.2: needs cohorts of at least 11 clients",
        ),
        (
            "robust_fed_avg",
            ["--attack=alie", "--aggregator=compression"],
            "--attack=alie: needs all updates of a round",
        ),
        (
            "robust_fed_avg",
            ["--attack=label_flip", "--malicious_fraction=0.01"],
            "--malicious_fraction=0.01: makes none of the 10 clients malicious",
        ),
        (
            "robust_fed_avg",
            ["--attack=backdoor", "--backdoor_target=10"],
            "--backdoor_target=10: the task has classes 0 to 9",
        ),
    ],
)
def test_bad_flags_give_one_line(execute, tmp_path, experiment, flags, message):
    task = ["--task=mnist", "--num_clients=10", "--sampler=full"]
    folder = tmp_path / "run"
    command = [*task, *flags, f"--output_dir={folder}"]
    code, output, errors = execute(experiment, command)
    assert code == 2
    assert output == ""
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert message in errors
    assert not folder.exists()
