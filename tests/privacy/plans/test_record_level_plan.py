"""The plan of DP-SGD inside clients, and the noise that the clients report."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import tensorflow_federated as tff

from tfl_research import data, privacy, processes, runtime, storage
from tfl_research.clients.record_privacy import record_level
from tfl_research.errors import SettingError, UserError

BATCHING = data.PoissonBatching(steps=3, expected_batch_size=4.0)


@pytest.fixture(scope="module")
def task(make_linear_task):
    generator = np.random.default_rng(0)
    clients = {
        name: (generator.normal(size=(count, 2)), generator.normal(size=count))
        for name, count in (("a", 20), ("b", 8))
    }
    return make_linear_task(clients).with_batching(BATCHING)


def create(task, **changes):
    settings = {"l2_norm_clip": 0.5, "rounds": 6, **changes}
    if "target_epsilon" not in settings:
        settings.setdefault("noise_multiplier", 1.5)
    return privacy.RecordLevelPlan.create(task.train, **settings)


def test_the_event_is_that_of_the_clients(task):
    plan = create(task)
    expected = privacy.RecordEvent(1.5, 4.0, 3, 1, (("a", 20), ("b", 8)))
    assert plan.event == expected
    assert plan.deltas == (1e-3, 1e-3)
    assert (plan.delta, plan.accountant, plan.rounds) == (1e-3, "pld", 6)
    assert plan.batching == BATCHING
    assert create(task, delta=1e-4).deltas == (1e-4, 1e-4)


def test_noise_is_calibrated_to_the_client_that_is_sampled_most(task):
    plan = create(task, target_epsilon=4)
    # b takes half of its records in a step.
    spent = privacy.EpsilonCurve(plan.event.of_client(1), 1e-3).at(6)
    assert 3.95 < spent <= 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"noise_multiplier": 2.0}, "noise_multiplier was 1.5, is now 2"),
        ({"l2_norm_clip": 1.0}, "l2_norm_clip was 0.5, is now 1"),
        ({"delta": 1e-4}, "deltas.a was 0.001, is now 0.0001"),
        ({"accountant": "rdp"}, "accountant was pld, is now rdp"),
    ],
)
def test_a_resumed_run_is_told_what_changed(tmp_path, task, change, words):
    def start(plan):
        with storage.RunFolder.open(tmp_path, {}, plan=plan.record()) as folder:
            return folder

    plan = create(task)
    recorded = json.loads(json.dumps(plan.record(), allow_nan=False))
    assert start(plan).plan == recorded
    assert start(create(task, rounds=9)).resumed
    with pytest.raises(UserError) as raised:
        start(create(task, **change))
    assert words in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ({"noise_multiplier": 1.0, "target_epsilon": 2}, "--record_target_epsilon=2"),
        ({"noise_multiplier": None}, "--record_noise_multiplier or --record_target"),
        ({"noise_multiplier": -1.0}, "--record_noise_multiplier=-1.0"),
        ({"target_epsilon": 1e-9, "delta": 1e-12}, "--record_target_epsilon=1e-09"),
        ({"target_epsilon": 3, "budget_epsilon": 2}, "--record_budget_epsilon=2"),
        ({"budget_epsilon": 0.01}, "the first round alone costs a client's records"),
        ({"budget_epsilon": math.inf}, "--record_budget_epsilon=inf"),
        ({"l2_norm_clip": 0.0}, "--record_l2_norm_clip=0"),
        ({"delta": 0.0}, "--record_delta=0"),
        ({"accountant": "gdp"}, "--record_accountant=gdp"),
        ({"rounds": 0}, "--rounds=0"),
    ],
)
def test_what_does_not_fit(task, arguments, fragment):
    with pytest.raises(SettingError) as raised:
        create(task, **arguments)
    assert fragment in raised.value.for_command_line


def test_a_large_delta_is_warned_of(task):
    with pytest.warns(UserWarning, match="at least 1/records of client 'a'"):
        create(task, delta=0.06)


def test_other_local_steps_are_refused(task):
    with pytest.raises(ValueError, match="Poisson sampling"):
        privacy.RecordLevelPlan.create(
            task.with_batching(data.Batching(2)).train,
            l2_norm_clip=1.0,
            rounds=3,
            noise_multiplier=1.0,
        )


def round_metrics(task, work, client_ids=("a", "b")):
    process = processes.build_fed_avg(
        task,
        client_work=work,
        server_optimizer=tff.learning.optimizers.build_sgdm(1.0),
    )
    cohort = task.train.cohort(client_ids, seed=3, round_number=1)
    with runtime.in_process(process, mode=runtime.Mode("folded", "graph")) as engine:
        return engine.next(engine.initialize(), cohort)[1]


class TestMeasuredNoise:
    SGD = tff.learning.optimizers.build_sgdm(0.1)

    def test_clients_report_the_scale_of_their_noise(self, task):
        plan = create(task)
        work = plan.client_work(optimizer=self.SGD)
        assert work.plan is plan
        metrics = round_metrics(task, work)
        assert float(metrics["client_noise_stddev"]) == pytest.approx(1.5 * 0.5)
        plan.check_measured(metrics)
        for other in ({"noise_multiplier": 1.48}, {"l2_norm_clip": 0.6}):
            with pytest.raises(SettingError, match="client_noise_stddev = "):
                create(task, **other).check_measured(metrics)

    def test_noise_that_is_scaled_down_is_stopped(self, task, tmp_path, monkeypatch):
        plan = create(task)
        work = plan.client_work(optimizer=self.SGD)
        constant = record_level.tf.constant

        def smaller(value, *arguments, **others):
            if isinstance(value, float) and value == 0.75:
                value = 0.375
            return constant(value, *arguments, **others)

        with privacy.Ledger(tmp_path / "ledger.jsonl") as ledger:
            account = privacy.RecordAccount(ledger, plan)
            with monkeypatch.context() as patch:
                patch.setattr(record_level.tf, "constant", smaller)
                metrics = round_metrics(task, work)
            with pytest.raises(SettingError) as raised:
                account.check_measured(metrics)
        assert str(raised.value) == (
            "record_noise_multiplier=1.5: the plan declares client_noise_stddev = 0.75,"
            " but the round measured 0.375: the noise that was added is not the noise "
            "that is charged; build the aggregator with plan.build"
        )

    def test_other_work_is_refused(self, task):
        from tfl_research import clients

        plain = clients.local_training(optimizer=self.SGD)
        metrics = round_metrics(task, plain)
        assert "client_noise_stddev" not in metrics
        with pytest.raises(SettingError, match="measured no client_noise_stddev"):
            create(task).check_measured(metrics)

    def test_nobody_adds_no_noise(self, task):
        plan = create(task)
        work = plan.client_work(optimizer=self.SGD)
        plan.check_measured(round_metrics(task, work, client_ids=()))

    def test_no_column_in_the_metrics_file(self, task):
        from tfl_research.storage.metrics.round_metrics import round_row

        metrics = round_metrics(task, create(task).client_work(optimizer=self.SGD))
        assert "client_noise" not in " ".join(round_row(1, 2, metrics))


def test_plans_are_frozen(task):
    with pytest.raises(dataclasses.FrozenInstanceError):
        create(task).l2_norm_clip = 3.0
