"""The round loop on a NumPy engine: order, stopping, resuming, what it writes."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import time
import types

import fake_experiment as fake
import numpy as np
import pytest

from tfl_research import program
from tfl_research.errors import RunInterrupted, TrainingDivergedError, UserError
from tfl_research.interrupts import Interrupt
from tfl_research.program import RunConfig, progress
from tfl_research.storage.files import atomic


def same_state(one, other):
    for a, b in zip(one.global_model_weights.trainable, other[0].trainable):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(
        one.aggregator["momentum"][0], other[2]["momentum"][0]
    )
    assert one.client_work == other[1]
    assert one.aggregator["clip_norm"] == other[2]["clip_norm"]


def test_a_run_from_start_to_end(tmp_path):
    stream = io.StringIO()
    result = fake.run(tmp_path, stream=stream, config=fake.config(report=True))
    assert (result.completed_rounds, result.stop_reason) == (6, "rounds")
    rows = fake.without_seconds(tmp_path)
    cells = [dict(zip(rows[0], row)) for row in rows[1:]]
    assert [c["round"] for c in cells] == list("123456")
    for number, c in enumerate(cells, start=1):
        assert float(c["epsilon"]) == pytest.approx(math.sqrt(number) / 10)
        assert (c["delta"], c["noise_multiplier"]) == ("0.0001", "1.25")
        assert (c["eval_loss"] == "") == (number % 2 == 1)
        assert int(c["cohort_size"]) == len(fake.Sampler().sample(number))
    assert (cells[2]["cohort_size"], cells[2]["train_loss"]) == ("0", "nan")
    ledger = (tmp_path / "ledger.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in ledger] == [1, 2, 3, 4, 5, 6]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["untrained"]["eval_loss"] == pytest.approx(math.log(2))
    assert summary["final"]["eval_loss"] < summary["untrained"]["eval_loss"]
    assert summary["final"]["epsilon"] == pytest.approx(math.sqrt(6) / 10)
    assert summary["best"]["eval_accuracy"] == pytest.approx(result.best_value)
    exported = np.load(tmp_path / "export" / "final" / "weights.npz")
    np.testing.assert_array_equal(
        exported["arr_0"], result.state.global_model_weights.trainable[0]
    )
    assert (tmp_path / "export" / "best" / "weights.npz").exists()
    assert (tmp_path / "clients.csv").read_text().count("final,eval,client") == 8
    assert "<svg" in (tmp_path / "report.html").read_text()
    lines = stream.getvalue().splitlines()
    # The account gives ε, and nothing here says that ε covers more than that.
    assert lines[0].startswith("untrained | not covered: eval loss 0.6931")
    assert lines[1].startswith("round 1/6  ε 0.1 (δ 0.0001) | not covered: cohort ")
    assert lines[1].endswith(" s")
    assert lines[-2].startswith("complete after round 6: all planned rounds are done")
    assert str(tmp_path / "report.html") in lines[-1]


def test_the_round_is_charged_before_it_is_computed(tmp_path):
    class Watching(fake.Engine):
        def next(self, state, cohort):
            ledger = (tmp_path / "ledger.jsonl").read_text().splitlines()
            assert len(ledger) == int(state.client_work) + 1
            return super().next(state, cohort)

    assert fake.run(tmp_path, engine=Watching(7)).completed_rounds == 6


def test_nothing_private(tmp_path):
    stream = io.StringIO()
    fake.run(tmp_path, private=False, stream=stream)
    header, *rows = fake.without_seconds(tmp_path)
    assert {row[header.index("epsilon")] for row in rows} == {"inf"}
    assert {row[header.index("delta")] for row in rows} == {""}
    assert "round 1/" in stream.getvalue()
    assert "ε" not in stream.getvalue()
    assert not (tmp_path / "ledger.jsonl").exists()


def test_stops_before_the_round_that_exceeds_the_budget(tmp_path):
    stream = io.StringIO()
    # ε after 4 rounds is 0.2, after 5 it is 0.2236.
    result = fake.run(tmp_path, budget=0.21, stream=stream)
    assert (result.completed_rounds, result.stop_reason) == (4, "budget")
    assert len((tmp_path / "ledger.jsonl").read_text().splitlines()) == 4
    assert "next round would exceed the privacy budget" in stream.getvalue()
    result = fake.run(tmp_path / "none", budget=0.05)
    assert (result.completed_rounds, result.stop_reason) == (0, "budget")
    assert (tmp_path / "none" / "export" / "final").exists()
    # The last round before the end of the budget is evaluated, due or not.
    fake.run(tmp_path / "odd", budget=0.18)
    header, *rows = fake.without_seconds(tmp_path / "odd")
    assert rows[-1][0] == "3"
    assert rows[-1][header.index("eval_loss")] != ""


def test_early_stopping_and_best_model(tmp_path):
    class Scripted(fake.Evaluator):
        values = (0.5, 0.6, 0.8, math.nan, 0.7, 0.9)

        def evaluate(self, weights, split="eval"):
            found = super().evaluate(weights, split)
            if self.calls <= len(self.values):
                found.overall["accuracy"] = self.values[self.calls - 1]
            return found

    states = {}

    class Recording(fake.Engine):
        def next(self, state, cohort):
            new, metrics = super().next(state, cohort)
            states[int(new.client_work)] = new
            return new, metrics

    config = fake.config(rounds=20, evaluate_every=1, early_stopping_patience=2)
    result = fake.run(
        tmp_path, config=config, evaluator=Scripted(), engine=Recording(7)
    )
    # The untrained model takes the first value; round 2 has 0.8, then two worse.
    assert (result.completed_rounds, result.stop_reason) == (4, "early_stopping")
    assert (result.best_round, result.best_value) == (2, 0.8)
    best = np.load(tmp_path / "export" / "best" / "weights.npz")
    np.testing.assert_array_equal(
        best["arr_0"], states[2].global_model_weights.trainable[0]
    )
    # Started again, it has still stopped; with more patience it goes on.
    again = fake.run(tmp_path, config=config)
    assert again.completed_rounds == 4
    longer = fake.config(rounds=6, evaluate_every=1, early_stopping_patience=9)
    assert fake.run(tmp_path, config=longer).completed_rounds == 6


def test_a_run_succeeds_without_the_plots_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    stream = io.StringIO()
    result = fake.run(tmp_path, config=fake.config(report=True), stream=stream)
    assert result.completed_rounds == 6
    assert "no report.html: jinja2 is not installed" in stream.getvalue()
    assert (tmp_path / "summary.json").exists()
    assert "report.html" not in stream.getvalue().splitlines()[-1]


def test_unknown_selection_metric_is_refused_before_round_one(tmp_path):
    engine = fake.Engine()
    with pytest.raises(UserError, match=r"'eval_auc' is not evaluated .*eval_loss"):
        fake.run(tmp_path, config=fake.config(selection_metric="auc"), engine=engine)
    assert engine.rounds == []


def test_complete_run_only_rewrites_its_outputs(tmp_path):
    config = fake.config(report=True)
    fake.run(tmp_path, config=config)
    before = (tmp_path / "metrics.csv").read_bytes()
    for name in ("report.html", "summary.json", "clients.csv"):
        (tmp_path / name).unlink()
    engine, stream = fake.Engine(7), io.StringIO()
    result = fake.run(tmp_path, engine=engine, stream=stream, config=config)
    assert engine.rounds == []
    assert result.completed_rounds == 6
    assert (tmp_path / "metrics.csv").read_bytes() == before
    for name in ("report.html", "summary.json", "clients.csv"):
        assert (tmp_path / name).exists()
    assert "complete after round 6" in stream.getvalue()


def test_more_rounds_extend_a_run(tmp_path):
    fake.run(tmp_path / "a")
    extended = fake.run(tmp_path / "a", config=fake.config(rounds=10))
    whole = fake.run(tmp_path / "b", config=fake.config(rounds=10))
    same_state(extended.state, whole.state)
    a, b = (fake.without_seconds(tmp_path / name) for name in "ab")
    assert a == b


class Stopped(BaseException):
    """Stands in for a kill: nothing may handle it."""


@pytest.mark.parametrize("checkpoint_every", [1, 2, 4])
def test_killed_at_every_durable_step(tmp_path, monkeypatch, checkpoint_every):
    config = fake.config(checkpoint_every=checkpoint_every)
    whole = fake.run(tmp_path / "whole", config=config)
    replace = os.replace
    kills = 0
    while True:
        calls = 0

        def killed(source, target, last=kills):
            nonlocal calls
            calls += 1
            if calls > last:
                raise Stopped
            replace(source, target)

        path = tmp_path / f"killed {kills}"
        monkeypatch.setattr(atomic.os, "replace", killed)
        try:
            fake.run(path, config=config)
            break
        except Stopped:
            pass
        monkeypatch.setattr(atomic.os, "replace", replace)
        resumed = fake.run(path, config=config)
        same_state(resumed.state, whole.state)
        assert (resumed.best_round, resumed.best_value) == (
            whole.best_round,
            whole.best_value,
        )
        for name in ("ledger.jsonl", "summary.json", "clients.csv"):
            assert (path / name).read_bytes() == (
                tmp_path / "whole" / name
            ).read_bytes()
        assert fake.without_seconds(path) == fake.without_seconds(tmp_path / "whole")
        kills += 1
    assert kills >= 6 // checkpoint_every + 4


def test_damaged_checkpoints_fall_back(tmp_path):
    whole = fake.run(tmp_path / "whole")
    path = tmp_path / "damaged"
    fake.run(path, config=fake.config(rounds=4))
    newest = sorted((path / "checkpoints").iterdir())[-1]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    engine = fake.Engine(7)
    with pytest.warns(UserWarning, match=r"round-00000004.ckpt is damaged"):
        result = fake.run(path, engine=engine)
    assert engine.rounds == [3, 4, 5, 6]
    same_state(result.state, whole.state)
    assert fake.without_seconds(path) == fake.without_seconds(tmp_path / "whole")


def test_a_ledger_that_lost_rounds_is_refused(tmp_path):
    fake.run(tmp_path, config=fake.config(rounds=4))
    (tmp_path / "ledger.jsonl").write_text('{"round": 1}\n')
    with pytest.raises(UserError, match=r"ledger.jsonl has lost its last lines"):
        fake.run(tmp_path)


def test_fewer_rounds_than_there_are(tmp_path):
    fake.run(tmp_path, config=fake.config(rounds=4))
    stream = io.StringIO()
    result = fake.run(tmp_path, config=fake.config(rounds=3), stream=stream)
    assert "has 4 rounds already, more than rounds=3: no furth" in stream.getvalue()
    assert "resumes" not in stream.getvalue()
    assert result.completed_rounds == 4


def test_another_selection_metric_is_refused_on_resume(tmp_path):
    fake.run(tmp_path, config=fake.config(rounds=4))
    with pytest.raises(UserError, match="eval_accuracy, expected eval_loss"):
        fake.run(tmp_path, config=fake.config(selection_metric="loss"))


def test_a_model_that_is_no_longer_finite(tmp_path):
    with pytest.raises(TrainingDivergedError) as error:
        fake.run(tmp_path, engine=fake.Engine(7, diverge_in=5))
    text = str(error.value)
    assert text.startswith("round 5: the aggregated model is not finite")
    assert "weights.trainable[0]" in text
    assert str(tmp_path / "checkpoints" / "round-00000004.ckpt") in text
    assert "\n" not in text
    rows = fake.without_seconds(tmp_path)
    assert len(rows) == 1 + 4
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["stop_reason"] == "diverged"
    # With the round that diverged, which is charged and has no row.
    assert summary["epsilon"] == pytest.approx(math.sqrt(5) / 10)
    assert summary["final"]["epsilon"] == pytest.approx(math.sqrt(4) / 10)
    final = np.load(tmp_path / "export" / "final" / "weights.npz")
    assert np.isfinite(final["arr_0"]).all()
    # Charged, since the round was computed.
    assert len((tmp_path / "ledger.jsonl").read_text().splitlines()) == 5
    # Without the fault it goes on from the good rounds.
    assert fake.run(tmp_path).completed_rounds == 6


def test_an_error_in_a_round_says_how_to_go_on(tmp_path):
    class Failing(fake.Engine):
        def next(self, state, cohort):
            if int(state.client_work) == 3:
                raise RuntimeError("worker ended")
            return super().next(state, cohort)

    stream = io.StringIO()
    with pytest.raises(RuntimeError, match="worker ended"):
        fake.run(tmp_path, engine=Failing(7), stream=stream)
    assert (
        stream.getvalue()
        .splitlines()[-1]
        .endswith(
            "resumes after round 2, the last checkpoint (a smaller checkpoint_every "
            "repeats less)"
        )
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"rounds": 0},
        {"evaluate_every": 0},
        {"checkpoint_every": -1},
        {"early_stopping_patience": 0},
        {"checkpoint_seconds": 0.0},
    ],
)
def test_config_refuses_numbers_out_of_range(changes):
    with pytest.raises(ValueError, match=f"{next(iter(changes))} must be"):
        RunConfig(**{"rounds": 1, **changes})


def test_progress_bar_on_a_terminal(tmp_path):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    # Slow enough for the bar to be drawn again, which it is every 0.1 s.
    fake.run(tmp_path, stream=stream, engine=fake.Engine(7, 0.11))
    text = stream.getvalue()
    assert "5/6" in text
    assert "ε 0.2237 | not covered: loss 0." in text
    assert "round 6/6  ε 0.245 (δ 0.0001) | not covered: cohort" in text


def test_lines_tell_rate_and_time_left(tmp_path, monkeypatch):
    clock = itertools.count(0, 6)
    monkeypatch.setattr(
        progress, "time", types.SimpleNamespace(monotonic=lambda: next(clock))
    )
    stream = io.StringIO()
    fake.run(tmp_path, stream=stream)
    lines = [x for x in stream.getvalue().splitlines() if x.startswith("round ")]
    # A round takes six seconds; the rate is told when ten have gone by.
    told = [line.partition(" s  ")[2] for line in lines]
    rates = ["0.167 rounds/s, 24 s left", "0.167 rounds/s, 12 s left"]
    assert told == ["", rates[0], "", rates[1], "", "0.167 rounds/s, 0 s left"]


def test_a_round_without_a_checkpoint_waits_for_no_disk(tmp_path, monkeypatch):
    counts, sync = [], os.fsync

    def counted(file):
        counts[-1] += 1
        sync(file)

    monkeypatch.setattr(os, "fsync", counted)
    # Both have two checkpoints: after round 10, and at the end.
    for rounds in (11, 19):
        counts.append(0)
        config = fake.config(rounds=rounds, evaluate_every=50, checkpoint_every=10)
        folder = tmp_path / str(rounds)
        fake.run(folder, config=config, private=False, stream=io.StringIO())
    assert counts[0] == counts[1] > 0


def fail_by_signal(*_):
    """Fails as TensorFlow's tracing does if a signal comes in its middle."""
    with contextlib.suppress(Interrupt):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    raise AssertionError("nesting violated")


