"""Callbacks: what they are told, how they stop a run, and what their errors do."""

from __future__ import annotations

import io
import json

import fake_experiment as fake
import pytest
from test_loop import same_state

from tfl_research import program
from tfl_research.errors import RunInterrupted, TrainingDivergedError


class Recording(program.Callback):
    """Keeps every call; stops after a round where it is told to."""

    def __init__(self, stop_after=None):
        self.calls = []
        self.starts = []
        self.stop_after = stop_after

    def on_start(self, run):
        self.calls.append("start")
        self.starts.append(run)

    def on_round(self, report):
        self.calls.append(("round", report.round_number))
        if report.round_number == self.stop_after:
            return program.Stop("it is enough")
        return None

    def on_evaluation(self, report):
        self.calls.append(("evaluation", report.round_number))

    def on_end(self, result):
        self.calls.append(("end", result.stop_reason))

    def on_close(self, error):
        self.calls.append(("close", None if error is None else type(error).__name__))


def test_the_calls_of_a_run(tmp_path):
    callback = Recording()
    fake.run(tmp_path, config=fake.config(rounds=3), callbacks=[callback])
    assert callback.calls == [
        "start",
        ("round", 1),
        ("round", 2),
        ("evaluation", 2),
        ("round", 3),
        ("evaluation", 3),
        ("end", "rounds"),
        ("close", None),
    ]
    [start] = callback.starts
    assert (start.experiment, start.path) == ("fake", tmp_path)
    assert (start.planned_rounds, start.completed_rounds) == (3, 0)
    assert start.hparams == fake.HPARAMS
    assert start.untrained["eval_loss"] == pytest.approx(0.6931, abs=1e-4)
    assert (list(start.rows), start.repeated_rounds) == ([], ())


def test_a_callback_stops_the_run_and_it_can_go_on(tmp_path):
    whole = fake.run(tmp_path / "whole")
    stream, path = io.StringIO(), tmp_path / "stopped"
    second = Recording()
    result = fake.run(path, callbacks=[Recording(stop_after=3), second], stream=stream)
    assert (result.completed_rounds, result.stop_reason) == (3, "callback")
    assert result.stop_message == "it is enough"
    summary = json.loads((path / "summary.json").read_text())
    assert summary["stop_reason"] == "callback"
    assert summary["stop_message"] == "it is enough"
    said = "complete after round 3: a callback stopped the run (it is enough)"
    assert said in stream.getvalue()
    # The others hear of that round, too.
    assert second.calls[-3:] == [("round", 3), ("end", "callback"), ("close", None)]
    resumed = fake.run(path)
    same_state(resumed.state, whole.state)
    assert fake.without_seconds(path) == fake.without_seconds(tmp_path / "whole")
    assert (path / "summary.json").read_bytes() == (
        tmp_path / "whole" / "summary.json"
    ).read_bytes()


def test_a_report_says_that_a_callback_stopped_the_run(tmp_path):
    with fake.arguments(tmp_path, callbacks=[Recording(stop_after=2)]) as given:
        reasons = [report.stop_reason for report in program.rounds(**given)]
    assert reasons == [None, "callback"]


def test_a_run_that_ends_anyway_keeps_its_reason(tmp_path):
    result = fake.run(tmp_path, callbacks=[Recording(stop_after=6)])
    assert (result.stop_reason, result.stop_message) == ("rounds", None)


def test_an_evaluation_can_stop_the_run(tmp_path):
    class Enough(program.Callback):
        def on_evaluation(self, report):
            if report.evaluation["eval_loss"] < 0.69:
                return program.Stop("the loss is low")
            return None

    result = fake.run(tmp_path, callbacks=[Enough()])
    assert (result.completed_rounds, result.stop_message) == (2, "the loss is low")


def test_a_resumed_start_tells_the_rows_and_the_repeated_rounds(tmp_path):
    class Killed(BaseException):
        pass

    class Kill(program.Callback):
        def on_round(self, report):
            if report.round_number == 5:
                raise Killed

    with pytest.raises(Killed):
        fake.run(tmp_path, callbacks=[Kill()])
    callback = Recording()
    fake.run(tmp_path, callbacks=[callback])
    [start] = callback.starts
    assert start.completed_rounds == 4
    assert [row["round"] for row in start.rows] == list("1234")
    assert float(start.rows[1]["eval_loss"]) < 0.6931
    assert start.repeated_rounds == (5,)
    rounds = [call[1] for call in callback.calls if call[0] == "round"]
    assert rounds == [5, 6]
    assert start.untrained["eval_loss"] == pytest.approx(0.6931, abs=1e-4)


