"""Runs that withhold exact outputs; private evaluation and choice. No TensorFlow."""

from __future__ import annotations

import collections
import csv
import io
import json
import math

import fake_experiment as fake
import numpy as np
import pytest

from tfl_research import outputs, program
from tfl_research.errors import UserError
from tfl_research.program.evaluation import private_metrics, releases, secret_draws
from tfl_research.program.evaluation.client_metrics import Evaluation
from tfl_research.program.evaluation.deciding import NOTHING_DECIDES, deciding_column

WITHHELD = outputs.Release(is_private=True, withholds=True)
SHOWN = outputs.Release(is_private=True)


def given(release=WITHHELD, **more):
    return releases.Releases(release, **more)


def columns(path):
    with open(path / "metrics.csv", newline="") as file:
        return next(csv.reader(file))


class HeldOut(fake.Evaluator):
    """Also has clients that are never trained on."""

    splits = ("eval", "held_out")

    def __init__(self):
        super().__init__()
        self.asked = []

    def evaluate(self, weights, split="eval"):
        self.asked.append(split)
        return super().evaluate(weights, split)


class Watching(program.Callback):
    """Keeps everything that a callback is given."""

    def __init__(self):
        self.seen = []

    def on_start(self, run):
        self.seen += [dict(row) for row in run.rows] + [dict(run.untrained)]

    def on_round(self, report):
        self.seen += [dict(report.metrics), dict(report.evaluation)]

    def on_end(self, result):
        self.seen += [result.summary, dict(result.evaluations)]
        self.result = result


