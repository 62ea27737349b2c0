"""A killed run of which something changes: refused, or new noise, never the old."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import shutil
import warnings

import numpy as np
import pytest

import tfl_research as tfl
from tfl_research import privacy
from tfl_research.errors import UserError
from tfl_research.privacy.accounting.rounding import rounded_up
from tfl_research.sampling import Poisson
from tfl_research.storage import checkpoints, provenance
from tfl_research.storage.computation_record import ComputationRecord

CLIENTS, CLIP, NOISE, COHORT = 12, 0.1, 8.0, 6
STDDEV = CLIP * NOISE / COHORT
# Rounds 3 and 5 are after the last checkpoint.
EVERY = 2


# The activation of each model, by the function that builds the model.
_ACTIVATIONS = {}
_seen = {"key": None}


@functools.cache
def task(activation="relu", first_value=None):
    def build_model():
        import tensorflow as tf

        return tf.keras.Sequential(
            [
                tf.keras.layers.Input([2]),
                tf.keras.layers.Dense(40, activation=activation),
                tf.keras.layers.Dense(2),
            ]
        )

    generator = np.random.default_rng(3)
    clients = {}
    for number in range(CLIENTS):
        x = generator.normal(size=(6, 2)).astype(np.float32)
        clients[f"client {number}"] = {"x": x, "y": x[:, 0] > x[:, 1]}
    if first_value is not None:
        clients["client 0"]["x"][0, 0] = first_value
    found = tfl.tasks.from_arrays(clients, model=build_model)
    _ACTIVATIONS[found.build_model] = activation
    return found


@pytest.fixture(scope="module", autouse=True)
def lean(lean_runs):
    """No model or report is written; equal experiments share one TFF process.

    Nor is a checkpoint written after 30 seconds, which a busy machine takes.
    """

    def is_due(self, round_number):
        return round_number % EVERY == 0

    from tfl_research.program import recovery

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recovery.Recovery, "is_due", is_due)
        lean_runs(patch, lambda: _seen["key"])
        yield


@contextlib.contextmanager
def shared_process(own):
    parts = own.privacy, own.client_optimizer, own.cohorts
    _seen["key"] = _ACTIVATIONS[own.task.build_model], *map(repr, parts)
    try:
        yield
    finally:
        _seen["key"] = None


def experiment(own_task=None, noise=NOISE, **parts):
    return tfl.Experiment(
        own_task or task(),
        server_optimizer=tfl.SGD(1.0),
        training=tfl.Training(
            rounds=6, checkpoint_every=EVERY, evaluate_every=50, tensorboard=False
        ),
        **{
            "client_optimizer": tfl.SGD(0.1),
            "cohorts": tfl.Cohorts("poisson", cohort_size=COHORT),
            "privacy": tfl.UserLevelPrivacy(
                "gaussian", l2_norm_clip=CLIP, noise_multiplier=noise, delta=1e-3
            ),
            **parts,
        },
    )


def flat(report):
    weights = report.weights.trainable
    return np.concatenate([np.asarray(w).ravel() for w in weights])


def rounds(folder, own=None, until=6, recharge=False):
    """The model after each round of a start that is killed after `until`.

    A copy of the folder as it is at the kill is left in its place.
    """
    models, out, own = {}, io.StringIO(), own or experiment()
    with warnings.catch_warnings(), shared_process(own):
        warnings.simplefilter("ignore")
        started = own.rounds(folder, recharge=recharge, stream=out)
        with contextlib.closing(started):
            for report in started:
                models[report.round_number] = flat(report)
                if report.round_number == until:
                    killed = folder.with_name(folder.name + " as it was")
                    shutil.copytree(folder, killed)
                    break
    if until < 6:
        shutil.rmtree(folder)
        killed.rename(folder)
    return models, out.getvalue()


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run that was killed after round 3, with a checkpoint of round 2."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    models, _ = rounds(folder, until=3)
    assert sorted(models) == [1, 2, 3]
    return folder, models


@pytest.fixture
def killed(begun, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(begun[0], folder)
    return folder, begun[1]


@pytest.fixture(autouse=True)
def recharged(monkeypatch):
    """After which rounds accounts were told to charge again."""
    calls = []
    inner = privacy.RoundAccount.__dict__.get("recharge_after")

    def recharge_after(self, completed_rounds):
        calls.append(completed_rounds)
        if inner is not None:
            inner(self, completed_rounds)

    monkeypatch.setattr(
        privacy.RoundAccount, "recharge_after", recharge_after, raising=False
    )
    return calls


def difference(models, others, number):
    """Squared norm of the difference of two releases, over two noises'."""
    ours = models[number] - models[number - 1]
    theirs = others[number] - models[number - 1]
    return np.sum((ours - theirs) ** 2) / (2 * len(ours) * STDDEV**2)


