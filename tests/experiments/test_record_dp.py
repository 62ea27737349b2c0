"""The record-level experiment end to end, on the four hospitals."""

from __future__ import annotations

import csv
import json
import math

import pytest

from tfl_research import privacy, tasks
from tfl_research.data import PoissonBatching
from tfl_research.privacy.ledger import spending

FLAGS = ("--record_noise_multiplier=1.5", "--client_steps=4", "--run_seed=7")


def _table(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _comparable(rows):
    return [{k: v for k, v in row.items() if k != "round_seconds"} for row in rows]


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    folder = tmp_path_factory.mktemp("record") / "run"
    return folder, train("record_dp_fed_avg", folder, *FLAGS, "--rounds=3")


class TestRecordDPFedAvg:
    def test_every_hospital_has_its_epsilon_and_the_run_the_largest(self, whole):
        folder, rows = whole
        table = _table(folder / "client_epsilon.csv")
        assert len(table) == 3 * 4
        task = tasks.get("heart").with_batching(PoissonBatching(4, 20.0))
        event = privacy.RecordEvent.of(1.5, task.train)
        for row in table:
            client = event.of_client(
                [name for name, _ in event.clients].index(row["client_id"])
            )
            expected = client.epsilon(int(row["round"]), 1e-3, "pld")
            assert float(row["epsilon"]) == pytest.approx(expected, rel=1e-6)
        for row in rows:
            largest = max(
                float(r["epsilon"]) for r in table if r["round"] == row["round"]
            )
            assert float(row["epsilon"]) == pytest.approx(largest, rel=1e-6)
            assert float(row["delta"]) == 1e-3
            assert float(row["noise_multiplier"]) == 1.5
            assert row["cohort_size"] == "4"

    def test_public_data_show_exact_metrics(self, whole):
        _, rows = whole
        assert all(math.isfinite(float(row["train_loss"])) for row in rows)
        assert math.isfinite(float(rows[-1]["eval_loss"]))

    def test_says_what_is_covered(self, whole):
        folder, _ = whole
        text = " ".join((folder / "privacy.txt").read_text(encoding="utf-8").split())
        assert "one record of one client" in text
        assert "- Switzerland: 91 records" in text
        assert "Done: 3 rounds" in text
        assert "Exact, not covered by ε: examples, excluded_clients, train_loss" in text
        assert "do not leave the clients" not in text
        assert "run seed, which was chosen by --run_seed" in text

    def test_records_what_was_resolved_and_no_secret(self, whole):
        folder, _ = whole
        record = json.loads((folder / "hparams.json").read_text())
        hparams, plan = record["hparams"], record["privacy_plan"]
        assert dict(plan["event"]["clients"])["Switzerland"] == 91
        assert plan["deltas"] == dict.fromkeys(dict(plan["event"]["clients"]), 1e-3)
        assert hparams["sampler"] == "full"
        assert hparams["batching"]["expected_batch_size"] == 20
        assert hparams["batching"]["steps"] == 4
        assert "run_seed" not in hparams

    def test_a_resumed_run_is_the_same_to_the_bit(self, whole, train, tmp_path):
        folder, rows = whole
        again = tmp_path / "run"
        train("record_dp_fed_avg", again, *FLAGS, "--rounds=1")
        resumed = train("record_dp_fed_avg", again, *FLAGS, "--rounds=3")
        keep = ("round", "epsilon", "cohort_size")
        assert [[r[k] for k in keep] for r in resumed] == [
            [r[k] for k in keep] for r in rows
        ]
        # The shorter run also evaluated its last round.
        assert _comparable(resumed)[1:] == _comparable(rows)[1:]
        name = "client_epsilon.csv"
        assert (again / name).read_bytes() == (folder / name).read_bytes()
        ledgers = [spending.read_ledger(one).runs[0] for one in (again, folder)]
        assert ledgers[0].entries == ledgers[1].entries

    def test_the_run_seed_decides_records_and_noise_and_not_the_seed(
        self, whole, train, tmp_path
    ):
        _, rows = whole
        other = train(
            "record_dp_fed_avg",
            tmp_path / "run",
            *FLAGS[:2],
            "--run_seed=8",
            "--rounds=3",
        )
        assert other[-1]["eval_loss"] != rows[-1]["eval_loss"]

    def test_the_runtimes_agree(self, whole, train, tmp_path):
        _, rows = whole
        found = train(
            "record_dp_fed_avg",
            tmp_path / "run",
            *FLAGS,
            "--rounds=3",
            "--runtime=in_process",
            "--client_execution=folded_graph",
        )
        ours, theirs = (float(r[-1]["eval_loss"]) for r in (found, rows))
        assert ours == pytest.approx(theirs, rel=1e-5)

    def test_microbatches_adam_and_a_target(self, train, tmp_path):
        rows = train(
            "record_dp_fed_avg",
            tmp_path / "run",
            "--record_target_epsilon=5",
            "--record_delta=1e-4",
            "--record_batch_size=16",
            "--microbatch_size=4",
            "--client_steps=3",
            "--client_optimizer=adam",
            "--client_learning_rate=0.01",
            "--client_weighting=uniform",
            f"--record_ledgers={tmp_path / 'ledgers'}",
        )
        spent = [float(row["epsilon"]) for row in rows]
        assert 4.9 < spent[1] <= 5
        ledgers = sorted((tmp_path / "ledgers").glob("*.jsonl"))
        assert [path.stem for path in ledgers] == [
            "Cleveland",
            "Hungary",
            "Switzerland",
            "VA Long Beach",
        ]
        assert {len(path.read_bytes().splitlines()) for path in ledgers} == {len(rows)}
        text = (tmp_path / "run" / "privacy.txt").read_text(encoding="utf-8")
        together = f"1 run with {len(rows)} rounds in all, together ε = "
        assert together in " ".join(text.split())
        assert {float(row["delta"]) for row in rows} == {1e-4}
        assert all(math.isfinite(float(row["train_loss"])) for row in rows)

    def test_a_budget_ends_the_run(self, train, tmp_path):
        rows = train(
            "record_dp_fed_avg",
            tmp_path / "run",
            *FLAGS,
            "--rounds=30",
            "--record_budget_epsilon=4",
        )
        assert 1 <= len(rows) < 30
        assert float(rows[-1]["epsilon"]) <= 4

    def test_help_names_the_paper(self, execute):
        code, output, _ = execute("record_dp_fed_avg", ["--help"])
        assert code == 0
        assert "arXiv 1607.00133" in output
        assert "--record_target_epsilon" in output
        assert "full (the default with record-level privacy)" in " ".join(
            output.split()
        )
        assert max(map(len, output.splitlines())) <= 88

    def test_a_large_delta_is_warned_of(self, execute, tmp_path):
        code, _, errors = execute(
            "record_dp_fed_avg",
            [
                "--task=heart",
                *FLAGS,
                "--rounds=1",
                "--record_delta=0.02",
                "--runtime=tff",
                "--notensorboard",
                f"--output_dir={tmp_path / 'run'}",
            ],
        )
        assert code == 0, errors
        assert "warning: delta = 0.02 is at least 1/records" in errors