class TestWithheld:
    def test_no_exact_number_is_anywhere(self, tmp_path):
        """Cohort sizes and counts of examples are in no file, line or callback."""
        open_run = fake.run(tmp_path / "open", private=False)
        stream, callback = io.StringIO(), Watching()
        fake.run(
            tmp_path / "run",
            releases=given(),
            stream=stream,
            callbacks=[callback],
            config=fake.config(progress_bar=True, report=True),
        )
        exact = [
            name
            for name in open_run.metrics
            if outputs.column(name).kind == outputs.EXACT
        ]
        assert {"cohort_size", "examples", "train_loss", "eval_loss"} <= set(exact)
        assert not set(exact) & set(columns(tmp_path / "run"))
        seen = json.dumps(callback.seen, default=str)
        texts = [stream.getvalue(), seen]
        for path in (tmp_path / "run").iterdir():
            name = path.name
            if path.is_file() and outputs.file(name).kind != outputs.SECRET:
                texts.append(path.read_text(encoding="utf-8"))
        # Long enough not to be there by accident.
        numbers = {
            f"{value:.6g}"
            for name in exact
            for value in open_run.metrics[name].dropna()
            if name not in ("round_seconds", "cohort_size", "excluded_clients")
            # 0.6 is also the version of a package.
            and len(f"{value:.6g}") > 6
        }
        numbers = {number for number in numbers if len(number) > 5}
        assert len(numbers) > 10
        for text in texts:
            for name in exact:
                assert f'"{name}"' not in text.split('"withheld"')[0]
            for number in numbers:
                assert number not in text
        for word in ("cohort", "loss", "accuracy", "excluded", "/s", " s "):
            assert word not in stream.getvalue().replace(NOTHING_DECIDES, "")
        assert not (tmp_path / "run" / "clients.csv").exists()
        assert callback.result.best_round is None

    def test_there_is_no_best_model_and_this_is_said(self, tmp_path):
        stream = io.StringIO()
        evaluator = fake.Evaluator()
        result = fake.run(
            tmp_path, releases=given(), stream=stream, evaluator=evaluator
        )
        assert f"no best model: {NOTHING_DECIDES}\n" in stream.getvalue()
        summary = json.loads((tmp_path / "summary.json").read_text())
        assert (summary["best"], summary["no_best"]) == (None, NOTHING_DECIDES)
        assert not (tmp_path / "export" / "best").exists()
        assert (tmp_path / "export" / "final").exists()
        assert result.evaluations == {}
        # Nothing is given out of the split, so nothing is computed.
        assert evaluator.calls == 0

    def test_held_out_clients_choose_the_best_model(self, tmp_path):
        evaluator = HeldOut()
        result = fake.run(tmp_path, releases=given(), evaluator=evaluator)
        assert set(evaluator.asked) == {"held_out"}
        summary = json.loads((tmp_path / "summary.json").read_text())
        assert summary["best"]["selected_by"] == "held_out_accuracy"
        assert result.best_round == summary["best"]["round"]
        with open(tmp_path / "clients.csv", newline="") as file:
            assert {row["split"] for row in csv.DictReader(file)} == {"held_out"}
        assert {split for _, split in result.evaluations} == {"held_out"}

    def test_a_named_column_comes_back_and_chooses(self, tmp_path):
        release = outputs.Release(True, True, frozenset(["eval_accuracy"]))
        result = fake.run(tmp_path, releases=given(release))
        assert result.best_round is not None
        found = [name for name in columns(tmp_path) if name.startswith("eval_")]
        assert found == ["eval_accuracy"]

    def test_a_weighted_sum_of_named_columns_is_no_column(self, tmp_path):
        release = outputs.Release(True, True, frozenset(["eval_accuracy", "eval_loss"]))
        config = fake.config(selection_metric="eval_accuracy:0.5,eval_loss:0.5")
        result = fake.run(tmp_path, releases=given(release), config=config)
        assert result.best_round is not None
        described = json.loads((tmp_path / "columns.json").read_text())["columns"]
        assert set(described) == set(columns(tmp_path))
        assert not [name for name in columns(tmp_path) if "score" in name]

    def test_a_stopped_run_ends_with_the_same_files(self, tmp_path):
        whole = fake.run(tmp_path / "whole", releases=given())
        path = tmp_path / "stopped"
        with fake.arguments(path, releases=given()) as options:
            reports = program.rounds(**options)
            for _ in range(3):
                next(reports)
            reports.close()
        resumed = fake.run(path, releases=given())
        for name in ("metrics.csv", "summary.json", "columns.json"):
            assert (path / name).read_bytes() == (whole.path / name).read_bytes()
        assert resumed.metrics_csv == whole.metrics_csv

    def test_a_withheld_metric_is_refused_by_name(self, tmp_path):
        for metric in ("eval_loss", "loss:0.5,eval_accuracy:0.5"):
            config = fake.config(selection_metric=metric)
            with pytest.raises(
                UserError, match="is withheld, because ε does not cover"
            ):
                fake.run(tmp_path / metric, releases=given(), config=config)


class TestShown:
    def test_a_line_says_what_is_not_covered(self, tmp_path):
        stream = io.StringIO()
        fake.run(tmp_path, releases=given(SHOWN), stream=stream)
        lines = stream.getvalue().splitlines()
        assert lines[0].startswith("untrained | not covered: eval loss 0.6931")
        rounds = [line for line in lines if line.startswith("round ")]
        for line in rounds:
            covered, exact = line.split(" | not covered: ")
            assert "ε" in covered
            assert "cohort" not in covered
            assert exact.startswith("cohort ")
            assert "loss" in exact
        assert "(not covered by ε)" in lines[-2]

    def test_without_privacy_lines_are_as_they_were(self, tmp_path):
        stream = io.StringIO()
        fake.run(tmp_path, private=False, stream=stream)
        assert "not covered" not in stream.getvalue()
        assert "cohort 3  loss" in stream.getvalue()

    def test_every_column_is_described(self, tmp_path):
        fake.run(tmp_path, releases=given(SHOWN))
        record = json.loads((tmp_path / "columns.json").read_text())
        assert list(record["columns"]) == columns(tmp_path)
        assert record["columns"]["cohort_size"]["class"] == "exact"
        assert record["columns"]["clip_norm"]["paid_by"] == "rounds"

    def test_every_column_of_the_loop_is_in_the_table(self, tmp_path):
        fake.run(tmp_path, releases=given(SHOWN), evaluator=HeldOut())
        for name in columns(tmp_path):
            assert "user's own" not in outputs.column(name).what, name


