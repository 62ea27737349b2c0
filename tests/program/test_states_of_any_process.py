"""The loop with engines of processes that the toolkit did not build."""

from __future__ import annotations

import io
import json
import types
from typing import Any, NamedTuple

import fake_experiment as fake
import numpy as np
import pytest

from tfl_research import program
from tfl_research.errors import UserError
from tfl_research.program import StateOptions


class Counting:
    """A process without a model, with a text in its state and vectors as metrics."""

    def __init__(self, start: int = 0):
        self.start = start

    def initialize(self) -> Any:
        return {"count": np.int64(self.start), "word": ""}

    def next(self, state: Any, cohort: Any) -> tuple[Any, Any]:
        count = state["count"] + 1
        metrics = {
            "client_work": {"train": {"loss": np.float32(1 / count)}},
            "seen": np.arange(int(count)),
            "word": state["word"] + "x",
        }
        return {"count": count, "word": state["word"] + "x"}, metrics


def run(path, engine=None, config=None, **options):
    return fake.run(
        path,
        engine=engine or Counting(),
        private=False,
        config=config or fake.config(rounds=4),
        stream=options.pop("stream", io.StringIO()),
        **options,
    )


class Stop(program.Callback):
    def on_round(self, report):
        if report.round_number == 3:
            raise KeyboardInterrupt


def test_metrics_and_measurements_without_a_model(tmp_path):
    stream = io.StringIO()
    result = run(tmp_path, stream=stream)
    assert result.metrics["train_loss"].round(3).tolist() == [1.0, 0.5, 0.333, 0.25]
    assert result.measurements[3]["seen"].tolist() == [0, 1, 2]
    assert result.measurements[4]["word"][()] == "xxxx"
    assert result.best_round is None
    assert not (tmp_path / "export").exists()
    assert "untrained" not in stream.getvalue()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["no_best"] == "nothing is evaluated"
    columns = json.loads((tmp_path / "columns.json").read_text())["columns"]
    assert columns["seen"]["class"] == "exact"


def test_a_run_that_was_killed_ends_with_the_same_measurements(tmp_path):
    whole = run(tmp_path / "whole")
    with pytest.raises(SystemExit):
        run(tmp_path / "killed", callbacks=[Stop()])
    killed = run(tmp_path / "killed")
    assert killed.state == whole.state
    files = [
        (tmp_path / n / "measurements.jsonl").read_bytes() for n in ("whole", "killed")
    ]
    assert files[0] == files[1]
    assert fake.without_seconds(tmp_path / "whole") == fake.without_seconds(
        tmp_path / "killed"
    )


class Drawing(Counting):
    """Another initial state in each call, as initial weights without a seed."""

    calls = 0

    def initialize(self) -> Any:
        Drawing.calls += 1
        return {"count": np.int64(100 * Drawing.calls), "word": ""}


def test_an_initial_state_that_cannot_be_made_again_is_kept(tmp_path):
    config = fake.config(rounds=4, checkpoint_every=100)
    with pytest.raises(SystemExit):
        run(tmp_path, Drawing(), config, callbacks=[Stop()])
    names = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    assert names == ["round-00000000.ckpt"]
    first = 100 * (Drawing.calls - 1)
    assert run(tmp_path, Drawing(), config).state["count"] == first + 4


def test_an_initial_state_that_can_be_made_again_is_not_kept(tmp_path):
    config = fake.config(rounds=4, checkpoint_every=100)
    with pytest.raises(SystemExit):
        run(tmp_path, Counting(), config, callbacks=[Stop()])
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_part_of_the_state_can_be_the_model(tmp_path):
    class Evaluator:
        splits = ("eval",)
        metrics = types.MappingProxyType({})

        def evaluate(self, weights, split="eval"):
            overall = {"loss": float(weights)}
            none = np.zeros(0, np.int64)
            return program.Evaluation(overall, (), none, {})

    states = StateOptions(weights_of=lambda state: state["count"])
    reports = []

    class Seeing(program.Callback):
        def on_round(self, report):
            reports.append(report)

    result = run(
        tmp_path,
        evaluator=Evaluator(),
        states=states,
        callbacks=[Seeing()],
        exporter=lambda weights, path: path.mkdir(parents=True),
        config=fake.config(rounds=4, selection_metric="loss"),
    )
    assert result.metrics["eval_loss"].dropna().tolist() == [2.0, 4.0]
    assert (result.best_round, result.best_value) == (2, 2.0)
    assert [report.weights for report in reports] == [1, 2, 3, 4]
    assert [len(report.measurements["seen"]) for report in reports] == [1, 2, 3, 4]


@pytest.mark.parametrize("name", ["selection_metric", "early_stopping_patience"])
def test_a_metric_needs_a_model(tmp_path, name):
    value = {"selection_metric": "accuracy", "early_stopping_patience": 2}[name]
    with pytest.raises(UserError, match=rf"{name}={value}.*has no model"):
        run(tmp_path, config=fake.config(**{name: value}))


def test_a_private_run_withholds_measurements(tmp_path):
    class Noised(Counting):
        def next(self, state, cohort):
            new, metrics = super().next(state, cohort)
            metrics["aggregator"] = {"noise_stddev": np.float32(0.01)}
            return new, metrics

    from tfl_research.outputs import Release
    from tfl_research.program.evaluation.releases import Releases

    release = Release(is_private=True, withholds=True, proven=frozenset(["seen"]))
    result = fake.run(
        tmp_path,
        engine=Noised(),
        releases=Releases(release),
        stream=io.StringIO(),
        config=fake.config(rounds=2),
    )
    assert list(result.measurements[2]) == ["seen"]
    assert "train_loss" not in result.metrics
    columns = json.loads((tmp_path / "columns.json").read_text())["columns"]
    assert columns["seen"] == {
        "class": "private",
        "depends_on": "training clients",
        "what": "A column of the user's own parts.",
        "paid_by": "rounds",
    }


class WithModel(NamedTuple):
    global_model_weights: Any
    count: Any


def test_a_bare_array_can_be_the_model(tmp_path):
    class Centers:
        def initialize(self):
            return WithModel(np.zeros((2, 2), np.float32), np.int32(0))

        def next(self, state, cohort):
            return WithModel(state[0] + 1, state[1] + 1), ()

    exported = {}
    run(
        tmp_path,
        Centers(),
        evaluator=program.NoEvaluation(),
        exporter=lambda weights, path: exported.update({path.name: weights}),
    )
    np.testing.assert_array_equal(exported["final"], np.full((2, 2), 4.0))
