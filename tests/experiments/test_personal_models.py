"""federated.py with personal models, from flags to the files of a run."""

from __future__ import annotations

import csv
import json

import pytest

from tfl_research.algorithms import ALGORITHMS
from tfl_research.errors import SettingError


def test_a_run_ends_with_every_clients_personal_model(train, execute, tmp_path):
    flags = ("--algorithm=ditto", "--personal_strength=0.5", "--personal_evaluation")
    train("federated", tmp_path / "run", *flags)
    text = (tmp_path / "run" / "summary.json").read_text(encoding="utf-8")
    found = json.loads(text)["personal"]
    assert found["round"] == 2
    assert found["clients"] == 4
    path = tmp_path / "run" / "personal_clients.csv"
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    for name in ("global", "personal"):
        mean = sum(float(row[f"{name}_loss"]) for row in rows) / 4
        assert found[f"{name}_client_mean_loss"] == pytest.approx(mean, rel=1e-4)
    # The global model's are those that the run evaluates anyway.
    with open(tmp_path / "run" / "clients.csv", encoding="utf-8", newline="") as file:
        final = {
            row["client_id"]: float(row["loss"])
            for row in csv.DictReader(file)
            if (row["model"], row["split"]) == ("final", "eval")
        }
    assert {row["client_id"] for row in rows} == set(final)
    for row in rows:
        assert float(row["global_loss"]) == pytest.approx(
            final[row["client_id"]], rel=1e-4
        )
        assert float(row["personal_loss"]) != float(row["global_loss"])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ["--algorithm=fed_rep"],
            "--personal_tensors: 2 personal tensors leave nothing to share",
        ),
        (["--algorithm=fed_rep", "--personal_share=1"], "--personal_share=1"),
        (
            ["--algorithm=ifca", "--aggregator=coordinate_median"],
            "--aggregator=coordinate_median: clients of ifca",
        ),
        (
            ["--algorithm=ifca", "--compression=quantize"],
            "--compression=quantize: clients of ifca",
        ),
        (
            ["--algorithm=ifca", "--server_optimizer=adam"],
            "--server_optimizer=adam: ifca has a server step of its own",
        ),
        (["--algorithm=ditto", "--clusters=3"], "--clusters=3: goes with"),
        (["--algorithm=ditto", "--compression=top_k"], "keep a state of their own"),
    ],
)
def test_what_does_not_go_together_is_refused(execute, tmp_path, flags, said):
    common = ["--task=heart", "--rounds=1", f"--output_dir={tmp_path / 'run'}"]
    code, _, errors = execute("federated", [*common, *flags])
    assert code == 2
    assert said in errors
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["ditto", "fed_rep", "reconstruction", "ifca"])
def test_each_is_listed_with_its_paper(name):
    assert "arXiv 2" in ALGORITHMS.get(name).PAPERS[0]
    assert name == ALGORITHMS.resolve(name).NAME
    with pytest.raises(SettingError, match="personal_strength=1: goes with"):
        ALGORITHMS.from_flat({"algorithm": "fed_avg", "personal_strength": 1.0})
