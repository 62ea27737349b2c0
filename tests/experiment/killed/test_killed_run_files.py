"""The files of a killed run, edited, lost or put back: refused, or new noise."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pytest
from killed_runs import (
    NOISE,
    check_independent,
    experiment,
    refused,
    rounds,
    task,
)

import tfl_research as tfl
from tfl_research.storage import checkpoints


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
