"""The privacy-utility sweep on a small task, stopped and resumed."""

from __future__ import annotations

import csv
import json

import pytest

FLAGS = [
    "--task=heart",
    "--cohort_size=2",
    "--rounds=3",
    "--delta=0.01",
    "--epsilons=8",
    "--mechanisms=gaussian,tree",
    "--mechanism_flags=tree: --sampler=shuffled",
]


def rows(folder):
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_grid_of_mechanisms_and_epsilons(tmp_path, execute):
    folder = tmp_path / "sweep"
    command = [*FLAGS, f"--output_dir={folder}"]
    code, output, errors = execute("privacy_utility", command)
    assert code == 0, errors
    found = rows(folder)
    assert [row["mechanism"] for row in found] == ["none", "gaussian", "tree"]
    assert float(found[0]["epsilon"]) == float("inf")
    for row in found[1:]:
        # Calibrated: at most the target, and little below it.
        target = float(row["target_epsilon"])
        assert 0.95 * target < float(row["epsilon"]) <= target
    assert (folder / "privacy_utility.svg").stat().st_size > 0
    assert "| gaussian | 8 |" in output

    # A point that is taken away is run again, to the same numbers; the others stay.
    lost = folder / "points" / "gaussian-8-0" / "summary.json"
    before = json.loads(lost.read_text(encoding="utf-8"))
    lost.unlink()
    kept = folder / "points" / "tree-8-0" / "summary.json"
    written = kept.stat().st_mtime_ns
    code, _, errors = execute("privacy_utility", command)
    assert code == 0, errors
    assert json.loads(lost.read_text(encoding="utf-8")) == before
    assert kept.stat().st_mtime_ns == written
    assert rows(folder) == found


def test_flags_that_the_grid_sets_are_refused(tmp_path, execute):
    code, _, errors = execute(
        "privacy_utility", [*FLAGS, f"--output_dir={tmp_path / 's'}", "--seed=3"]
    )
    assert code == 2
    assert errors == "error: --seed: the grid of the sweep sets it; give --seeds\n"
    assert not (tmp_path / "s").exists()


def test_flags_that_no_run_would_get_are_unknown(tmp_path, execute):
    for flag in ("--aggregator=krum", "--devices=9"):
        code, _, errors = execute(
            "privacy_utility",
            ["--task=heart", flag, f"--output_dir={tmp_path / 'run'}"],
        )
        assert code == 2
        assert f"unknown flag {flag.split('=')[0]}" in errors


def test_a_bad_epsilon_names_the_flag(tmp_path, execute):
    flags = ["--task=heart", "--epsilons=1,zero", f"--output_dir={tmp_path / 's'}"]
    code, _, errors = execute("privacy_utility", flags)
    assert code == 2
    assert "--epsilons=1,zero: 'zero': must be a number above 0" in errors