def check_independent(models, others, number):
    # A chi-square of 202 degrees; clients change it by less than a tenth.
    assert 0.6 < difference(models, others, number) < 1.6


def refused(folder, own=None, recharge=False):
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with pytest.raises(UserError) as error:
        rounds(folder, own, recharge=recharge)
    text = error.value.for_command_line
    assert "\n" not in text
    after = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    changed = {p.name for p in {*before, *after} if before.get(p) != after.get(p)}
    assert changed <= {".lock"}
    return text


def edit_source(monkeypatch):
    found = provenance.source_digests()
    monkeypatch.setattr(
        provenance,
        "source_digests",
        lambda modules=(): {**found, "tfl_research/data/batching.py": "edited"},
    )


def edit_package(monkeypatch):
    versions = {**provenance.package_versions(), "mlxtend": "0.23.5"}
    monkeypatch.setattr(provenance, "package_versions", lambda: versions)


def nothing(monkeypatch):
    pass


EDITS = {
    "model": (lambda: task("tanh"), nothing, "the computation (client computation)"),
    "data": (lambda: task(first_value=9.0), nothing, "the data differs"),
    "package": (task, edit_package, "mlxtend 0.23.4 → 0.23.5"),
    "source": (task, edit_source, "the source file tfl_research/data/batching.py"),
}


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


class TestSeedFile:
    def test_another_digit(self, killed):
        folder, _ = killed
        path = folder / "run_seed"
        text = path.read_text()
        path.write_text(("1" if text[0] == "0" else "0") + text[1:])
        assert "run_seed" in refused(folder)

    @pytest.mark.parametrize(
        "edit",
        [
            str.upper,
            str.strip,
            lambda text: " " + text,
            lambda text: "0x" + text[2:],
            lambda text: text[:15] + "_" + text[16:],
            lambda text: text + "\n",
            lambda text: text[1:],
            lambda text: "",
        ],
    )
    def test_its_format_is_strict(self, killed, edit):
        folder, _ = killed
        path = folder / "run_seed"
        # With a letter, so that upper case differs.
        edited = edit("a" + path.read_text()[1:])
        path.write_text(edited)
        text = refused(folder)
        assert "missing or damaged" in text
        assert "32 lower-case hexadecimal digits" in text


class TestCheckpoints:
    @pytest.fixture
    def newest(self, killed):
        return killed[0] / "checkpoints" / "round-00000002.ckpt"

    def test_a_digit_is_seen(self, killed, newest):
        folder, models = killed
        content = bytearray(newest.read_bytes())
        content[-200] ^= 1
        newest.write_bytes(bytes(content))
        with pytest.warns(UserWarning, match="SHA-256 does not match"):
            found = checkpoints.CheckpointStore(newest.parent).newest()
        assert found == (0, "")
        again, _ = rounds(folder)
        # From the beginning, with the same noise on the same things.
        for number in (1, 2, 3):
            np.testing.assert_array_equal(again[number], models[number])

    def test_a_file_with_a_right_sha_is_seen(self, killed, newest):
        folder, models = killed
        body = bytearray(newest.read_bytes()[:-64])
        body[-5] ^= 64
        newest.write_bytes(bytes(body) + hashlib.sha256(body).digest() + bytes(32))
        assert checkpoints.stored_progress(newest.parent)
        again, _ = rounds(folder)
        for number in (1, 2, 3):
            np.testing.assert_array_equal(again[number], models[number])

    def test_another_rounds_file_is_seen(self, tmp_path):
        folder = tmp_path / "run"
        models, _ = rounds(folder, until=5)
        store = folder / "checkpoints"
        shutil.copy(store / "round-00000002.ckpt", store / "round-00000004.ckpt")
        again, _ = rounds(folder, until=5)
        for number in (3, 4, 5):
            np.testing.assert_array_equal(again[number], models[number])

    def test_no_secret_and_no_other_readers(self, killed, newest):
        folder, _ = killed
        from tfl_research.storage import run_seed

        seed = run_seed.read(folder / "run_seed")
        record = json.loads((folder / "computation.json").read_text())
        attempts = checkpoints.Attempts.from_json(record["attempts"])
        for secret in (seed, attempts.key(seed)):
            words = [(secret >> shift) % 2**64 for shift in (0, 64)]
            for word in words:
                assert word.to_bytes(8, "little") not in newest.read_bytes()
        for name in ("run_seed", "computation.json", f"checkpoints/{newest.name}"):
            assert (folder / name).stat().st_mode & 0o777 == 0o600
        assert (folder / "checkpoints").stat().st_mode & 0o777 == 0o700