@pytest.mark.parametrize(
    ("metric", "release", "splits", "private", "expected"),
    [
        (None, SHOWN, ["eval"], False, "eval_auc"),
        ("loss", SHOWN, ["eval", "held_out"], False, "eval_loss"),
        (None, WITHHELD, ["eval", "held_out"], False, "held_out_auc"),
        ("loss", WITHHELD, ["eval", "held_out"], False, "held_out_loss"),
        ("a:2,loss:1", WITHHELD, ["held_out"], False, "held_out_a:2,held_out_loss:1"),
        ("held_out_loss", WITHHELD, ["eval", "held_out"], False, "held_out_loss"),
        (None, WITHHELD, ["eval"], False, None),
        ("loss", WITHHELD, ["eval"], False, None),
        (None, WITHHELD, ["eval"], True, "private_accuracy"),
        (None, SHOWN, ["eval"], True, "private_accuracy"),
        ("loss", SHOWN, ["eval"], True, "eval_loss"),
    ],
)
def test_what_decides(metric, release, splits, private, expected):
    found = deciding_column(metric, "auc", release, splits, is_private=private)
    assert found == expected


def evaluation(accuracies, examples=None):
    values = np.array(accuracies, np.float64)
    counts = np.ones(len(values)) if examples is None else np.array(examples)
    return Evaluation(
        {"accuracy": 0.0},
        [str(i) for i in range(len(values))],
        counts,
        {"accuracy": values},
    )


class TestSensitivity:
    def test_the_score_by_hand(self):
        assert private_metrics.mean_accuracy(evaluation([1, 0.5, 0]), 3) == 0.5
        assert private_metrics.mean_accuracy(evaluation([1, 1]), 4) == 0.75
        # Clients without test examples count as 1/2, whatever their value is.
        found = evaluation([1, math.nan, 0], [5, 0, 0])
        assert private_metrics.mean_accuracy(found, 3) == pytest.approx(0.5 + 0.5 / 3)

    @pytest.mark.parametrize("seed", range(5))
    def test_no_neighbour_moves_the_score_by_more(self, seed):
        generator = np.random.default_rng(seed)
        accuracies = generator.choice([0.0, 0.3, 1.0], size=7)
        one = private_metrics.mean_accuracy(evaluation(accuracies), 7)
        for index in range(7):
            without = np.delete(accuracies, index)
            moved = abs(private_metrics.mean_accuracy(evaluation(without), 7) - one)
            assert moved <= private_metrics.sensitivity(7, "add_or_remove_one") + 1e-12
            for other in (0.0, 1.0):
                changed = accuracies.copy()
                changed[index] = other
                moved = abs(private_metrics.mean_accuracy(evaluation(changed), 7) - one)
                assert moved <= private_metrics.sensitivity(7, "replace_one") + 1e-12

    def test_it_is_reached(self):
        ones, without = evaluation([1, 1, 1]), evaluation([1, 1])
        zero = evaluation([1, 1, 0])
        score = private_metrics.mean_accuracy
        assert score(ones, 3) - score(without, 3) == pytest.approx(0.5 / 3)
        assert score(ones, 3) - score(zero, 3) == pytest.approx(1 / 3)
        assert private_metrics.sensitivity(3, "zero_out") == pytest.approx(0.5 / 3)
        assert private_metrics.sensitivity(3, "replace_one") == pytest.approx(1 / 3)


