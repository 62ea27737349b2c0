"""Plans, secret cohorts and records of private experiments; no TensorFlow."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tfl_research import data, privacy, tasks
from tfl_research.data import PoissonBatching
from tfl_research.devices.silos import UnreliableSilos
from tfl_research.errors import SettingError
from tfl_research.experiment import Experiment, setup
from tfl_research.experiment.configs import (
    Audit,
    Batches,
    Cohorts,
    RecordLevelPrivacy,
    Silos,
    TaskChoice,
    Training,
    UserLevelPrivacy,
    Weighting,
)
from tfl_research.experiment.private import record_level
from tfl_research.privacy import mechanisms
from tfl_research.tasks.task import Card, Task


def population(count=60):
    examples = {"x": np.zeros((2, 3), np.float32), "y": np.zeros(2, np.int32)}
    held = data.ClientData.from_arrays({f"client_{n}": examples for n in range(count)})
    return Task("toy", Card("", "", "", "", ""), held, held, None, int, int)


TOY = population()


def prepared(task=TOY, **parts):
    return setup.prepare(Experiment(task, **parts))


class TestUserLevel:
    def test_the_plan_has_every_setting(self):
        private = UserLevelPrivacy(
            mechanisms.Tree(restart_every=8),
            l2_norm_clip=0.5,
            noise_multiplier=3.0,
            delta=1e-4,
            budget_epsilon=50,
            accountant="rdp",
        )
        plan = prepared(
            privacy=private,
            cohorts=Cohorts("min_separation", 5),
            training=Training(rounds=20),
        ).user_level
        assert plan.mechanism == mechanisms.Tree(restart_every=8)
        assert (plan.l2_norm_clip, plan.noise_multiplier) == (0.5, 3.0)
        assert (plan.delta, plan.accountant, plan.budget_epsilon) == (1e-4, "rdp", 50)
        assert (plan.rounds, plan.expected_cohort_size) == (20, 5)
        assert plan.event.restart_every == 8
        assert plan.event.population == 60
        # 60 clients, 5 a round: 12 rounds apart.
        assert plan.amplification.min_separation == 12

    def test_noise_is_calibrated_to_all_rounds(self):
        plan = prepared(
            privacy=UserLevelPrivacy(target_epsilon=5, delta=1e-3),
            cohorts=Cohorts(cohort_size=6.0),
            training=Training(rounds=30),
        ).user_level
        assert plan.amplification.kind == "poisson"
        assert 4.95 < privacy.EpsilonCurve(plan.event, 1e-3).at(30) <= 5

    def test_without_privacy_there_is_no_plan(self):
        found = prepared()
        assert found.plan is found.user_level is found.record_level is None

    @pytest.mark.parametrize(
        "cohorts",
        [
            Cohorts("poisson", 6),
            Cohorts("fixed", 6),
            Cohorts("cyclic_poisson", 4, min_separation=5),
        ],
        ids=lambda cohorts: cohorts.sampler,
    )
    def test_cohorts_follow_the_secret_run_seed_alone(self, cohorts):
        def drawn(seed, run_seed):
            found = prepared(
                privacy=UserLevelPrivacy("local_gaussian", noise_multiplier=1.0),
                cohorts=cohorts,
                training=Training(seed=seed),
            )
            sampler = setup.secret_cohorts(found, run_seed)
            return [sampler.sample(number) for number in range(1, 6)]

        assert drawn(0, 7) == drawn(1, 7)
        assert drawn(0, 7) != drawn(0, 8)
        # A public seed of the same number gives other cohorts.
        public = cohorts.build(TOY.train.client_ids, 7)
        assert drawn(7, 7) != [public.sample(number) for number in range(1, 6)]

    def test_public_cohorts_without_a_mechanism(self):
        found = prepared(cohorts=Cohorts("fixed", 6))
        assert setup.secret_cohorts(found, 7) is found.cohorts
        records = prepared(
            privacy=RecordLevelPrivacy(record_noise_multiplier=1.0),
            cohorts=Cohorts("fixed", 6),
        )
        assert setup.secret_cohorts(records, 7) is records.cohorts

    def test_canaries_join_and_half_of_them_take_part(self):
        found = prepared(
            privacy=UserLevelPrivacy(noise_multiplier=1.0),
            cohorts=Cohorts(cohort_size=80.0),
            audit=Audit(canaries=100),
        )
        ids = found.task.train.client_ids
        assert len(ids) == 160
        assert found.hparams()["num_train_clients"] == 160
        sampler = setup.secret_cohorts(found, 7)
        seen = {name for number in range(1, 40) for name in sampler.sample(number)}
        canaries = set(ids) - set(TOY.train.client_ids)
        assert set(TOY.train.client_ids) <= seen
        # Fair coins: a binomial with mean 50 and standard deviation 5.
        assert abs(len(canaries & seen) - 50) < 25

    def test_a_shared_ledger_is_about_the_clients(self, tmp_path):
        path = tmp_path / "ledger"
        private = UserLevelPrivacy(noise_multiplier=1.0, ledger=path)
        found = prepared(privacy=private)
        assert found.population == privacy.Population.of(TOY.train.client_ids)
        assert (
            prepared(privacy=UserLevelPrivacy(noise_multiplier=1.0)).population is None
        )
        (tmp_path / "other").write_text("nobody could read a ledger\n")
        with pytest.raises(SettingError, match="line 1"):
            prepared(
                privacy=dataclasses.replace(private, ledger=str(tmp_path / "other"))
            )


class TestRecordLevel:
    def test_the_plan_and_the_steps(self):
        private = RecordLevelPrivacy(
            record_noise_multiplier=2.0,
            record_l2_norm_clip=0.5,
            record_delta=1e-4,
            record_budget_epsilon=90,
            record_accountant="rdp",
            record_batch_size=8,
            microbatch_size=2,
        )
        found = prepared(
            "heart",
            privacy=private,
            batches=Batches(client_steps=3),
            training=Training(rounds=20),
        )
        assert found.task.train.batching == PoissonBatching(3, 8.0, 2)
        plan = found.record_level
        assert (plan.l2_norm_clip, plan.rounds) == (0.5, 20)
        assert (plan.accountant, plan.budget_epsilon) == ("rdp", 90)
        assert set(plan.deltas) == {1e-4}
        assert [name for name, _ in plan.event.clients] == list(
            found.task.train.client_ids
        )
        # Everybody takes part by default.
        assert found.asked.sample(1) == found.task.train.client_ids

    def test_the_tasks_batch_size_is_expected_by_default(self):
        found = prepared(
            "heart", privacy=RecordLevelPrivacy(record_noise_multiplier=2.0)
        )
        own = tasks.get("heart").train.batching.batch_size
        assert found.task.train.batching == PoissonBatching(10, float(own), 1)
        hparams = found.hparams()
        assert hparams["batching"] == dataclasses.asdict(found.task.train.batching)

    def test_silos_may_be_down(self):
        found = prepared(
            "heart",
            privacy=RecordLevelPrivacy(record_noise_multiplier=2.0),
            silos=Silos(0.5, 2),
        )
        assert isinstance(found.reporting, UnreliableSilos)

    def test_the_seed_of_the_steps_is_no_seed_of_other_draws(self):
        seeds = {record_level.secret_cohort_seed(seed) for seed in range(50)}
        assert len(seeds) == 50
        assert min(seeds) > 2**128


class TestRecorded:
    """What hparams.json has beside the settings."""

    def test_of_every_run(self):
        found = prepared("heart", training=Training(seed=3, run_seed="5"))
        hparams = found.hparams()
        assert found.experiment.flat().items() <= hparams.items()
        assert set(hparams) - set(found.experiment.flat()) == {
            "batching",
            "expected_cohort_size",
            "num_train_clients",
        }
        assert hparams["num_train_clients"] == 4
        assert hparams["expected_cohort_size"] == 4

    def test_data_of_ones_own_are_known_again(self, tmp_path):
        def digest(task, **parts):
            return prepared(task, **parts).hparams().get("data_sha256")

        assert digest("heart") is None
        assert digest(tasks.get("heart")) is None
        x = np.zeros((8, 3))

        def arrays(y):
            return tasks.from_arrays({"a": {"x": x, "y": y}}, model=int)

        one = digest(arrays(np.arange(8) % 2))
        assert len(one) == 64
        assert digest(arrays(np.arange(8) % 2)) == one
        assert digest(arrays(np.arange(8) % 3)) != one
        # The settings of the run do not matter.
        assert digest(arrays(np.arange(8) % 2), batches=Batches(batch_size=2)) == one
        (tmp_path / "a.csv").write_text("x,y\n" + "1,0\n2,1\n" * 20)
        choice = TaskChoice("csv", data_dir=tmp_path, label_column="y")
        assert digest(choice) == choice.files_digest()

    def test_weights_of_clients_are_those_of_the_test_clients(self):
        found = prepared(
            "heart", training=Training(client_weight=("Cleveland=2", "Hungary=0"))
        )
        assert found.client_weights == {"Cleveland": 2.0, "Hungary": 0.0}
        assert prepared("heart").client_weights == {}

    def test_defaults_that_follow_are_recorded_and_no_secret(self):
        found = prepared(
            privacy=UserLevelPrivacy(noise_multiplier=1.0),
            weighting=Weighting("uniform"),
        )
        assert found.hparams()["sampler"] == "poisson"
        assert found.hparams()["expected_cohort_size"] == 10


class TestAdaptiveClipping:
    """z_eff = 1 leaves no noise for the updates where 2 σ_b is at most 1."""

    def check(self, size, noise=1.0, **parameters):
        mechanism = mechanisms.AdaptiveGaussian(**parameters)
        prepared(
            privacy=UserLevelPrivacy(mechanism, noise_multiplier=noise),
            cohorts=Cohorts("fixed", size),
        )

    def test_needs_a_cohort_above_ten_times_the_noise(self):
        assert mechanisms.AdaptiveGaussian().count_stddev(40) == 2.0
        # 2 σ_b = cohort / 10 must be above z = 1: 10 clients fail, 11 do not.
        with pytest.raises(SettingError) as raised:
            self.check(10)
        assert "--cohort_size=11 or more" in raised.value.for_command_line
        assert "above 0.5" in str(raised.value)
        self.check(11)

    def test_a_count_noise_of_ones_own(self):
        with pytest.raises(SettingError) as raised:
            self.check(60, clipped_count_stddev=0.5)
        assert raised.value.for_command_line == (
            "--clipped_count_stddev=0.5: must be above half the noise multiplier, 0.5"
        )
        self.check(1, noise=0.99, clipped_count_stddev=0.5)