class Faulty(program.Callback):
    def __init__(self, event, after=0):
        self.event, self.after = event, after

    def _fail(self, event):
        if event == self.event:
            raise KeyError("no such\nthing")

    def on_start(self, run):
        self._fail("on_start")

    def on_round(self, report):
        if report.round_number > self.after:
            self._fail("on_round")

    def on_evaluation(self, report):
        self._fail("on_evaluation")

    def on_end(self, result):
        self._fail("on_end")

    def on_close(self, error):
        self._fail("on_close")


@pytest.mark.parametrize(
    ("event", "where", "kept"),
    [
        ("on_start", "on_start", 0),
        ("on_round", "on_round of round 3", 3),
        ("on_evaluation", "on_evaluation of round 2", 2),
        ("on_end", "on_end", 6),
        ("on_close", "on_close", 6),
    ],
)
def test_an_error_names_the_callback_and_loses_nothing(tmp_path, event, where, kept):
    whole = fake.run(tmp_path / "whole")
    path, other = tmp_path / "failed", Recording()
    with pytest.raises(program.CallbackError) as error:
        fake.run(path, callbacks=[other, Faulty(event, after=2)])
    text = str(error.value)
    assert text.startswith(f"callback Faulty failed in {where} (KeyError: 'no such")
    assert "\n" not in text
    assert isinstance(error.value.__cause__, KeyError)
    if event != "on_close":
        assert f"resumes after round {kept}" in text
        assert other.calls[-1] == ("close", "CallbackError")
    engine = fake.Engine(7)
    resumed = fake.run(path, engine=engine)
    assert engine.rounds == list(range(kept + 1, 7))
    same_state(resumed.state, whole.state)
    assert fake.without_seconds(path) == fake.without_seconds(tmp_path / "whole")


@pytest.mark.parametrize("answer", [True, "stop", 1])
def test_another_answer_than_stop_is_refused(tmp_path, answer):
    class Answering(program.Callback):
        def on_round(self, report):
            return answer

    with pytest.raises(program.CallbackError, match=r"expected None or program\.Stop"):
        fake.run(tmp_path, callbacks=[Answering()])


def test_what_is_no_callback_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"instances of program\.Callback, got <"):
        fake.run(tmp_path, callbacks=[Recording])
    assert not (tmp_path / "metrics.csv").exists()


def test_every_end_closes_a_callback_with_its_error(tmp_path):
    class Interrupted(fake.Engine):
        def next(self, state, cohort):
            raise KeyboardInterrupt

    callback = Recording()
    with pytest.raises(RunInterrupted):
        fake.run(tmp_path / "a", engine=Interrupted(7), callbacks=[callback])
    assert callback.calls == ["start", ("close", "RunInterrupted")]
    callback = Recording()
    with pytest.raises(TrainingDivergedError):
        fake.run(
            tmp_path / "b", engine=fake.Engine(7, diverge_in=1), callbacks=[callback]
        )
    assert callback.calls == ["start", ("close", "TrainingDivergedError")]
    callback = Recording()
    with fake.arguments(tmp_path / "c", callbacks=[callback]) as given:
        reports = program.rounds(**given)
        next(reports)
        reports.close()
    assert callback.calls == ["start", ("round", 1), ("close", "GeneratorExit")]


def test_a_failing_close_hides_no_other_error(tmp_path):
    other = Recording()
    with (
        pytest.warns(UserWarning, match="callback Faulty failed in on_close"),
        pytest.raises(TrainingDivergedError),
    ):
        fake.run(
            tmp_path,
            engine=fake.Engine(7, diverge_in=1),
            callbacks=[other, Faulty("on_close")],
        )
    assert other.calls[-1] == ("close", "TrainingDivergedError")


@pytest.mark.parametrize("reason", [None, 3, object()])
def test_a_stop_says_why_in_words(reason):
    """A reason that JSON does not have failed when the run was over."""
    with pytest.raises(TypeError, match="the reason of a Stop must be text"):
        program.Stop(reason)
