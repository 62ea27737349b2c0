"""A killed run of which something changes: refused, or new noise, never the old."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
from killed_runs import (
    CLIENTS,
    CLIP,
    COHORT,
    EDITS,
    NOISE,
    STDDEV,
    check_independent,
    experiment,
    refused,
    rounds,
    task,
)

import tfl_research as tfl
from tfl_research import privacy
from tfl_research.errors import UserError
from tfl_research.privacy.accounting.rounding import rounded_up
from tfl_research.sampling import Poisson
from tfl_research.storage.computation_record import ComputationRecord


class TestNothingChanged:
    def test_the_same_numbers_to_the_last_bit(self, killed, recharged):
        folder, models = killed
        again, _ = rounds(folder)
        np.testing.assert_array_equal(again[3], models[3])
        assert not recharged

    def test_recharge_says_so_and_changes_nothing(self, killed, recharged):
        folder, models = killed
        again, out = rounds(folder, recharge=True)
        np.testing.assert_array_equal(again[3], models[3])
        assert "nothing has changed" in out
        assert not recharged

    def test_newest_checkpoint_deleted_or_an_older_one_put_back(self, tmp_path):
        folder = tmp_path / "run"
        models, _ = rounds(folder, until=5)
        store = folder / "checkpoints"
        for path in store.iterdir():
            if "2.ckpt" not in path.name:
                path.unlink()
        again, _ = rounds(folder, until=4)
        for number in (3, 4):
            np.testing.assert_array_equal(again[number], models[number])
        for path in store.iterdir():
            path.unlink()
        again, _ = rounds(folder)
        for number in range(1, 6):
            np.testing.assert_array_equal(again[number], models[number])


@pytest.mark.parametrize("name", EDITS)
class TestEdits:
    def test_refused_or_new_noise(self, killed, monkeypatch, recharged, name):
        folder, models = killed
        build, patch, words = EDITS[name]
        patch(monkeypatch)
        own = experiment(build())
        text = refused(folder, own)
        assert words in text
        assert "--recharge" in text
        assert "--output_dir" in text
        assert not recharged
        again, out = rounds(folder, own, recharge=True)
        assert sorted(again) == [3, 4, 5, 6]
        check_independent(models, again, 3)
        assert recharged == [2]
        assert "the rounds after round 2 are executed with new noise" in out


class TestAgainAndAgain:
    def test_a_second_kill_repeats_the_new_noise(self, killed, recharged):
        folder, models = killed
        tanh = experiment(task("tanh"))
        first, _ = rounds(folder, tanh, until=3, recharge=True)
        second, _ = rounds(folder, tanh, until=5)
        np.testing.assert_array_equal(first[3], second[3])
        third, _ = rounds(folder, tanh)
        np.testing.assert_array_equal(second[5], third[5])
        assert recharged == [2]
        check_independent(models, second, 3)

    def test_the_old_code_restored_is_no_way_back(self, killed, recharged):
        folder, _ = killed
        tanh = experiment(task("tanh"))
        first, _ = rounds(folder, tanh, until=5, recharge=True)
        text = refused(folder)
        assert "the computation (client computation)" in text
        last, _ = rounds(folder, recharge=True)
        assert recharged == [2, 4]
        assert sorted(last) == [5, 6]
        both = {4: first[4], 5: last[5]}
        check_independent({4: first[4], 5: first[5]}, both, 5)

    def test_the_planned_total_has_the_repeated_rounds(self, killed):
        folder, _ = killed
        tanh = experiment(task("tanh"))
        _, before = rounds(folder, until=3)
        assert "repeated rounds" not in before
        _, out = rounds(folder, tanh, until=3, recharge=True)
        _, resumed = rounds(folder, tanh)
        # Round 3 was done twice.
        again = privacy.UserLevelPlan.create(
            "gaussian",
            l2_norm_clip=CLIP,
            amplification=Poisson(range(CLIENTS), COHORT, seed=0).amplification,
            rounds=7,
            noise_multiplier=NOISE,
            delta=1e-3,
        )
        epsilon = rounded_up(again.event.epsilon(7, 1e-3, "pld"))
        words = f"charged for repeated rounds: ε = {epsilon} at δ = 0.001."
        assert words in out
        assert words in resumed
        assert f"round 6/6  ε {epsilon}" in resumed

    def test_two_recharges_of_one_state_have_two_noises(self, killed, recharged):
        folder, models = killed
        tanh = experiment(task("tanh"))
        copy = folder.with_name("copy")
        shutil.copytree(folder, copy)
        first, _ = rounds(folder, tanh, recharge=True)
        second, _ = rounds(copy, tanh, recharge=True)
        check_independent({2: models[2], 3: first[3]}, second, 3)

    def test_an_old_record_put_back_is_no_way_back(self, killed, recharged):
        """Rounds 4 and 5 of the first attempt would be charged to the second."""
        folder, _ = killed
        old = (folder / "computation.json").read_bytes()
        tanh = experiment(task("tanh"))
        first, _ = rounds(folder, tanh, until=5, recharge=True)
        (folder / "computation.json").write_bytes(old)
        text = refused(folder)
        assert "restarts (0 in computation.json, 1 in ledger.jsonl)" in text
        again, _ = rounds(folder, recharge=True)
        assert recharged == [2, 4]
        assert sorted(again) == [5, 6]
        check_independent({4: first[4], 5: first[5]}, again, 5)

    def test_a_kill_between_ledger_and_record(self, killed, recharged, monkeypatch):
        folder, models = killed

        def killed_before(*arguments, **keywords):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(ComputationRecord, "begin_attempt", killed_before)
            with pytest.raises(KeyboardInterrupt):
                rounds(folder, experiment(task("tanh")), recharge=True)
        assert "restarts (0 in computation.json, 1" in refused(folder)
        again, _ = rounds(folder, recharge=True)
        check_independent(models, again, 3)
        lines = [json.loads(line) for line in (folder / "ledger.jsonl").open()]
        assert [line for line in lines if "restart" in line] == lines[4:5]

    def test_without_a_checkpoint_everything_is_done_again(self, tmp_path, recharged):
        folder = tmp_path / "run"
        models, _ = rounds(folder, until=1)
        tanh = experiment(task("tanh"))
        refused(folder, tanh)
        again, out = rounds(folder, tanh, recharge=True)
        assert sorted(again) == [1, 2, 3, 4, 5, 6]
        assert recharged == [0]
        assert "all rounds are executed with new noise" in out
        start = rounds(tmp_path / "start", until=1)[0]
        assert start[1].shape == models[1].shape
        ours, theirs = models[1], again[1]
        assert 0.6 < np.sum((ours - theirs) ** 2) / (2 * len(ours) * STDDEV**2) < 1.6

    def test_the_checkpoint_to_go_on_from_is_lost(self, killed, recharged):
        folder, _ = killed
        tanh = experiment(task("tanh"))
        rounds(folder, tanh, until=3, recharge=True)
        for path in (folder / "checkpoints").iterdir():
            path.unlink()
        with pytest.raises(UserError, match="lost the checkpoint of round 2"):
            rounds(folder, tanh)
        again, _ = rounds(folder, tanh, recharge=True)
        assert sorted(again) == [1, 2, 3, 4, 5, 6]
        assert recharged == [2, 0]


class TestFixed:
    @pytest.mark.parametrize("recharge", [False, True])
    def test_the_plan_and_the_settings(self, killed, recharge, recharged):
        folder, _ = killed
        assert "privacy plan" in refused(folder, experiment(noise=9.0), recharge)
        faster = experiment(client_optimizer=tfl.SGD(0.2))
        assert "another experiment" in refused(folder, faster, recharge)
        assert not recharged

    def test_flags_by_which_tensorflow_rounds_otherwise(self, killed, monkeypatch):
        folder, models = killed
        own = "--xla_cpu_enable_fast_min_max=false"
        flags = f"{own} --xla_cpu_enable_fast_math=true"
        with monkeypatch.context() as patch:
            patch.setenv("XLA_FLAGS", flags)
            text = refused(folder)
        assert "the settings of the runtime or XLA_FLAGS" in text
        # The flags that the engine sets itself are the same run's.
        monkeypatch.setenv("XLA_FLAGS", own)
        again, _ = rounds(folder, until=3)
        np.testing.assert_array_equal(again[3], models[3])

    @pytest.mark.parametrize("recharge", [False, True])
    def test_edited_settings_are_found_out(self, killed, recharge, recharged):
        folder, _ = killed
        path = folder / "hparams.json"
        record = json.loads(path.read_text())
        record["hparams"]["client_learning_rate"] = 0.2
        path.write_text(json.dumps(record))
        faster = experiment(client_optimizer=tfl.SGD(0.2))
        text = refused(folder, faster, recharge)
        assert "the settings differ" in text
        assert "--recharge" not in text
        assert not recharged

    def test_no_privacy_nothing_to_charge(self, tmp_path):
        plain = experiment(privacy=None)
        with pytest.raises(UserError, match="without privacy charges nothing"):
            plain.run(tmp_path / "run", recharge=True)


def test_a_ledger_that_cannot_charge_again_is_one_line(killed, monkeypatch):
    def recharge_after(self, completed_rounds):
        raise ValueError("the noise of its rounds is correlated")

    monkeypatch.setattr(
        privacy.RoundAccount, "recharge_after", recharge_after, raising=False
    )
    folder, _ = killed
    text = refused(folder, experiment(task("tanh")), recharge=True)
    assert text == "the noise of its rounds is correlated"


@pytest.mark.parametrize("call_python", [False, True])
def test_a_round_that_cannot_be_repeated_is_refused(tmp_path, call_python):
    """A resumed run would have the same noise on another update."""

    def build_model():
        import tensorflow as tf

        def draws(x):
            return x + tf.random.get_global_generator().normal(tf.shape(x))

        def calls(x):
            return tf.ensure_shape(tf.numpy_function(abs, [x], tf.float32), [None, 2])

        layers = tf.keras.layers
        inputs = layers.Input([2])
        hidden = layers.Lambda(calls if call_python else draws)(inputs)
        return tf.keras.Model(inputs, layers.Dense(2)(hidden))

    own = dataclasses.replace(task(), build_model=build_model)
    with pytest.raises(ValueError, match=r"lambda|numpy_function|PyFunc") as error:
        experiment(own).run(tmp_path / "run")
    name = "PyFunc" if call_python else "RngReadAndSkip"
    assert name in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run" / "metrics.csv").exists()