class TestDraws:
    def test_normal_and_gumbel_have_their_distributions(self):
        from scipy import stats

        count = 4000
        normal = [secret_draws.normal(3, "a", r) for r in range(count)]
        gumbel = [secret_draws.gumbel(3, "a", r) for r in range(count)]
        assert stats.kstest(normal, "norm").pvalue > 0.01
        assert stats.kstest(gumbel, "gumbel_r").pvalue > 0.01

    def test_they_are_functions_of_key_purpose_and_round(self):
        assert secret_draws.normal(3, "a", 1) == secret_draws.normal(3, "a", 1)
        found = {
            secret_draws.normal(key, purpose, number)
            for key in (3, 4)
            for purpose in ("a", "b")
            for number in (1, 2)
        }
        assert len(found) == 8

    def test_tails_are_those_of_the_quantile_functions(self, monkeypatch):
        from scipy import stats

        for bits in (b"\x00" * 32, b"\xff" * 32):
            digest = type("Digest", (), {"digest": lambda self, bits=bits: bits})
            monkeypatch.setattr(secret_draws.hmac, "new", lambda *_, d=digest: d())
            tail = 2.0**-257
            normal, gumbel = (
                secret_draws.normal(1, "", 1),
                secret_draws.gumbel(1, "", 1),
            )
            if bits[0] == 0:
                assert normal == pytest.approx(stats.norm.ppf(tail))
                assert gumbel == pytest.approx(-math.log(tail))
            else:
                assert normal == pytest.approx(-stats.norm.ppf(tail))
                assert gumbel == pytest.approx(-math.log(-math.log(tail)))


def private_accuracy(noise_multiplier=1.0, key=5):
    return private_metrics.PrivateAccuracy(
        noise_multiplier, 8, "add_or_remove_one", "an evaluation", key
    )


def private_choice(epsilon=1.0, key=5):
    return private_metrics.PrivateChoice(
        epsilon, 8, "add_or_remove_one", "a choice", key
    )


class TestPrivateEvaluation:
    def test_each_evaluation_is_charged_and_noised(self, tmp_path):
        release = given(accuracy=private_accuracy())
        stream = io.StringIO()
        with fake.arguments(tmp_path, releases=release, stream=stream) as options:
            result = program.run(**options)
            charged = options["account"].releases
        assert set(charged) == {("evaluation", r) for r in (2, 4, 6)}
        values = result.metrics["private_accuracy"]
        assert list(values.notna()) == [False, True] * 3
        plain = fake.run(tmp_path / "plain", private=False).metrics
        # The noise is z / (2 n) times a standard normal number.
        for number in (2, 4, 6):
            noise = secret_draws.normal(5, "private evaluation", number) / 16
            mean = plain["eval_client_mean_accuracy"].iloc[number - 1]
            expected = min(max(mean + noise, 0), 1)
            assert values.iloc[number - 1] == pytest.approx(expected)
        # ε of the row includes the evaluation; the fake account charges 1 for each.
        assert result.metrics["epsilon"].iloc[1] == pytest.approx(math.sqrt(2) / 10 + 1)
        assert "private accuracy" in stream.getvalue()
        assert "eval_accuracy" not in columns(tmp_path)
        summary = json.loads((tmp_path / "summary.json").read_text())
        assert summary["best"]["selected_by"] == "private_accuracy"

    def test_the_shared_total_of_a_row_includes_the_evaluation(self, tmp_path):
        class Sharing(fake.Account):
            def shared_epsilon(self, rounds):
                return 7.0 + max(rounds, len(self.charged)) + 100 * len(self.releases)

        with fake.arguments(tmp_path, releases=given(accuracy=private_accuracy())) as o:
            o["account"] = Sharing(o["folder"].ledger_path)
            result = program.run(**o)
        shared = list(result.metrics["shared_epsilon"])
        assert shared == [8, 109, 110, 211, 212, 313]

    def test_a_budget_that_does_not_cover_it_leaves_it_out(self, tmp_path):
        class Refusing(fake.Account):
            def charge_release(self, name, round_number, event):
                return None

        with fake.arguments(tmp_path, releases=given(accuracy=private_accuracy())) as o:
            o["account"] = Refusing(o["folder"].ledger_path)
            o["stream"] = stream = io.StringIO()
            result = program.run(**o)
        assert "private_accuracy" not in columns(tmp_path)
        said = "round 2: no private accuracy, because the budget does not cover it\n"
        assert stream.getvalue().count(said) == 1
        assert result.best_round is None

    def test_an_objective_without_accuracy_is_refused_by_name(self, tmp_path):
        class LossOnly(fake.Evaluator):
            def evaluate(self, weights, split="eval"):
                found = super().evaluate(weights, split)
                return Evaluation(
                    {"loss": found.overall["loss"]},
                    found.client_ids,
                    found.examples,
                    {"loss": found.per_client["loss"]},
                )

        release = given(accuracy=private_accuracy())
        with pytest.raises(UserError, match="evaluation_noise_multiplier: adds noise"):
            fake.run(tmp_path, releases=release, evaluator=LossOnly())


