"""Several experiments in one process: in threads, in an event loop, in turn."""

from __future__ import annotations

import asyncio
import io
import pathlib
import threading

import pandas as pd
import pytest

import tfl_research as tfl
from tfl_research.privacy.ledger import spending


def described(**changes):
    settings = {
        "task": "heart",
        "rounds": 3,
        "sampler": "full",
        "evaluate_every": 3,
        "client_execution": "folded_graph",
        "tensorboard": False,
        "progress_bar": False,
        **changes,
    }
    return tfl.Experiment.from_flat(settings)


PUBLIC = {"client_learning_rate": 0.2}
PRIVATE = {
    "privacy_unit": "client",
    "noise_multiplier": 2.0,
    "sampler": "fixed",
    "cohort_size": 2,
    "run_seed": "9",
}


def rows(folder):
    table = pd.read_csv(pathlib.Path(folder) / "metrics.csv")
    return table.drop(columns="round_seconds")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Each experiment by itself."""
    folder = tmp_path_factory.mktemp("alone")
    for name, changes in (("public", PUBLIC), ("private", PRIVATE)):
        described(**changes).run(folder / name, stream=io.StringIO())
    return folder


def test_two_at_once_are_what_each_is_alone(alone, tmp_path):
    said, failed = io.StringIO(), []

    def in_thread():
        try:
            described(**PRIVATE).run(tmp_path / "private", stream=said)
        except BaseException as error:
            failed.append(error)
            raise

    thread = threading.Thread(target=in_thread)
    thread.start()
    ours = io.StringIO()
    result = described(**PUBLIC).run(tmp_path / "public", stream=ours)
    thread.join()
    assert not failed
    for name in ("public", "private"):
        pd.testing.assert_frame_equal(rows(alone / name), rows(tmp_path / name))
    ledgers = [spending.read_ledger(f / "private").runs[0] for f in (tmp_path, alone)]
    assert ledgers[0].entries == ledgers[1].entries
    assert result.epsilon == float("inf")
    # Each says its own.
    assert "privacy:" in said.getvalue()
    assert "privacy:" not in ours.getvalue()
    assert str(tmp_path / "public") in ours.getvalue()
    assert str(tmp_path / "public") not in said.getvalue()


@pytest.mark.parametrize("runtime", ["in_process", "tff"])
def test_inside_of_a_running_event_loop(alone, tmp_path, runtime):
    """As in a notebook, whose cells run in one."""
    changes = {**PUBLIC, "runtime": runtime}
    if runtime == "tff":
        changes["client_execution"] = "auto"

    async def cell():
        return described(**changes).run(tmp_path / "run", stream=io.StringIO())

    result = asyncio.run(cell())
    assert result.ended.completed_rounds == 3
    losses = rows(alone / "public")["train_loss"]
    assert result.metrics["train_loss"].to_numpy() == pytest.approx(
        losses.to_numpy(), rel=1e-5
    )


def test_a_loop_of_ones_own_that_is_left_early_is_resumed(alone, tmp_path):
    folder = tmp_path / "loop"
    experiment = described(**PRIVATE)
    reports = experiment.rounds(folder, stream=io.StringIO())
    for report in reports:
        expected = rows(alone / "private")["epsilon"][0]
        assert report.epsilon == pytest.approx(expected, rel=1e-8)
        break
    reports.close()
    numbers = [r.round_number for r in experiment.rounds(folder, stream=io.StringIO())]
    assert numbers == [2, 3]
    pd.testing.assert_frame_equal(rows(alone / "private"), rows(folder))
    ledgers = [spending.read_ledger(f).runs[0] for f in (folder, alone / "private")]
    assert ledgers[0].entries == ledgers[1].entries


def test_a_callback_stops_the_run_and_it_goes_on(tmp_path):
    seen = []

    class Impatient(tfl.Callback):
        def on_round(self, report):
            seen.append(report.round_number)
            return tfl.Stop("two are enough") if report.round_number == 2 else None

    import dataclasses

    experiment = described(**PUBLIC)
    stopped = dataclasses.replace(experiment, callbacks=(Impatient(),)).run(
        tmp_path / "run", stream=io.StringIO()
    )
    assert seen == [1, 2]
    assert stopped.stop_reason == "callback"
    assert len(stopped.metrics) == 2
    whole = experiment.run(tmp_path / "run", stream=io.StringIO())
    assert whole.stop_reason == "rounds"
    assert len(whole.metrics) == 3


def test_a_budget_ends_a_run(tmp_path):
    """ε of the first round is charged, and that of the second would be too much."""
    curve = described(**PRIVATE)
    curve.check()
    result = described(**PRIVATE, budget_epsilon=3.0).run(
        tmp_path / "run", stream=io.StringIO()
    )
    assert result.stop_reason == "budget"
    assert 0 < result.epsilon <= 3.0
    assert len(result.metrics) == result.ended.completed_rounds < 3


def test_the_model_is_a_keras_model(tmp_path):
    result = described(**PUBLIC).run(tmp_path / "run", stream=io.StringIO())
    x = next(iter(dict(result.task.test.items()).values()))["x"]
    assert result.model().predict(x, verbose=0).shape == (len(x), 1)
    assert result.model("best").count_params() == result.model().count_params()
    with pytest.raises(tfl.UserError, match="which must be 'final' or 'best'"):
        result.model("last")
    # A folder of a user's own is left alone.
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(tfl.UserError, match="holds other files"):
        described(**PUBLIC).run(tmp_path / "mine")