@pytest.mark.parametrize("go", [program.run, lambda **all: list(program.rounds(**all))])
def test_a_signal_that_became_another_error_is_told_as_a_signal(tmp_path, go):
    """TensorFlow's tracing turns a signal's exception into an AssertionError."""

    class Engine(fake.Engine):
        def next(self, state, cohort):
            if int(state.client_work) == 4:
                fail_by_signal()
            return super().next(state, cohort)

    stream = io.StringIO()
    options = {"config": fake.config(rounds=6, checkpoint_every=2), "stream": stream}
    with (
        fake.arguments(tmp_path, engine=Engine(), **options) as given,
        pytest.raises(RunInterrupted) as found,
    ):
        go(**given)
    assert found.value.code == 143
    assert stream.getvalue().splitlines()[-1].startswith("interrupted by SIGTERM")
    assert "after round 4" in stream.getvalue().splitlines()[-1]


@pytest.mark.parametrize("go", [program.run, lambda **all: list(program.rounds(**all))])
@pytest.mark.parametrize("event", ["on_close", "export", "begin"])
def test_an_error_after_a_signal_outside_of_rounds_is_the_signals(tmp_path, go, event):
    """Before the first round, after the last one, and where files are closed."""

    class Closing(program.Callback):
        on_close = fail_by_signal if event == "on_close" else program.Callback.on_close

    class Evaluator(fake.Evaluator):
        @property
        def metrics(self):
            if event == "begin":
                fail_by_signal()
            return super().metrics

    stream = io.StringIO()
    options = {"config": fake.config(rounds=2), "callbacks": [Closing()]}
    options["evaluator"] = Evaluator()
    if event == "export":
        options["exporter"] = fail_by_signal
    with (
        fake.arguments(tmp_path, stream=stream, **options) as given,
        pytest.raises(RunInterrupted) as found,
    ):
        go(**given)
    assert found.value.code == 143
    assert stream.getvalue().splitlines()[-1].startswith("interrupted by SIGTERM")


