"""Everything that runs give out is in the table, and is withheld where it must be."""

from __future__ import annotations

import csv
import io
import json
import math
import re

import numpy as np
import pytest

import tfl_research as tfl
from tfl_research import outputs
from tfl_research.outputs import EXACT, SECRET

ROUNDS = 3


def build_model():
    import tensorflow as tf

    layers = [tf.keras.layers.Input([2]), tf.keras.layers.Dense(2)]
    return tf.keras.Sequential(layers)


def own_task(held_out=0.0):
    """Clients whose numbers of examples, 1000 and more, are found again in a text."""
    generator = np.random.default_rng(0)
    clients = {}
    for number in range(12):
        x = generator.normal(size=(1009 + 2**number, 2))
        clients[f"ward {number}"] = {"x": x, "y": x[:, 0] > x[:, 1]}
    return tfl.tasks.from_arrays(clients, model=build_model, held_out=held_out)


class Watching(tfl.Callback):
    """Keeps the numbers that a callback is given."""

    def __init__(self):
        self.columns, self.summary, self.rows = set(), None, []

    def on_start(self, run):
        self.columns |= {*run.untrained, *(n for row in run.rows for n in row)}

    def on_round(self, report):
        self.columns |= {*report.metrics, *report.evaluation}
        self.rows.append(report.metrics)

    def on_end(self, result):
        self.summary = result.summary


def run(task, folder, *, privacy, callbacks=(), rounds=ROUNDS, **parts):
    stream = io.StringIO()
    parts.setdefault("cohorts", tfl.Cohorts("poisson", cohort_size=6))
    experiment = tfl.Experiment(
        task,
        privacy=privacy,
        training=tfl.Training(rounds=rounds, evaluate_every=2),
        callbacks=callbacks,
        **parts,
    )
    result = experiment.run(folder, stream=stream)
    return result, stream.getvalue()


def columns_of(folder):
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        return next(csv.reader(file))


def tags_of(folder):
    from tensorflow.python.summary.summary_iterator import summary_iterator

    tags, times = set(), set()
    for path in folder.iterdir():
        for event in summary_iterator(str(path)):
            tags |= {value.tag for value in event.summary.value}
            times.add(event.wall_time)
    return tags, times


def check_table(folder):
    """Every file and column is in the table, and columns.json has all columns."""
    for path in folder.iterdir():
        assert "user's own" not in outputs.file(path.name).what, path
    for path in (folder / "export").iterdir():
        assert "user's own" not in outputs.file(f"export/{path.name}").what, path
    for name in columns_of(folder):
        assert "user's own" not in outputs.column(name).what, name
    record = json.loads((folder / "columns.json").read_text(encoding="utf-8"))
    assert set(record["columns"]) == set(columns_of(folder))


def texts_of(folder):
    """The text of every file that leaves its owner."""
    return {
        path.name: path.read_bytes().decode("utf-8", "ignore")
        for path in folder.rglob("*")
        if path.is_file()
        and outputs.file(path.relative_to(folder).parts[0]).kind != SECRET
        and "export" not in path.parts
    }


USER = tfl.UserLevelPrivacy(noise_multiplier=2.0)
RECORD = tfl.RecordLevelPrivacy(record_noise_multiplier=2.0)


@pytest.fixture(scope="module")
def withheld(tmp_path_factory):
    """A run on data of one's own: (folder, output, callback, exact counts)."""
    path = tmp_path_factory.mktemp("leaves") / "run"
    callback = Watching()
    _, output = run(own_task(), path, privacy=USER, callbacks=[callback])
    return path, output, callback


