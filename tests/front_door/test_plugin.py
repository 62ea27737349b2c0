"""A user's own mechanism, event, rule, algorithm and task: by flag and by Python."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import tfl_research as tfl
from tfl_research import cli
from tfl_research.cli import privacy_ledger
from tfl_research.privacy.ledger import spending

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
COMMON = (
    "--plugin=outside_parts",
    "--task=points",
    "--task_option=slope=2",
    "--batch_size=8",
    "--evaluate_every=2",
    "--notensorboard",
    "--noprogress_bar",
    "--client_execution=folded_graph",
)
PRIVATE = (
    *COMMON,
    "--mechanism=coins",
    "--edge=0.25",
    "--sampler=full",
    "--noise_multiplier=4",
    "--run_seed=11",
)


@pytest.fixture(scope="module", autouse=True)
def without_a_trace():
    """Leaves the plugin's names to the tests of other files."""
    yield
    if sys.modules.pop("outside_parts", None) is not None:
        tfl.aggregators.AGGREGATORS.unregister("midrange")
        tfl.algorithms.ALGORITHMS.unregister("damped")
        tfl.privacy.MECHANISMS.unregister("coins")
        tfl.privacy.EVENTS.unregister("coins")
        tfl.tasks.unregister("points")


def binary(name, *arguments):
    """A binary in a process of its own, run where the plugin is."""
    return subprocess.run(
        [sys.executable, str(ROOT / "experiments" / f"{name}.py"), *arguments],
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def by_flags(tmp_path_factory):
    """Two rounds by flags, then two more in another process."""
    folder = tmp_path_factory.mktemp("plugin") / "flags"
    for rounds in (2, 4):
        done = binary(
            "dp_fed_avg", *PRIVATE, f"--rounds={rounds}", f"--output_dir={folder}"
        )
        assert done.returncode == 0, done.stderr
    assert f"resumes {folder} after round 2 of 4" in done.stdout
    return folder


@pytest.fixture(scope="module")
def experiment():
    import outside_parts

    return tfl.Experiment(
        task=tfl.TaskChoice("points", task_option=("slope=2",)),
        batches=tfl.Batches(batch_size=8),
        cohorts=tfl.Cohorts("full"),
        privacy=tfl.UserLevelPrivacy(
            outside_parts.Coins(edge=0.25), noise_multiplier=4
        ),
        training=tfl.Training(
            rounds=4,
            run_seed="11",
            evaluate_every=2,
            tensorboard=False,
            progress_bar=False,
        ),
        runtime=tfl.Runtime(client_execution="folded_graph"),
        name="dp_fed_avg",
    )


def test_a_run_by_flags_is_the_run_by_python(by_flags, experiment, tmp_path):
    result = experiment.run(tmp_path / "python")
    # The time is withheld: the data of the task are not public.
    theirs = pd.read_csv(by_flags / "metrics.csv")
    pd.testing.assert_frame_equal(theirs, pd.read_csv(result.path / "metrics.csv"))
    for name in ("computation.json", "privacy.txt", "summary.json"):
        assert (by_flags / name).read_bytes() == (result.path / name).read_bytes(), name
    ledgers = [
        spending.read_ledger(folder).runs[0] for folder in (by_flags, result.path)
    ]
    assert ledgers[0].entries == ledgers[1].entries
    records = [
        json.loads((folder / "hparams.json").read_text())
        for folder in (by_flags, result.path)
    ]
    assert records[0]["hparams"] == records[1]["hparams"]
    assert records[0]["hparams"]["plugins"] == ["outside_parts"]
    assert records[0]["privacy_plan"] == records[1]["privacy_plan"]
    # ρ = 4 / (2 · 4²), by the conversion of all events.
    account = tfl.privacy.EpsilonCurve(
        tfl.privacy.EVENTS.get("coins")(4.0, 8), theirs["delta"].iloc[0], "rdp"
    )
    assert result.epsilon == pytest.approx(account.at(4), rel=1e-8)


def said(*arguments):
    """(exit code, standard output, standard error) of privacy_ledger."""
    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = privacy_ledger.main(arguments)
    return code, out.getvalue(), errors.getvalue()


def test_the_ledger_is_shown_verified_and_planned_on(by_flags, experiment):
    code, text, errors = said("show", str(by_flags))
    assert (code, errors) == (0, "")
    assert "coins z=4" in text
    assert said("verify", str(by_flags))[0] == 0
    code, text, errors = said(
        "plan",
        "--mechanism=coins",
        "--edge=0.25",
        "--sampler=full",
        "--population=8",
        "--noise_multiplier=4",
        "--rounds=4",
        "--delta=1e-3",
        f"--ledger={by_flags}",
    )
    assert (code, errors) == (0, "")
    assert "spent before" in text
    assert "Coins are thrown, z = 4." in text


def test_a_refusal_is_one_line_if_the_plugin_imports_tff(tmp_path):
    (tmp_path / "imports_tff.py").write_text(
        "import tensorflow_federated as tff\n"
        "from tfl_research.processes import OptimizerStep\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "experiments" / "fed_avg.py"),
            "--plugin=imports_tff",
            "--task=hart",
            "--output_dir=run",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        },
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: --task=hart: unknown task")
    assert len(done.stderr.splitlines()) == 1


def test_without_the_plugin_the_ledger_says_which_it_needs(by_flags):
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from tfl_research.cli.privacy_ledger import main; "
            "sys.exit(main(sys.argv[1:]))",
            "show",
            str(by_flags),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "give --plugin=outside_parts" in done.stderr


def test_a_resume_without_the_plugin_is_refused(by_flags):
    arguments = [a for a in PRIVATE if not a.startswith("--plugin")]
    done = binary("dp_fed_avg", *arguments, "--rounds=4", f"--output_dir={by_flags}")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")


def test_rule_and_algorithm_by_flag_and_by_python(tmp_path):
    rule = binary(
        "robust_fed_avg",
        *COMMON,
        "--sampler=full",
        "--aggregator=midrange",
        "--stretch=0.5",
        "--rounds=2",
        f"--output_dir={tmp_path / 'rule'}",
    )
    assert rule.returncode == 0, rule.stderr
    import outside_parts

    base = tfl.Experiment(
        task=tfl.TaskChoice("points", task_option=("slope=2",)),
        batches=tfl.Batches(batch_size=8),
        cohorts=tfl.Cohorts("full"),
        aggregator=outside_parts.Midrange(stretch=0.5),
        weighting=tfl.Weighting("uniform"),
        training=tfl.Training(
            rounds=2, evaluate_every=2, tensorboard=False, progress_bar=False
        ),
        runtime=tfl.Runtime(client_execution="folded_graph"),
    )
    ours = base.run(tmp_path / "python_rule").metrics
    theirs = pd.read_csv(tmp_path / "rule" / "metrics.csv")
    np.testing.assert_array_equal(ours["train_loss"], theirs["train_loss"])
    # Half of the update twice is another model than the whole.
    damped = base.with_settings(aggregator="mean", algorithm="damped")
    whole = base.with_settings(aggregator="mean")
    losses = [
        e.run(tmp_path / name).metrics["train_loss"].iloc[1]
        for name, e in (("damped", damped), ("whole", whole))
    ]
    assert losses[0] > losses[1]
    code = cli.execute(
        _federated(),
        [
            "federated",
            *COMMON[1:],
            "--sampler=full",
            "--algorithm=damped",
            "--client_weighting=uniform",
            "--rounds=2",
            f"--output_dir={tmp_path / 'damped_flags'}",
        ],
    )
    assert code == 0
    theirs = pd.read_csv(tmp_path / "damped_flags" / "metrics.csv")
    assert theirs["train_loss"].iloc[1] == pytest.approx(losses[0], abs=0)


def test_less_noise_than_the_event_says_stops_the_run(
    experiment, tmp_path, monkeypatch
):
    """Said or not: nothing of the round is released."""
    import outside_parts

    for number, scales in enumerate(({"added": 0.9, "said": 0.9}, {"added": 0.9})):
        with monkeypatch.context() as patch:
            for name, scale in scales.items():
                patch.setitem(outside_parts.SCALES, name, scale)
            folder = tmp_path / str(number)
            # The second start of the folder is judged like the first.
            for _ in range(2):
                with pytest.raises(tfl.UserError, match="coins"):
                    experiment.run(folder)
            assert not (folder / "export").exists()
            metrics = folder / "metrics.csv"
            assert not metrics.exists() or len(pd.read_csv(metrics)) == 0


def _federated():
    sys.path.insert(0, str(ROOT / "experiments"))
    import federated

    return federated.PRESET
