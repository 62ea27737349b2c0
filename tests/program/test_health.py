"""What a run says of itself: exclusions, divergence, and what did not happen."""

from __future__ import annotations

import collections
import io
import json
import math
import re
import shutil

import fake_experiment as fake
import numpy as np
import pytest

from tfl_research import outputs
from tfl_research.data import Batching, ClientData
from tfl_research.errors import TrainingDivergedError
from tfl_research.program.each_round import divergence, exclusions
from tfl_research.program.evaluation.releases import Releases

NAN = "x is nan in its example 2"
ITSELF = "its update is not finite, although its examples are"


class Excluding(fake.Engine):
    """Excludes clients with an example that is not finite, and those in `bad`."""

    def __init__(self, bad=(), **kwargs):
        super().__init__(**kwargs)
        self.bad = bad
        self.calls = 0

    def next(self, state, cohort):
        self.calls += 1
        finite = [
            all(np.isfinite(array).all() for array in cohort.load(name).values())
            and name not in self.bad
            for name in cohort.client_ids
        ]
        kept = [index for index, good in enumerate(finite) if good]
        new, metrics = super().next(state, cohort.select(kept))
        metrics["cohort"]["excluded"] = np.int32(len(finite) - len(kept))
        return new, metrics


class Everybody(fake.Sampler):
    def sample(self, round_number):
        return self.client_ids


def clients_with_nan(*names):
    data = fake.clients()
    arrays = {}
    for name, examples in data.items():
        x = np.array(examples["x"])
        if name in names:
            x[2, 1] = math.nan
        arrays[name] = {"x": x, "y": np.array(examples["y"])}
    return ClientData.from_arrays(arrays, Batching(batch_size=4))


def run(path, **options):
    out = io.StringIO()
    options.setdefault("private", False)
    options.setdefault("sampler", Everybody())
    result = fake.run(path, stream=out, **options)
    return result, out.getvalue()