def start(path: pathlib.Path, rounds: int, seconds: float) -> subprocess.Popen:
    script = pathlib.Path(fake.__file__)
    return subprocess.Popen(
        [sys.executable, str(script), str(path), str(rounds), str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("number", [2, 15])
def test_ctrl_c_and_sigterm_keep_the_checkpoint(tmp_path, number):
    child = start(tmp_path / "run", 120, 0.02)
    lines = []
    for line in child.stdout:
        lines.append(line)
        if line.startswith("round 8/"):
            child.send_signal(number)
    assert child.wait(timeout=30) == 128 + number
    assert "interrupted by SIG" in lines[-1]
    assert str(tmp_path / "run") in lines[-1]
    assert "the same command resumes after round" in lines[-1]
    assert "Traceback" not in "".join(lines)
    again = start(tmp_path / "run", 120, 0.0)
    output, _ = again.communicate(timeout=60)
    assert again.returncode == 0, output
    assert "resumes" in output
    config = fake.config(rounds=120, checkpoint_every=3)
    fake.run(tmp_path / "whole", config=config)
    assert fake.without_seconds(tmp_path / "run") == fake.without_seconds(
        tmp_path / "whole"
    )


@pytest.mark.slow
def test_ten_kills_change_nothing(tmp_path):
    # Far more rounds than ten kills let through, however fast the machine is.
    rounds = 200
    config = fake.config(rounds=rounds, checkpoint_every=3)
    whole = fake.run(tmp_path / "whole", config=config)
    generator = np.random.default_rng()
    path = tmp_path / "killed"
    for _ in range(10):
        child = start(path, rounds, 0.01)
        # Somewhere between the start and a few rounds on.
        wanted = int(generator.integers(0, 7))
        seen = 0
        while seen < wanted and child.poll() is None:
            seen += child.stdout.readline().startswith("round ")
        time.sleep(float(generator.uniform(0, 0.02 if wanted else 0.15)))
        assert child.poll() is None, child.stdout.read()
        child.kill()
        child.communicate()
        assert child.returncode == -9
    child = start(path, rounds, 0.0)
    output, _ = child.communicate(timeout=60)
    assert child.returncode == 0, output
    assert fake.without_seconds(path) == fake.without_seconds(tmp_path / "whole")
    for name in ("ledger.jsonl", "summary.json", "clients.csv"):
        assert (path / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    same_state(fake.run(path, config=config).state, whole.state)
