"""Who may open a run's folder, and what is recorded in it."""

from __future__ import annotations

import json
import os
import pathlib
import stat
import subprocess
import sys

import numpy as np
import pytest

from tfl_research.errors import UserError
from tfl_research.storage import RunFolder, provenance

HPARAMS = {"task": "heart", "client_learning_rate": 0.1, "rounds": 5}


def open_and_close(path, hparams=HPARAMS, **options):
    with RunFolder.open(path, hparams, experiment="fed_avg", **options) as folder:
        return folder


def test_new_folder_records_everything(tmp_path):
    hparams = {
        **HPARAMS,
        "budget": float("inf"),
        "layers": (np.int64(3), np.float32(0.5)),
        "data": tmp_path,
        "nothing": None,
    }
    folder = open_and_close(tmp_path / "a" / "b", hparams)
    assert not folder.resumed
    record = json.loads(folder.hparams_path.read_text())
    assert record["experiment"] == "fed_avg"
    assert record["hparams"]["budget"] == "inf"
    assert record["hparams"]["layers"] == [3, 0.5]
    assert record["hparams"]["data"] == str(tmp_path)
    assert record["hparams"]["nothing"] is None
    assert record["versions"]["numpy"] == np.__version__
    assert "git_revision" in record


def test_same_experiment_resumes_with_the_same_seed(tmp_path):
    first = open_and_close(tmp_path)
    second = open_and_close(tmp_path)
    assert second.resumed
    assert first.run_seed == second.run_seed


def test_refuses_to_go_on_without_resume(tmp_path):
    open_and_close(tmp_path)
    with pytest.raises(UserError, match="resume, or choose another output_dir"):
        open_and_close(tmp_path, resume=False)


def test_rounds_and_cadence_may_change(tmp_path):
    open_and_close(tmp_path, {**HPARAMS, "evaluate_every": 10})
    changed = {**HPARAMS, "rounds": 50, "evaluate_every": 2}
    folder = open_and_close(tmp_path, changed)
    record = json.loads(folder.hparams_path.read_text())
    # A start that was refused later on has changed nothing.
    assert record["hparams"]["rounds"] == HPARAMS["rounds"]
    folder.accept()
    record = json.loads(folder.hparams_path.read_text())
    assert record["hparams"] == changed


def test_names_the_first_differences_with_both_values(tmp_path):
    open_and_close(tmp_path, {**HPARAMS, "a": 1, "b": 2, "c": 3})
    with pytest.raises(UserError) as error:
        open_and_close(
            tmp_path, {"task": "loans", "client_learning_rate": 0.2, "a": 9, "b": 9}
        )
    text = str(error.value)
    assert "task is heart there and loans here" in text
    assert "client_learning_rate is 0.1 there and 0.2 here" in text
    assert "and 2 more" in text
    assert "\n" not in text
    with pytest.raises(UserError, match="experiment is fed_avg there and fed_prox"):
        RunFolder.open(tmp_path, HPARAMS, experiment="fed_prox")


def test_unset_hyperparameter_is_a_difference(tmp_path):
    open_and_close(tmp_path)
    with pytest.raises(UserError, match=r"momentum is not set there and 0\.9"):
        open_and_close(tmp_path, {**HPARAMS, "momentum": 0.9})