class TestPrivateChoice:
    def test_it_is_charged_once_and_secret_before(self, tmp_path):
        release = given(choice=private_choice())
        stream, callback = io.StringIO(), Watching()
        with fake.arguments(
            tmp_path, releases=release, stream=stream, callbacks=[callback]
        ) as options:
            result = program.run(**options)
            charged = options["account"].releases
        assert charged == {("selection", 6): "a choice"}
        assert result.best_round in (2, 4, 6)
        assert (tmp_path / "export" / "best").exists()
        assert result.epsilon == pytest.approx(math.sqrt(6) / 10 + 1)
        summary = json.loads((tmp_path / "summary.json").read_text())
        assert summary["best"]["selected_by"] == "private_choice"
        assert summary["best"]["value"] is None
        assert summary["epsilon"] == pytest.approx(result.epsilon)
        before = stream.getvalue().split("complete")[0]
        assert "best" not in before

    def test_the_charge_comes_before_the_export(self, tmp_path):
        class Refusing(fake.Account):
            def charge_release(self, name, round_number, event):
                return None

        stream = io.StringIO()
        options = {"releases": given(choice=private_choice()), "stream": stream}
        with fake.arguments(tmp_path, **options) as given_options:
            account = Refusing(given_options["folder"].ledger_path)
            result = program.run(**{**given_options, "account": account})
        assert result.best_round is None
        assert not (tmp_path / "export" / "best").exists()
        assert "no best model: the budget does not cover its choice" in (
            stream.getvalue()
        )
        summary = json.loads((tmp_path / "summary.json").read_text())
        assert summary["no_best"] == "the budget does not cover its choice"

    def test_a_stopped_run_chooses_the_same(self, tmp_path):
        for key in range(6):
            whole = fake.run(
                tmp_path / f"{key}" / "whole",
                releases=given(choice=private_choice(0.1, key)),
            )
            path = tmp_path / f"{key}" / "stopped"
            with fake.arguments(
                path, releases=given(choice=private_choice(0.1, key))
            ) as options:
                reports = program.rounds(**options)
                for _ in range(5):
                    next(reports)
                reports.close()
            resumed = fake.run(path, releases=given(choice=private_choice(0.1, key)))
            assert resumed.best_round == whole.best_round
            best = [
                np.load(folder / "export" / "best" / "weights.npz")["arr_0"]
                for folder in (path, tmp_path / f"{key}" / "whole")
            ]
            np.testing.assert_array_equal(*best)

    def test_the_distribution_is_the_exponential_mechanism(self):
        scores = {10: [1, 0.5, 0.5], 20: [0, 0, 0.5], 30: [1, 1, 1], 40: [0.5] * 3}
        epsilon, clients, draws = 2.0, 3, 6000
        counts = collections.Counter()
        for key in range(draws):
            choice = private_metrics.PrivateChoice(
                epsilon, clients, "add_or_remove_one", None, key
            )
            for number, accuracies in scores.items():
                choice.update(number, evaluation(accuracies))
            counts[choice.best_round] += 1
        # Pr[r] ∝ exp(ε · score / (2 · sensitivity)), the sensitivity being 1 / (2 n).
        weights = {
            number: math.exp(epsilon * np.mean(accuracies) / (2 * 0.5 / clients))
            for number, accuracies in scores.items()
        }
        total = sum(weights.values())
        chi2 = sum(
            (counts[number] - draws * weight / total) ** 2 / (draws * weight / total)
            for number, weight in weights.items()
        )
        # The 0.999 quantile of χ² with three degrees of freedom.
        assert chi2 < 16.27