class TestDataOfOnesOwn:
    def test_every_output_is_in_the_table(self, withheld):
        check_table(withheld[0])

    def test_nothing_exact_is_in_the_columns_tags_or_callbacks(self, withheld):
        folder, _, callback = withheld
        for name in (*columns_of(folder), *callback.columns):
            assert outputs.column(name).kind != EXACT, name
        assert callback.rows
        tags, times = tags_of(folder / "logdir")
        # The times of events would be the times of rounds.
        assert len(times) == 1
        assert "round/epsilon" in tags
        exact = ("train", "eval", "cohort", "example", "seconds", "excluded", "bytes")
        assert not [tag for tag in tags if any(word in tag for word in exact)]
        assert callback.summary["best"] is None
        assert callback.summary["untrained"] == {}

    def test_no_count_of_participants_is_in_a_file_or_in_the_output(self, withheld):
        folder, output, _ = withheld
        from tfl_research.experiment import setup as setups

        experiment = tfl.Experiment(
            own_task(),
            privacy=USER,
            cohorts=tfl.Cohorts("poisson", cohort_size=6),
            training=tfl.Training(rounds=ROUNDS, evaluate_every=2),
        )
        found = setups.prepare(experiment)
        seed = int((folder / "run_seed").read_text(), 16)
        cohorts = setups.secret_cohorts(found, seed)
        train = found.task.train
        examples = [
            sum(train.num_examples(client) for client in cohorts.sample(number))
            for number in range(1, ROUNDS + 1)
        ]
        assert max(examples) > 1000
        assert not (folder / "clients.csv").exists()
        words = ("cohort 6", "ward ", "not covered")
        for name, text in {**texts_of(folder), "output": output}.items():
            # Coordinates of curves are numbers too.
            shown = re.sub("<svg.*?</svg>", "", text, flags=re.DOTALL)
            for count in filter(None, examples):
                assert not re.search(rf"\b{count}\b", shown), name
            if name.endswith((".html", ".txt", ".json")):
                continue
            for word in words:
                assert word not in text, (name, word)
        lines = [line for line in output.splitlines() if line.startswith("round ")]
        assert len(lines) == ROUNDS
        for number, line in enumerate(lines, start=1):
            assert line.split("  ")[0] == f"round {number}/{ROUNDS}"
            assert line.split("  ")[1].startswith("ε ")
            assert len(line.split("  ")) == 2

    def test_the_statement_lists_what_was_given_out(self, withheld):
        folder, _, _ = withheld
        text = " ".join((folder / "privacy.txt").read_text("utf-8").split())
        assert "Exact, not covered by ε: nothing." in text
        assert (
            "Withheld: cohort_size, examples, excluded_clients, excluded_by_client, "
            in text
        )
        assert "No best model is chosen" in text
        assert "do not leave the clients" not in text

    def test_the_report_has_the_statement_of_the_end(self, withheld):
        page = (withheld[0] / "report.html").read_text("utf-8")
        assert f"Done: {ROUNDS} rounds." in page
        assert "none was done when this was written" not in page
        for line in (withheld[0] / "privacy.txt").read_text("utf-8").splitlines():
            for word in line.split():
                assert word.replace("'", "&#39;") in page.replace("&gt;", ">")

    def test_held_out_clients_choose(self, tmp_path):
        result, output = run(own_task(0.3), tmp_path / "run", privacy=USER)
        assert result.summary["best"]["selected_by"] == "held_out_accuracy"
        assert "held-out accuracy" in output
        assert "not covered" not in output
        text = " ".join((tmp_path / "run" / "privacy.txt").read_text("utf-8").split())
        assert "protects the training clients, but not the held-out clients" in text
        with open(tmp_path / "run" / "clients.csv", newline="") as file:
            assert {row["split"] for row in csv.DictReader(file)} == {"held_out"}

    def test_what_is_named_comes_back_and_is_marked(self, tmp_path):
        release = tfl.Release(release_exact=("eval_accuracy", "clients.csv"))
        result, output = run(
            own_task(), tmp_path / "run", privacy=USER, release=release
        )
        names = columns_of(tmp_path / "run")
        exact = [name for name in names if outputs.column(name).kind == EXACT]
        assert exact == ["eval_accuracy"]
        assert " | not covered: eval accuracy 0." in output
        assert result.summary["best"]["selected_by"] == "eval_accuracy"
        assert (tmp_path / "run" / "clients.csv").exists()
        text = " ".join((tmp_path / "run" / "privacy.txt").read_text("utf-8").split())
        assert "Exact, not covered by ε: eval_accuracy, clients.csv." in text
        assert "What is given out exactly: eval_accuracy, clients.csv." in text
        assert "chosen by eval_accuracy, which is exact" in text

    def test_private_evaluation_and_choice_are_charged(self, tmp_path):
        folder = tmp_path / "run"
        release = tfl.Release(evaluation_noise_multiplier=4.0, selection_epsilon=0.5)
        private = tfl.UserLevelPrivacy(target_epsilon=8)
        result, output = run(own_task(), folder, privacy=private, release=release)
        check_table(folder)
        # Evaluations after rounds 2 and 3, and the choice, are within the target.
        lines = (folder / "ledger.jsonl").read_text("utf-8").splitlines()
        charged = [json.loads(line) for line in lines]
        names = [(c["release"], c["round"]) for c in charged if "release" in c]
        assert names == [("evaluation", 2), ("evaluation", 3), ("selection", 3)]
        assert 7.9 < result.epsilon <= 8
        assert result.metrics["epsilon"].iloc[-1] < result.epsilon
        rounds = tfl.privacy.GaussianEvent.of(
            result.metrics["noise_multiplier"].iloc[0],
            tfl.sampling.Poisson(range(12), 6, seed=0).amplification,
        )
        relation = "add_or_remove_one"
        delta = result.metrics["delta"].iloc[0]
        groups = [
            (rounds, 3),
            (tfl.privacy.GaussianEvent("none", 4.0, 1.0, 12, 12.0, relation), 2),
            (tfl.privacy.PureEvent(0.5, relation, population=12), 1),
        ]
        expected = tfl.privacy.composed_epsilon(groups, delta)
        assert result.epsilon == pytest.approx(expected, rel=1e-6)
        assert "private accuracy " in output
        assert "by private_choice" in output
        assert (folder / "export" / "best").exists()
        text = " ".join((folder / "privacy.txt").read_text("utf-8").split())
        assert "3 rounds and 3 further charges" in text
        assert "Private evaluation: the mean over 12 training clients" in text
        assert "at most 0.04167" in text

    def test_records(self, tmp_path):
        result, output = run(
            own_task(), tmp_path / "run", privacy=RECORD, cohorts=tfl.Cohorts("full")
        )
        check_table(tmp_path / "run")
        names = columns_of(tmp_path / "run")
        assert "cohort_size" in names
        assert not [n for n in names if n.startswith(("train_", "eval_", "examples"))]
        assert math.isfinite(result.epsilon)
        assert "  loss" not in output