def test_foreign_files_are_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match=r"other files \(thesis.tex\)"):
        open_and_close(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_folder_killed_before_its_record_counts_as_new(tmp_path):
    open_and_close(tmp_path)
    (tmp_path / "hparams.json").unlink()
    (tmp_path / "hparams.json.tmp").write_text("{")
    assert not open_and_close(tmp_path, {"task": "other"}).resumed


def test_unusable_paths_are_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "run", "/proc/run"):
        with pytest.raises(UserError, match="cannot write to") as error:
            open_and_close(path)
        assert "\n" not in str(error.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot write to"):
        open_and_close(tmp_path)


def test_second_process_is_refused_while_the_first_lives(tmp_path):
    code = (
        "import sys\n"
        "from tfl_research.errors import UserError\n"
        "from tfl_research.storage import RunFolder\n"
        "try:\n    RunFolder.open(sys.argv[1], {})\n"
        "except UserError as e:\n    print(e)\n"
    )

    def second() -> str:
        return subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    with RunFolder.open(tmp_path, {}):
        assert f"in use by another process (pid {os.getpid()})" in second()
    assert second() == ""


def test_lock_is_freed_after_an_error(tmp_path):
    open_and_close(tmp_path)
    with pytest.raises(UserError, match="another experiment"):
        open_and_close(tmp_path, {})
    open_and_close(tmp_path)


def test_run_seed_is_secret(tmp_path):
    folder = open_and_close(tmp_path, {**HPARAMS, "run_seed": 12345678901})
    path = tmp_path / "run_seed"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert 0 <= folder.run_seed < 2**128
    assert not folder.run_seed_given
    text = folder.hparams_path.read_text()
    assert "12345678901" not in text
    assert str(folder.run_seed) not in text
    assert f"{folder.run_seed:x}" not in text
    assert str(folder.run_seed) not in repr(folder)
    other = open_and_close(tmp_path / "other")
    assert other.run_seed != folder.run_seed


def test_given_run_seed_is_kept_and_said(tmp_path):
    assert open_and_close(tmp_path, run_seed=5).run_seed_given
    folder = open_and_close(tmp_path)
    assert folder.run_seed == 5
    assert folder.run_seed_given
    assert open_and_close(tmp_path, run_seed=5).run_seed == 5
    with pytest.raises(UserError, match="another run seed"):
        open_and_close(tmp_path, run_seed=6)
    for wrong in (-1, 2**128):
        with pytest.raises(UserError, match="run_seed must be at least 0 and below"):
            open_and_close(tmp_path / "new", run_seed=wrong)


@pytest.mark.parametrize("content", [None, "", "zz" * 16, "12"])
def test_lost_or_damaged_seed_is_an_error(tmp_path, content):
    open_and_close(tmp_path)
    path = tmp_path / "run_seed"
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(UserError, match="missing or damaged"):
        open_and_close(tmp_path)


@pytest.mark.parametrize("content", ["", "[1]", '{"hparams": {}}', "\x00"])
def test_damaged_record_is_an_error(tmp_path, content):
    open_and_close(tmp_path)
    (tmp_path / "hparams.json").write_text(content)
    with pytest.raises(UserError, match="not a run's record"):
        open_and_close(tmp_path)


def test_other_versions_are_warned_of(tmp_path, monkeypatch):
    open_and_close(tmp_path)
    versions = {**provenance.package_versions(), "numpy": "0.0"}
    monkeypatch.setattr(provenance, "package_versions", lambda: versions)
    with pytest.warns(UserWarning, match="begun with other code.*→ 0.0"):
        folder = open_and_close(tmp_path)
    folder.accept()
    record = json.loads(folder.hparams_path.read_text())
    assert record["versions"]["numpy"] == "0.0"
    assert record["begun_with"]["versions"]["numpy"] == np.__version__


def test_values_without_a_record_are_refused(tmp_path):
    with pytest.raises(ValueError, match="hyperparameter model is a object"):
        open_and_close(tmp_path, {"model": object()})


def test_git_revision_is_of_this_tree_or_none():
    revision = provenance.git_revision()
    root = pathlib.Path(provenance.__file__).parents[2]
    tracked = subprocess.run(
        ["git", "-C", root, "ls-files", "--error-unmatch", provenance.__file__],
        capture_output=True,
        check=False,
    )
    if tracked.returncode:
        assert revision is None
    else:
        head = subprocess.run(
            ["git", "-C", root, "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        assert revision.replace("-dirty", "") == head


def test_needs_no_tensorflow():
    code = (
        "import sys, tempfile\n"
        "from tfl_research.program import RunConfig, run\n"
        "from tfl_research.errors import UserError\n"
        "from tfl_research.storage import CheckpointStore, MetricsLog, RunFolder\n"
        "RunFolder.open(tempfile.mkdtemp(), {})\n"
        "print([m for m in ('tensorflow', 'matplotlib') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


PLAN = {
    "mechanism": "gaussian",
    "noise_multiplier": 1.0,
    "sampler": {"name": "poisson", "cohort_size": 20},
    "delta": None,
}


class TestPrivacyPlan:
    """The plan that a run was begun with is the plan of every later start."""

    def test_it_is_recorded_and_the_same_plan_resumes(self, tmp_path):
        assert open_and_close(tmp_path, plan=PLAN).plan == PLAN
        record = json.loads((tmp_path / "hparams.json").read_text())
        assert record["privacy_plan"] == PLAN
        assert record["format"] == 3
        again = open_and_close(tmp_path, plan=dict(reversed(PLAN.items())))
        assert again.resumed
        assert again.plan == PLAN

    def test_numbers_are_compared_by_value(self, tmp_path):
        open_and_close(tmp_path, plan={"z": np.float32(0.5), "n": 1, "bound": 1e400})
        again = {"z": 0.5, "n": np.int64(1), "bound": float("inf")}
        assert open_and_close(tmp_path, plan=again).resumed

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"noise_multiplier": 0.5}, "noise_multiplier was 1, is now 0.5"),
            ({"mechanism": "skellam"}, "mechanism was gaussian, is now skellam"),
            (
                {"sampler": {"name": "poisson", "cohort_size": 21}},
                "sampler.cohort_size was 20, is now 21",
            ),
            (
                {"sampler": {"name": "fixed", "cohort_size": 20}},
                "sampler.name was poisson, is now fixed",
            ),
            ({"delta": 1e-5}, "delta was None, is now 1e-05"),
            ({"clip": 0.3}, "clip was not set, is now 0.3"),
            (
                {"noise_multiplier": 1 + 1e-12},
                "noise_multiplier was 1, is now 1.000000000001;",
            ),
        ],
    )
    def test_a_change_is_named_with_both_values(self, tmp_path, changes, words):
        open_and_close(tmp_path, plan=PLAN)
        before = (tmp_path / "hparams.json").read_bytes()
        with pytest.raises(UserError) as error:
            open_and_close(tmp_path, plan={**PLAN, **changes})
        text = str(error.value)
        assert f"was begun with another privacy plan: {words}" in text
        assert "\n" not in text
        assert (tmp_path / "hparams.json").read_bytes() == before

    def test_a_value_that_is_gone_is_named(self, tmp_path):
        open_and_close(tmp_path, plan=PLAN)
        fewer = {name: value for name, value in PLAN.items() if name != "delta"}
        with pytest.raises(UserError, match="delta was None, is now not set"):
            open_and_close(tmp_path, plan=fewer)

    def test_a_plan_that_appears_or_disappears_is_refused(self, tmp_path):
        open_and_close(tmp_path / "a", plan=PLAN)
        with pytest.raises(UserError, match=r"had a privacy plan \(delta=None, "):
            open_and_close(tmp_path / "a")
        open_and_close(tmp_path / "b")
        with pytest.raises(UserError, match=r"had no privacy plan, is now given \(mec"):
            open_and_close(tmp_path / "b", plan=PLAN)

    def test_settings_and_plan_are_named_together(self, tmp_path):
        open_and_close(tmp_path, plan=PLAN)
        other = {**PLAN, "noise_multiplier": 2.0}
        with pytest.raises(UserError) as error:
            open_and_close(tmp_path, {**HPARAMS, "task": "loans"}, plan=other)
        text = str(error.value)
        assert "task is heart there and loans here" in text
        assert "noise_multiplier was 1, is now 2" in text


@pytest.mark.parametrize("version", [0, 1, 2, 4, "3"])
def test_another_format_is_not_resumed(tmp_path, version):
    open_and_close(tmp_path)
    path = tmp_path / "hparams.json"
    record = json.loads(path.read_text())
    record["format"] = version
    record["begun_with"]["git_revision"] = "abc123"
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match="finish the run with git revision abc123"):
        open_and_close(tmp_path)
