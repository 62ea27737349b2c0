"""What a run was begun with is compared at every start, by Python and by flags."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
import sys

import pytest

import tfl_research as tfl
from tfl_research import cli
from tfl_research.experiment.running import building

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "experiments"))
FLAGS = {
    "task": "heart",
    "rounds": 2,
    "sampler": "fixed",
    "cohort_size": 2,
    "noise_multiplier": 1.0,
    "delta": 0.01,
    "run_seed": "5",
    "client_execution": "folded_graph",
    "tensorboard": False,
    "progress_bar": False,
}


def described(**changes):
    return tfl.Experiment.from_flat(
        {**FLAGS, **changes, "privacy_unit": "client"}, name="dp_fed_avg"
    )


def by_flags(folder, **changes):
    """(exit code) of the binary; what it says is captured by the test."""
    import dp_fed_avg

    settings = {**FLAGS, **changes}
    arguments = [f"--{name}={value}" for name, value in settings.items()]
    return cli.execute(
        dp_fed_avg.PRESET, ["dp_fed_avg", *arguments, f"--output_dir={folder}"]
    )


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    folder = tmp_path_factory.mktemp("begun") / "run"
    described().run(folder)
    return folder


def contents(folder):
    """Every file of a run, but for the lock."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


CHANGES = [
    ({"noise_multiplier": 0.5}, "noise_multiplier"),
    ({"l2_norm_clip": 50.0}, "l2_norm_clip"),
    ({"sampler": "poisson"}, "sampler"),
    ({"cohort_size": 3}, "cohort_size"),
    ({"delta": 0.02}, "delta"),
    ({"accountant": "rdp"}, "accountant"),
    ({"mechanism": "adaptive_gaussian", "clipped_count_stddev": 2.0}, "mechanism"),
    ({"client_learning_rate": 0.2}, "client_learning_rate"),
    ({"seed": 1}, "seed"),
]


@pytest.mark.parametrize(("changes", "name"), CHANGES, ids=[c[1] for c in CHANGES])
def test_a_change_is_refused_and_named(begun, changes, name, capsys):
    before = contents(begun)
    with pytest.raises(tfl.UserError) as raised:
        described(rounds=3, **changes).run(begun)
    assert name in str(raised.value)
    assert "--" not in str(raised.value)
    capsys.readouterr()
    assert by_flags(begun, rounds=3, **changes) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("error: ")
    assert name in said
    assert contents(begun) == before


def test_privacy_that_goes_away_is_refused(begun):
    public = tfl.Experiment.from_flat(
        {k: v for k, v in FLAGS.items() if k not in ("noise_multiplier", "delta")},
        name="dp_fed_avg",
    )
    with pytest.raises(tfl.UserError, match="privacy"):
        public.run(begun)


def test_a_plan_that_was_edited_in_the_record_is_refused(begun, tmp_path):
    """The record of the plan is compared, and not the settings alone."""
    copied = _copy(begun, tmp_path)
    record = json.loads((copied / "hparams.json").read_text())
    record["privacy_plan"]["noise_multiplier"] = 2.0
    (copied / "hparams.json").write_text(json.dumps(record))
    with pytest.raises(tfl.UserError, match="noise_multiplier was 2"):
        described(rounds=3).run(copied)


def test_another_process_is_refused(begun, tmp_path, monkeypatch):
    """The same settings, and a model whose code has changed since."""
    copied = _copy(begun, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(building, "process", _with_other_model(building.process))
        before = contents(copied)
        with pytest.raises(tfl.UserError, match="computation") as raised:
            described(rounds=3).run(copied)
        assert "client computation" in str(raised.value)
        assert contents(copied) == before
    # The former code goes on.
    assert described(rounds=3).run(copied).ended.completed_rounds == 3


def _with_other_model(process):
    """`building.process` of a task whose model squares what it is given."""
    import tensorflow as tf

    def changed(setup, *, noise_seed):
        build = setup.task.build_model

        def other():
            model = build()
            squares = tf.keras.layers.Lambda(tf.square)
            start = tf.keras.layers.InputLayer(model.input_shape[1:])
            return tf.keras.Sequential([start, squares, model])

        task = dataclasses.replace(setup.task, build_model=other)
        return process(dataclasses.replace(setup, task=task), noise_seed=noise_seed)

    return changed


def test_a_process_that_is_not_the_plans_is_refused(tmp_path, monkeypatch):
    """Noise that is charged is the noise of the process' own plan."""
    from tfl_research import processes

    def without_noise(setup, *, noise_seed):
        optimizer = setup.experiment.clients.build()
        return processes.build_fed_avg(setup.task, client_optimizer=optimizer)

    monkeypatch.setattr(building, "process", without_noise)
    with pytest.raises(tfl.UserError, match="plan"):
        described().run(tmp_path / "run")
    assert not (tmp_path / "run" / "export").exists()


def _copy(folder, tmp_path):
    target = tmp_path / "copied"
    shutil.copytree(folder, target)
    return target
