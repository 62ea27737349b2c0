"""The MLflow callback on MLflow's own file store."""

from __future__ import annotations

import importlib.util
import json
import math
import sys

import fake_experiment as fake
import pytest

from tfl_research import program
from tfl_research.program.callbacks.mlflow import MLflow

needs_mlflow = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None,
    reason="MLflow is not installed (extra `mlflow`)",
)


@pytest.fixture
def store(tmp_path):
    """(URI of a file store, a client of it)."""
    import mlflow

    uri = (tmp_path / "mlruns").as_uri()
    return uri, mlflow.MlflowClient(tracking_uri=uri)


def only_run(client):
    [experiment] = [e for e in client.search_experiments() if e.name == "fake"]
    [run] = client.search_runs([experiment.experiment_id])
    return client.get_run(run.info.run_id)


def history(client, run, name):
    return [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]


@needs_mlflow
def test_a_run_is_logged(tmp_path, store):
    uri, client = store
    result = fake.run(
        tmp_path / "run",
        callbacks=[MLflow(uri)],
        hparams={"batching": {"batch_size": 20}, "run_seed": 7123456},
    )
    run = only_run(client)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "run"
    assert run.data.params == {
        "task": "fake",
        "client_learning_rate": "0.1",
        "rounds": "6",
        "batching.batch_size": "20",
    }
    assert run.data.tags["run_folder"] == str(tmp_path / "run")
    assert run.data.tags["export_folder"] == str(tmp_path / "run" / "export")
    assert run.data.tags["stop_reason"] == "rounds"
    assert run.data.tags["best_round"] == str(result.best_round)
    epsilons = history(client, run, "epsilon")
    assert [step for step, _ in epsilons] == [1, 2, 3, 4, 5, 6]
    for step, value in epsilons:
        assert value == pytest.approx(math.sqrt(step) / 10)
    losses = history(client, run, "eval_loss")
    assert [step for step, _ in losses] == [0, 2, 4, 6]
    assert losses[0][1] == pytest.approx(math.log(2), rel=1e-6)
    assert losses[-1][1] == pytest.approx(result.metrics["eval_loss"].iloc[-1])
    record = json.loads((tmp_path / "run" / "mlflow.json").read_text())
    assert record == {"format": 1, "run_id": run.info.run_id}


@needs_mlflow
def test_a_resumed_run_goes_on_in_the_same_mlflow_run(tmp_path, store):
    uri, client = store

    class Killed(BaseException):
        pass

    class Kill(program.Callback):
        def on_round(self, report):
            if report.round_number == 5:
                raise Killed

    with pytest.raises(Killed):
        fake.run(tmp_path / "run", callbacks=[MLflow(uri), Kill()])
    killed = only_run(client)
    assert killed.info.status == "FAILED"
    # The second start repeats round 5, and plans two rounds more.
    fake.run(
        tmp_path / "run",
        hparams={"rounds": 8},
        config=fake.config(rounds=8),
        callbacks=[MLflow(uri)],
    )
    run = only_run(client)
    assert run.info.run_id == killed.info.run_id
    assert run.info.status == "FINISHED"
    assert [step for step, _ in history(client, run, "epsilon")] == list(range(1, 9))
    assert (run.data.params["rounds"], run.data.tags["changed.rounds"]) == ("6", "8")


@needs_mlflow
def test_rounds_before_the_callback_was_added_are_logged_too(tmp_path, store):
    uri, client = store
    fake.run(tmp_path / "run", config=fake.config(rounds=2))
    with fake.arguments(tmp_path / "run", callbacks=[MLflow(uri)]) as given:
        reports = program.rounds(**given)
        next(reports)
        reports.close()
    run = only_run(client)
    assert [step for step, _ in history(client, run, "epsilon")] == [1, 2, 3]
    assert run.info.status == "KILLED"


@needs_mlflow
@pytest.mark.filterwarnings("error::UserWarning")
def test_another_store_is_refused(tmp_path, store):
    uri, _ = store
    fake.run(tmp_path / "run", config=fake.config(rounds=1), callbacks=[MLflow(uri)])
    other = (tmp_path / "other").as_uri()
    with pytest.raises(program.CallbackError) as error:
        fake.run(tmp_path / "run", callbacks=[MLflow(other)])
    assert "which this tracking store does not have" in str(error.value)
    assert "\n" not in str(error.value)


def test_without_mlflow_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(program.CallbackError) as error:
        fake.run(tmp_path, callbacks=[program.MLflow()])
    assert "install tfl_research[mlflow]" in str(error.value)
    assert "\n" not in str(error.value)
