"""`program.rounds`: a round at a time, left early, resumed; and the run's result."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import math
import os
import signal

import fake_experiment as fake
import pytest
from test_loop import same_state

from tfl_research import program
from tfl_research.errors import RunInterrupted, UserError
from tfl_research.program import one_start


def same_run(path, whole):
    """The files of a run, times aside, are those of a run that was never stopped."""
    assert fake.without_seconds(path) == fake.without_seconds(whole)
    for name in ("ledger.jsonl", "summary.json", "clients.csv"):
        assert (path / name).read_bytes() == (whole / name).read_bytes()


def test_reports_are_the_rows_of_metrics_csv(tmp_path):
    with fake.arguments(tmp_path) as given:
        reports = list(program.rounds(**given))
    assert [report.round_number for report in reports] == [1, 2, 3, 4, 5, 6]
    assert [r.stop_reason for r in reports] == [None] * 5 + ["rounds"]
    header, *rows = fake.without_seconds(tmp_path)
    for report, row in zip(reports, rows):
        cells = {name: cell for name, cell in zip(header, row) if cell != ""}
        assert cells.keys() == report.metrics.keys() - {"round_seconds"}
        for name, cell in cells.items():
            assert float(cell) == pytest.approx(
                float(report.metrics[name]), rel=1e-8, nan_ok=True
            )
        assert report.epsilon == pytest.approx(math.sqrt(report.round_number) / 10)
        evaluated = report.round_number % 2 == 0
        assert set(report.evaluation) == (
            {name for name in cells if name.startswith("eval_")} if evaluated else set()
        )
        assert report.evaluation.keys() <= report.metrics.keys()


def test_the_generator_returns_what_run_returns(tmp_path):
    results = []

    def delegating(given):
        results.append((yield from program.rounds(**given)))

    with fake.arguments(tmp_path / "a") as given:
        assert len(list(delegating(given))) == 6
    whole = fake.run(tmp_path / "b")
    [result] = results
    same_state(result.state, whole.state)
    assert (result.stop_reason, result.best_round) == ("rounds", whole.best_round)
    same_run(tmp_path / "a", tmp_path / "b")


def test_the_result_has_metrics_epsilon_and_evaluations(tmp_path):
    result = fake.run(tmp_path)
    table = result.metrics
    assert list(table["round"]) == [1, 2, 3, 4, 5, 6]
    assert list(table.columns)[-1] == "round_seconds"
    assert table["cohort_size"].dtype.kind == "i"
    assert list(table["eval_loss"].isna()) == [True, False] * 3
    assert result.epsilon == pytest.approx(math.sqrt(6) / 10)
    final = result.evaluations["final", "eval"]
    assert final.overall["loss"] == pytest.approx(table["eval_loss"].iloc[-1])
    assert ("best", "eval") in result.evaluations
    # A folder that is gone takes nothing from the result.
    (tmp_path / "metrics.csv").unlink()
    assert len(result.metrics) == 6


def test_epsilon_of_no_round_and_of_nothing_private(tmp_path):
    assert fake.run(tmp_path / "none", budget=0.05).epsilon == 0
    assert math.isinf(fake.run(tmp_path / "open", private=False).epsilon)


@pytest.mark.parametrize("last", [1, 2, 3, 5])
@pytest.mark.parametrize("how", ["break", "exception", "forgotten"])
def test_a_loop_left_early_resumes_bit_identically(tmp_path, last, how):
    whole = fake.run(tmp_path / "whole")
    path = tmp_path / "left"
    stream = io.StringIO()
    with fake.arguments(path, stream=stream) as given:
        if how == "forgotten":
            reports = program.rounds(**given)
            for _ in range(last):
                next(reports)
            del reports
            gc.collect()
        else:
            with (
                contextlib.suppress(ZeroDivisionError),
                contextlib.closing(program.rounds(**given)) as reports,
            ):
                for report in reports:
                    if report.round_number == last:
                        if how == "break":
                            break
                        raise ZeroDivisionError
    assert f"resumes after round {last}" in stream.getvalue().splitlines()[-1]
    assert not (path / "summary.json").exists()
    engine = fake.Engine(7)
    resumed = fake.run(path, engine=engine)
    assert engine.rounds == list(range(last + 1, 7))
    same_state(resumed.state, whole.state)
    same_run(path, tmp_path / "whole")


def test_a_generator_that_was_never_started_leaves_nothing(tmp_path):
    with fake.arguments(tmp_path) as given:
        program.rounds(**given).close()
    assert not (tmp_path / "metrics.csv").exists()
    assert fake.run(tmp_path).completed_rounds == 6


def test_signals_are_the_callers_between_rounds(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    during = []

    class Watching(fake.Engine):
        def next(self, state, cohort):
            during.append(signal.getsignal(signal.SIGTERM))
            return super().next(state, cohort)

    with fake.arguments(tmp_path, engine=Watching(7)) as given:
        for _ in program.rounds(**given):
            assert signal.getsignal(signal.SIGTERM) is before
    assert before not in during
    assert len(during) == 6


@pytest.mark.parametrize("call", ["run", "rounds"])
def test_a_signal_in_a_round_ends_the_run(tmp_path, call):
    class Interrupted(fake.Engine):
        def next(self, state, cohort):
            if int(state.client_work) == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().next(state, cohort)

    stream = io.StringIO()
    with (
        fake.arguments(tmp_path, engine=Interrupted(7), stream=stream) as given,
        pytest.raises(RunInterrupted),
    ):
        list(program.rounds(**given)) if call == "rounds" else program.run(**given)
    assert "interrupted by SIGTERM after round 3" in stream.getvalue()
    fake.run(tmp_path / "whole")
    fake.run(tmp_path)
    assert fake.without_seconds(tmp_path) == fake.without_seconds(tmp_path / "whole")


class TestPlans:
    """The process' plan is the account's plan, and its noise is the plan's."""

    @pytest.mark.parametrize("call", [program.run, program.rounds])
    def test_a_process_of_another_plan_is_refused(self, tmp_path, call):
        other = fake.Plan(noise_multiplier=0.0, clip=50.0)
        engine = fake.Engine(7)
        with (
            fake.arguments(tmp_path, process_plan=other, engine=engine) as given,
            pytest.raises(UserError) as error,
        ):
            call(**given)
        text = str(error.value)
        assert "noise_multiplier is 1.25 in the account's plan and 0 in" in text
        assert "clip is 1 in the account's plan and 50 in" in text
        assert "\n" not in text
        assert engine.rounds == []
        assert (tmp_path / "ledger.jsonl").exists() is False

    def test_an_account_for_a_process_without_a_plan_is_refused(self, tmp_path):
        with (
            fake.arguments(tmp_path, process_plan=None) as given,
            pytest.raises(UserError, match="process was built without that plan"),
        ):
            program.run(**given)

    def test_a_plan_without_an_account_runs_without_a_bound(self, tmp_path):
        result = fake.run(tmp_path, private=False, process_plan=fake.Plan())
        assert math.isinf(result.epsilon)

    def test_a_command_line_shows_the_plans_flags(self, tmp_path):
        class Account(fake.Account):
            def check_measured(self, metrics):
                raise UserError("--mechanism=gaussian: no noise was added")

        account = Account(tmp_path / "ledger.jsonl")
        with pytest.raises(UserError) as error:
            fake.run(tmp_path / "run", account=account)
        assert error.value.for_command_line.startswith(
            "round 1: --mechanism=gaussian: no noise was added; nothing"
        )

    def test_less_noise_than_the_plan_says_releases_nothing(self, tmp_path):
        class Quiet(fake.Engine):
            def next(self, state, cohort):
                new, metrics = super().next(state, cohort)
                if int(new.client_work) == 4:
                    metrics["aggregator"]["noise_stddev"] = 0.0
                    metrics["train"]["loss"] = 987654.0
                return new, metrics

        stream = io.StringIO()
        seen = []

        class Watching(program.Callback):
            def on_round(self, report):
                seen.append(report.round_number)

        evaluator = fake.Evaluator()
        with pytest.raises(UserError) as error:
            fake.run(
                tmp_path,
                engine=Quiet(7),
                stream=stream,
                callbacks=[Watching()],
                evaluator=evaluator,
            )
        text = str(error.value)
        assert "round 4: the noise has stddev 0, expected 0.01" in text
        assert "nothing of this round is released" in text
        assert "\n" not in text
        assert seen == [1, 2, 3]
        assert evaluator.calls == 2  # the untrained model and round 2
        assert [row[0] for row in fake.without_seconds(tmp_path)[1:]] == list("123")
        assert "987654" not in stream.getvalue()
        written = [p.name for p in (tmp_path / "checkpoints").iterdir()]
        assert written == ["round-00000002.ckpt"]
        assert not (tmp_path / "summary.json").exists()
        # The noise was drawn, and so the round stays charged.
        ledger = (tmp_path / "ledger.jsonl").read_text().splitlines()
        assert json.loads(ledger[-1]) == {"round": 4}