class TestComputationRecord:
    def test_edited(self, killed, recharged):
        folder, models = killed
        path = folder / "computation.json"
        record = json.loads(path.read_text())
        record["fingerprint"]["packages"]["numpy"] = "1.0"
        path.write_text(json.dumps(record))
        assert "its seal does not match" in refused(folder)
        again, _ = rounds(folder, recharge=True)
        check_independent(models, again, 3)
        assert recharged == [2]

    def test_missing(self, killed, recharged):
        folder, models = killed
        (folder / "computation.json").unlink()
        assert "computation.json is missing" in refused(folder)
        again, _ = rounds(folder, recharge=True)
        check_independent(models, again, 3)
        assert recharged == [2]

    def test_missing_with_its_rows(self, killed):
        folder, _ = killed
        for name in ("computation.json", "metrics.csv"):
            (folder / name).unlink()
        assert "computation.json is missing" in refused(folder)
        shutil.rmtree(folder / "checkpoints")
        assert "computation.json is missing" in refused(folder)

    def test_the_data_are_in_no_file_that_others_read(self, killed):
        folder, _ = killed
        record = json.loads((folder / "computation.json").read_text())
        digest = record["fingerprint"]["data"]
        assert len(digest) == 64
        for path in folder.rglob("*"):
            if path.is_file() and path.name != "computation.json":
                assert digest.encode() not in path.read_bytes()


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


class TestExecution:
    """Another way of executing rounds otherwise, under the same noise."""

    def test_edited_or_lost(self, killed):
        folder, models = killed
        path = folder / "runtime.json"
        content = path.read_text()
        record = json.loads(content)
        path.write_text(json.dumps({**record, "parallel": record["parallel"] + 1}))
        assert "its seal does not match the run seed" in refused(folder)
        path.unlink()
        assert "runtime.json is missing" in refused(folder)
        path.write_text(content)
        again, _ = rounds(folder, until=3)
        np.testing.assert_array_equal(again[3], models[3])

    def test_a_run_without_privacy_may_choose_again(self, tmp_path):
        plain = experiment(privacy=None)
        rounds(tmp_path / "run", plain, until=3)
        (tmp_path / "run" / "runtime.json").unlink()
        assert sorted(rounds(tmp_path / "run", plain)[0]) == [3, 4, 5, 6]


class TestRecords:
    """Record-level noise and steps come from the same key."""

    def own(self, activation="relu"):
        return experiment(
            task(activation),
            cohorts=tfl.Cohorts("full"),
            privacy=tfl.RecordLevelPrivacy(
                record_noise_multiplier=NOISE,
                record_l2_norm_clip=1.0,
                record_batch_size=3.0,
            ),
        )

    def test_refused_or_new_noise(self, tmp_path, recharged):
        folder = tmp_path / "run"
        models, _ = rounds(folder, self.own(), until=3)
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        again, _ = rounds(copy, self.own(), until=3)
        np.testing.assert_array_equal(again[3], models[3])
        tanh = self.own("tanh")
        assert "the computation" in refused(folder, tanh)
        again, _ = rounds(folder, tanh, until=3, recharge=True)
        assert recharged == [2]
        ours, theirs = (m[3] - models[2] for m in (models, again))
        # Noise dwarfs gradients here. With one noise the correlation is near 1.
        assert abs(np.corrcoef(ours, theirs)[0, 1]) < 0.4
        repeated, _ = rounds(folder, tanh)
        np.testing.assert_array_equal(repeated[3], again[3])