class TestExclusions:
    def of(self, count, bad=(), nan=()):
        data = clients_with_nan(*nan)
        engine = Excluding(bad)
        cohort = data.cohort(data.client_ids, seed=0, round_number=1)
        found = exclusions.Exclusions(engine)
        return found, engine, found.of_round(engine.initialize(), cohort, count), cohort

    def test_by_the_examples_alone(self):
        _, engine, excluded, _ = self.of(2, nan=["client 3", "client 6"])
        assert excluded == [("client 3", NAN), ("client 6", NAN)]
        assert engine.calls == 0

    def test_by_halves_of_the_cohort(self):
        found, engine, excluded, cohort = self.of(1, bad=["client 5"])
        assert excluded == [("client 5", ITSELF)]
        # Clients 0 to 3 without; 4 and 5 with, 4 without, and 6 and 7 without.
        assert engine.calls == 4
        # Once found, a client is tried first.
        again = found.of_round(engine.initialize(), cohort, 1)
        assert (again, engine.calls) == ([("client 5", ITSELF)], 5)
        # And is not blamed for another one.
        engine.bad = ["client 2"]
        other = found.of_round(engine.initialize(), cohort, 1)
        assert other == [("client 2", ITSELF)]

    @pytest.mark.parametrize("bad", [[0], [7], [0, 7], [1, 2, 3], list(range(8))])
    def test_each_is_found(self, bad):
        names = [f"client {n}" for n in bad]
        _, _, excluded, _ = self.of(len(bad), bad=names)
        assert excluded == [(name, ITSELF) for name in names]

    def test_both_reasons(self):
        _, _, excluded, _ = self.of(2, bad=["client 1"], nan=["client 4"])
        assert excluded == [("client 1", ITSELF), ("client 4", NAN)]

    def test_a_search_that_fails_ends_no_run(self):
        data = fake.clients()
        cohort = data.cohort(data.client_ids, seed=0, round_number=1)

        class Refusing(fake.Engine):
            def next(self, state, cohort):
                raise ValueError("no such cohort")

        with pytest.warns(UserWarning, match="which clients were excluded: no such c"):
            assert exclusions.Exclusions(Refusing()).of_round(None, cohort, 1) == ()

    def test_line_metrics_summary_and_report(self, tmp_path):
        data = clients_with_nan("client 3")
        config = fake.config(rounds=3, report=True)
        result, out = run(
            tmp_path,
            engine=Excluding(["client 6"]),
            task=fake.Task(train=data),
            config=config,
        )
        who = f"client 3: {NAN}; client 6: {ITSELF}"
        assert f"excluded 2 ({who})" in out
        assert (
            "warning: updates that were not finite did not count: client 3 in 3" in out
        )
        assert [
            set(map(tuple, m[exclusions.NAME])) for m in result.measurements.values()
        ]
        assert result.summary["excluded"] == [
            {"client": "client 3", "reason": NAN, "rounds": 3, "last_round": 3},
            {"client": "client 6", "reason": ITSELF, "rounds": 3, "last_round": 3},
        ]
        assert json.loads((tmp_path / "summary.json").read_text())["excluded"]
        page = (tmp_path / "report.html").read_text()
        assert "<h3>Excluded clients</h3>" in page
        words = " ".join(re.sub("<[^>]*>", " ", page).split())
        assert f"client 3 3 3 {NAN}" in words
        # A run that is resumed counts the rounds before.
        config = fake.config(rounds=4)
        task = fake.Task(train=data)
        result, _ = run(tmp_path, engine=Excluding(), task=task, config=config)
        assert [each["rounds"] for each in result.summary["excluded"]] == [4, 3]

    @pytest.mark.parametrize("withholds", [True, False])
    def test_a_private_run_that_withholds_says_nothing_of_it(self, tmp_path, withholds):
        engine = Excluding(["client 6"])
        release = outputs.Release(is_private=True, withholds=withholds)
        _, out = run(
            tmp_path,
            private=True,
            engine=engine,
            config=fake.config(rounds=2),
            releases=Releases(release),
        )
        assert (engine.calls == 2) == withholds
        texts = [out]
        for path in tmp_path.rglob("*"):
            if path.suffix in (".json", ".jsonl", ".csv", ".txt", ".html"):
                texts.append(path.read_text())
        listed = "client 6: its update" in "".join(texts)
        assert listed != withholds
        assert ("excluded_by_client" in "".join(texts)) != withholds