def test_participants_that_are_no_clients_count_in_no_cohort(tmp_path):
    class Accompanied(fake.Sampler):
        beside = ("client 0",)

        def sample(self, round_number):
            drawn = super().sample(round_number)
            return (*(c for c in drawn if c not in self.beside), *self.beside)

    sampler = Accompanied()
    result = fake.run(tmp_path, sampler=sampler)
    assert list(result.metrics["cohort_size"]) == [
        len(sampler.sample(number)) - 1 for number in range(1, 7)
    ]


@pytest.mark.parametrize("call", ["run", "rounds"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("is_given", [True, False])
def test_a_signal_before_the_session_is_told(
    tmp_path, monkeypatch, capsys, number, call, is_given
):
    """While the evaluation is imported, for instance."""
    monkeypatch.setattr(
        one_start, "Session", lambda *_, **__: signal.raise_signal(number)
    )
    stream = io.StringIO() if is_given else None
    with (
        fake.arguments(tmp_path, stream=stream) as given,
        pytest.raises(RunInterrupted) as raised,
    ):
        list(program.rounds(**given)) if call == "rounds" else program.run(**given)
    assert raised.value.code == 128 + number
    name = signal.Signals(number).name
    told = f"interrupted by {name}; the same command continues the run in {tmp_path}\n"
    # Without a stream, lines go to standard output.
    shown = capsys.readouterr().out if stream is None else stream.getvalue()
    assert shown == told