class TestPublicData:
    def test_exact_outputs_are_shown_and_marked(self, tmp_path):
        cohorts = tfl.Cohorts("poisson", cohort_size=2)
        result, output = run("heart", tmp_path / "run", privacy=USER, cohorts=cohorts)
        check_table(tmp_path / "run")
        lines = [line for line in output.splitlines() if line.startswith("round ")]
        for line in lines:
            assert " | not covered: cohort " in line
            assert "ε" in line.split(" | ")[0]
        assert "untrained | not covered: eval loss" in output
        assert "(not covered by ε)" in output
        page = (tmp_path / "run" / "report.html").read_text("utf-8")
        assert "exact: not covered by ε" in page
        assert "exact, not covered by ε</summary>" in page
        assert f"Done: {ROUNDS} rounds." in page
        assert result.summary["best"]["selected_by"] == "eval_auc"

    def test_they_can_all_be_withheld(self, tmp_path):
        _, output = run(
            "heart",
            tmp_path / "run",
            privacy=RECORD,
            cohorts=tfl.Cohorts("full"),
            release=tfl.Release(withhold_exact=True),
        )
        names = columns_of(tmp_path / "run")
        assert not [n for n in names if n.startswith(("train_", "eval_"))]
        assert "not covered" not in output
        assert "No evaluation is given out" in (
            tmp_path / "run" / "privacy.txt"
        ).read_text("utf-8")

    def test_an_audit_withholds_its_attack_on_examples(self, tmp_path):
        for name, release in (
            ("shown", tfl.Release()),
            ("withheld", tfl.Release(withhold_exact=True)),
        ):
            folder = tmp_path / name
            _, output = run(
                "heart",
                folder,
                privacy=USER,
                audit=tfl.Audit(canaries=2),
                release=release,
                cohorts=tfl.Cohorts("poisson", cohort_size=2),
            )
            check_table(folder)
            record = json.loads((folder / "audit.json").read_text("utf-8"))
            assert (record["membership"] is None) == (name == "withheld")
            assert ("membership" in output) == (name == "shown")


def test_without_privacy_every_output_is_in_the_table(tmp_path):
    folder = tmp_path / "run"
    _, output = run(
        "heart",
        folder,
        privacy=None,
        cohorts=tfl.Cohorts("full"),
        algorithm="scaffold",
        personal_evaluation=True,
    )
    check_table(folder)
    assert "not covered" not in output
    assert (folder / "client_states.sqlite").stat().st_mode & 0o777 == 0o600
    assert (folder / "runtime.json").stat().st_mode & 0o777 == 0o600