class TestDivergence:
    def test_weights(self):
        fine = [np.float32([1e19, -1e19])]
        divergence.check_weights(3, fine, "")
        for value, why in ((2e19, "larger than 1.8e+19"), (math.nan, "not finite")):
            with pytest.raises(TrainingDivergedError) as raised:
                divergence.check_weights(
                    3, [np.float32([0, -value])], "nothing is good"
                )
            assert raised.value.for_command_line == (
                f"round 3: the aggregated model is {why} (weights[0]); nothing is "
                "good; lower the client or server learning rate, or clip gradients or "
                "updates, in another --output_dir"
            )

    def test_own_parts_that_got_finite_updates_are_named(self):
        for value, named in ((math.nan, True), (2e19, False)):
            with pytest.raises(TrainingDivergedError) as raised:
                divergence.check_weights(
                    3, [np.float32([value])], "nothing is good", "the aggregator mine"
                )
            assert ("what the aggregator mine returned" in str(raised.value)) == named

    @pytest.mark.parametrize(
        ("row", "untrained", "diverged"),
        [
            ({"train_loss": 9.9e5}, {}, False),
            ({"train_loss": 1.1e6}, {}, True),
            ({"eval_loss": 1.1e6}, {"eval_loss": 0.5}, True),
            ({"eval_loss": math.inf}, {}, True),
            # The loss of a regression in large units.
            ({"eval_loss": 1e12}, {"eval_loss": 1e9}, False),
            ({"eval_loss": 1.1e15}, {"eval_loss": 1e9}, True),
            # A round without examples.
            ({"train_loss": math.nan, "eval_loss": None}, {}, False),
            ({"held_out_loss": 1e7}, {}, True),
            # Of the data: a client that overflows, with and without its update.
            ({"eval_loss": math.inf}, {"eval_loss": math.inf}, False),
            ({"held_out_loss": 1e7}, {"held_out_loss": math.nan}, False),
            ({"train_loss": 1e7, "excluded_clients": 1}, {}, False),
            ({"train_loss": 1e7, "excluded_clients": 0}, {}, True),
            ({"train_loss": math.inf}, {}, False),
        ],
    )
    def test_losses(self, row, untrained, diverged):
        if not diverged:
            divergence.check_losses(3, row, untrained, "")
            return
        with pytest.raises(TrainingDivergedError, match=r"round 3: .*loss is"):
            divergence.check_losses(3, row, untrained, "")

    def test_a_run_whose_loss_explodes_ends_as_diverged(self, tmp_path):
        class Exploding(fake.Engine):
            def next(self, state, cohort):
                new, metrics = super().next(state, cohort)
                if int(new.client_work) == 5:
                    metrics["train"]["loss"] = np.float32(1.7e29)
                return new, metrics

        with pytest.raises(TrainingDivergedError, match=r"train_loss is 1.7e\+29"):
            run(tmp_path, engine=Exploding())
        summary = json.loads((tmp_path / "summary.json").read_text())
        assert summary["stop_reason"] == "diverged"
        assert summary["completed_rounds"] == 4
        assert len(fake.without_seconds(tmp_path)) == 1 + 4

    def test_a_private_run_decides_by_what_it_gives_out(self, tmp_path):
        class Exploding(fake.Engine):
            def next(self, state, cohort):
                new, metrics = super().next(state, cohort)
                metrics["train"]["loss"] = np.float32(1e29)
                return new, metrics

        release = outputs.Release(is_private=True, withholds=True)
        result, _ = run(
            tmp_path,
            private=True,
            engine=Exploding(),
            config=fake.config(rounds=2),
            releases=Releases(release),
        )
        assert result.stop_reason == "rounds"


class TestWhatDidNotHappen:
    def test_lost_checkpoints(self, tmp_path):
        run(tmp_path, config=fake.config(rounds=4))
        _, out = run(tmp_path, config=fake.config(rounds=4))
        assert "starts over" not in out
        shutil.rmtree(tmp_path / "checkpoints")
        _, out = run(tmp_path, config=fake.config(rounds=4))
        assert (
            f"{tmp_path} has results of rounds, but no checkpoint; the run starts "
            "over with round 1"
        ) in out

    def test_no_test_examples(self, tmp_path):
        class Nothing(fake.Evaluator):
            splits = ()

        _, out = run(tmp_path / "a", evaluator=Nothing(), config=fake.config(rounds=2))
        assert "no best model: nothing is evaluated" in out

        class Empty(fake.Evaluator):
            def evaluate(self, weights, split="eval"):
                found = super().evaluate(weights, split)
                found.overall.update(loss=math.nan, accuracy=math.nan)
                return found

        _, out = run(tmp_path / "b", evaluator=Empty(), config=fake.config(rounds=2))
        assert (
            "no best model: no evaluation has a value of the metric that chooses the "
            "best model"
        ) in out


def test_names_on_a_terminal_and_in_csv(tmp_path):
    arrays = {f"=cmd({n})\x1b[2J": dict(e) for n, e in fake.clients().items()}
    data = ClientData.from_arrays(arrays, Batching(batch_size=4))
    bad = data.client_ids[0]
    evaluator = fake.Evaluator(data)
    _, out = run(
        tmp_path,
        task=fake.Task(train=data),
        engine=Excluding([bad]),
        evaluator=evaluator,
        sampler=Everybody(tuple(data.client_ids)),
        config=fake.config(rounds=2),
    )
    assert "\x1b" not in out
    assert "excluded 1 (=cmd(client 0)\\x1b[2J: " in out
    lines = (tmp_path / "clients.csv").read_text().splitlines()[1:]
    cells = collections.Counter(line.split(",")[2] for line in lines)
    assert cells["'=cmd(client 0)\\x1b[2J"] == 2
