"""The binaries end to end, two rounds on the four hospitals."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tfl_research.registry import SettingsRegistry
from tfl_research.settings import declared

# Where a run's results go is not part of it, and the run seed is a secret.
UNRECORDED = {"output_dir", "resume", "recharge", "plugin", "run_seed"}


def _hparams(folder):
    return json.loads((folder / "hparams.json").read_text())["hparams"]


def _plan(folder):
    return json.loads((folder / "hparams.json").read_text())["privacy_plan"]


def _names(groups):
    """The settings of a binary's groups that every run has."""
    for group in groups:
        if isinstance(group, SettingsRegistry):
            yield group.setting
        else:
            yield from (group.PREFIX + field.name for field in declared(group))


def _comparable(rows):
    return [{k: v for k, v in row.items() if k != "round_seconds"} for row in rows]


@pytest.fixture(scope="module")
def plain(train, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain") / "run"
    return folder, train("fed_avg", folder)


class TestFedAvg:
    def test_trains_all_hospitals_by_default(self, plain):
        _, rows = plain
        assert [row["round"] for row in rows] == ["1", "2"]
        assert [row["cohort_size"] for row in rows] == ["4", "4"]
        assert float(rows[1]["train_loss"]) < float(rows[0]["train_loss"])
        assert float(rows[1]["eval_accuracy"]) > 0.7
        assert {row["epsilon"] for row in rows} == {"inf"}

    def test_records_every_setting(self, plain, experiments):
        folder, _ = plain
        hparams = _hparams(folder)
        names = set(_names(experiments["fed_avg"].PRESET.groups))
        assert len(names) > 70
        assert names - set(hparams) == UNRECORDED
        assert "run_seed" not in hparams
        assert hparams["sampler"] == "fixed"
        assert hparams["client_weighting"] == "examples"
        assert hparams["expected_cohort_size"] == 4
        assert hparams["batching"]["batch_size"] >= 1

    def test_a_finished_run_is_continued(self, plain, train, tmp_path):
        one = train("fed_avg", tmp_path / "run", "--rounds=1")
        assert len(one) == 1
        both = train("fed_avg", tmp_path / "run")
        reference = _comparable(plain[1])
        # Round 1 was the last of the shorter run, and so it was evaluated.
        assert [r["train_loss"] for r in both] == [r["train_loss"] for r in reference]
        assert _comparable(both)[1] == reference[1]

    def test_flags_from_a_file(self, train, tmp_path):
        flagfile = tmp_path / "some.flags"
        flagfile.write_text("--cohort_size=2\n# a comment\n--client_epochs=3\n")
        rows = train("fed_avg", tmp_path / "run", f"--flagfile={flagfile}")
        assert [row["cohort_size"] for row in rows] == ["2", "2"]
        assert _hparams(tmp_path / "run")["batching"]["epochs"] == 3

    def test_every_part_by_flag(self, train, tmp_path):
        rows = train(
            "fed_avg",
            tmp_path / "run",
            "--server_optimizer=yogi",
            "--server_learning_rate=0.05",
            "--server_learning_rate_schedule=inverse_sqrt",
            "--client_optimizer=adam",
            "--client_learning_rate=0.01",
            "--client_learning_rate_warmup_rounds=2",
            "--client_gradient_clip=1",
            "--aggregator=robust",
            "--client_weighting=capped",
            "--weight_cap=100",
            "--client_steps=4",
        )
        assert len(rows) == 2
        assert all(math.isfinite(float(row["train_loss"])) for row in rows)

    def test_a_poisson_cohort_may_be_empty(self, train, tmp_path):
        rows = train(
            "fed_avg", tmp_path / "run", "--sampler=poisson", "--cohort_size=1e-6"
        )
        assert [row["cohort_size"] for row in rows] == ["0", "0"]
        assert math.isfinite(float(rows[1]["eval_loss"]))


class TestFedProx:
    def test_without_strength_it_is_federated_averaging(self, plain, train, tmp_path):
        rows = train("fed_prox", tmp_path / "run", "--proximal_strength=0")
        assert _comparable(rows) == _comparable(plain[1])

    def test_strength_holds_clients_back(self, plain, train, tmp_path):
        rows = train("fed_prox", tmp_path / "run", "--proximal_strength=5")
        assert float(rows[1]["train_loss"]) > float(plain[1][1]["train_loss"])
        assert _hparams(tmp_path / "run")["proximal_strength"] == 5


@pytest.fixture(scope="module")
def private(train, tmp_path_factory):
    folder = tmp_path_factory.mktemp("private") / "run"
    flags = (
        "--task=mnist",
        "--noise_multiplier=1.5",
        "--cohort_size=30",
        "--run_seed=7",
        "--max_examples_per_client=20",
    )
    return folder, flags, train("dp_fed_avg", folder, *flags)


class TestDPFedAvg:
    def test_logs_the_composed_epsilon_of_every_round(self, private):
        from tfl_research import privacy

        folder, _, rows = private
        hparams, plan = _hparams(folder), _plan(folder)
        assert hparams["sampler"] == "poisson"
        assert hparams["client_weighting"] == "uniform"
        clients = hparams["num_train_clients"]
        curve = privacy.epsilon_curve(
            noise_multiplier=1.5,
            sampling_rate=30 / clients,
            rounds=2,
            delta=plan["delta"],
            accountant="pld",
        )
        found = [float(row["epsilon"]) for row in rows]
        np.testing.assert_allclose(found, curve, rtol=1e-6)
        assert plan["delta"] < 1 / clients
        assert {float(row["delta"]) for row in rows} == {plan["delta"]}
        assert {float(row["noise_multiplier"]) for row in rows} == {1.5}
        assert {float(row["clip_norm"]) for row in rows} == {1.0}

    def test_the_run_seed_decides_cohorts_and_noise(self, private, train, tmp_path):
        _, flags, rows = private
        again = train("dp_fed_avg", tmp_path / "again", *flags)
        assert _comparable(again) == _comparable(rows)
        secret = [flag for flag in flags if not flag.startswith("--run_seed")]
        other = train("dp_fed_avg", tmp_path / "other", *secret)
        said = [
            " ".join((tmp_path / name / "privacy.txt").read_text("utf-8").split())
            for name in ("again", "other")
        ]
        chosen = ["run seed, which was chosen by --run_seed" in text for text in said]
        assert chosen == [True, False]
        assert [r["eval_loss"] for r in other] != [r["eval_loss"] for r in rows]

    def test_the_run_seed_is_not_recorded(self, private):
        folder, _, _ = private
        assert "run_seed" not in _hparams(folder)

    def test_a_target_epsilon_is_met_and_not_passed(self, train, tmp_path):
        rows = train(
            "dp_fed_avg",
            tmp_path / "run",
            "--target_epsilon=2",
            "--delta=1e-3",
            "--cohort_size=2",
        )
        spent = [float(row["epsilon"]) for row in rows]
        assert spent[0] < spent[1] <= 2
        assert spent[1] > 1.99

    def test_a_budget_ends_the_run(self, train, tmp_path):
        rows = train(
            "dp_fed_avg",
            tmp_path / "run",
            "--noise_multiplier=2",
            "--cohort_size=2",
            "--delta=1e-3",
            "--rounds=50",
            "--budget_epsilon=3",
        )
        assert 1 <= len(rows) < 50
        assert float(rows[-1]["epsilon"]) <= 3

    def test_adaptive_clipping_moves_the_norm(self, train, tmp_path):
        rows = train(
            "dp_fed_avg",
            tmp_path / "run",
            "--noise_multiplier=0.02",
            "--mechanism=adaptive_gaussian",
            "--l2_norm_clip=100",
            "--clipped_count_stddev=0.02",
            "--sampler=full",
        )
        norms = [float(row["clip_norm"]) for row in rows]
        # All four are unclipped: exp(-0.2 (1 - 0.5)), noise on the share 0.02 / 4.
        assert norms[0] == 100
        assert norms[1] == pytest.approx(100 * math.exp(-0.1), rel=0.01)

    def test_a_large_delta_is_warned_of(self, execute, tmp_path):
        code, _, errors = execute(
            "dp_fed_avg",
            [
                "--task=heart",
                "--rounds=1",
                "--notensorboard",
                "--noise_multiplier=5",
                "--delta=0.3",
                f"--output_dir={tmp_path / 'run'}",
            ],
        )
        assert code == 0, errors
        assert "warning: delta = 0.3 is at least 1/clients" in errors
        assert "ε" in (tmp_path / "run" / "privacy.txt").read_text(encoding="utf-8")
