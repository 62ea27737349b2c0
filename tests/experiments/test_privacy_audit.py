"""The audit of whole runs: honest ones, sabotaged ones, and one that was stopped."""

from __future__ import annotations

import csv
import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from tfl_research import report, tasks
from tfl_research.errors import RunInterrupted
from tfl_research.experiment import Experiment
from tfl_research.experiment.configs import Audit
from tfl_research.experiment.private import audited
from tfl_research.privacy import audit
from tfl_research.report import run_results
from tfl_research.runtime.in_process import InProcessEngine

# Everybody takes part, so that all rounds have one shape to compile.
COMMON = (
    "--task=heart",
    "--task_option=model=mlp",
    "--canaries=80",
    "--sampler=full",
    "--rounds=2",
    "--target_epsilon=1",
    "--delta=1e-5",
    "--run_seed=7",
    "--client_execution=folded_graph",
    "--notensorboard",
    "--noprogress_bar",
)
# Each client takes part in one of the two rounds: 40 canaries and two hospitals each.
APART = "--sampler=min_separation --cohort_size=42 --min_separation=2"
# 40 right guesses show ε >= 2.5; what a sabotaged run must show at least.
BAR = 1.5


# Whether a run's page knew of its audit, by folder, when it was last written.
PAGES_WITH_AUDIT = {}


@pytest.fixture(scope="module")
def run(execute, tmp_path_factory):
    """(name, flags) -> (folder, standard output, standard error)."""
    patch = pytest.MonkeyPatch()

    def write(folder):
        PAGES_WITH_AUDIT[folder] = bool(run_results.read(folder).audit)

    patch.setattr(report, "write", write)

    def start(name, *flags):
        folder = tmp_path_factory.mktemp(name) / "run"
        line = [*COMMON, *flags, f"--output_dir={folder}"]
        code, output, errors = execute("privacy_audit", line)
        assert code == 0, errors
        return folder, output, errors

    yield start
    patch.undo()


@pytest.fixture(scope="module")
def honest(run):
    return run("honest")


def found(folder):
    return json.loads((folder / "audit.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_an_honest_run_is_not_contradicted(honest):
    folder, output, _ = honest
    result = found(folder)
    assert result["contradicts"] is False
    assert result["bound"]["epsilon"] < result["epsilon"] <= 1
    assert result["epsilon"] > 0.99
    # It could have been contradicted.
    assert result["bound"]["largest"] > BAR
    assert set(result["estimates"]) == {"mean", "final"}
    assert result["dimension"] == 35 * 32 + 32 + 32 + 1
    for start in ("audit: accountant: ε = 1 at", "audit: lower bound: ε >= "):
        assert start in output
    assert "<svg" in (folder / "canaries.svg").read_text(encoding="utf-8")
    assert not (folder / "SABOTAGED").exists()


@pytest.mark.slow
def test_the_page_has_the_audit(honest):
    assert PAGES_WITH_AUDIT[honest[0]]


@pytest.mark.slow
def test_the_other_clients_train_as_ever(honest):
    with open(honest[0] / "metrics.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    included = int(audit.Canaries(80, 0).included.sum())
    # All four hospitals, and the canaries whose coin says so, who claim examples to
    # the aggregator alone.
    assert {row["cohort_size"] for row in rows} == {str(4 + included)}
    hospitals = tasks.get("heart", seed=0).train
    examples = sum(hospitals.num_examples(name) for name in hospitals.client_ids)
    assert {float(row["examples"]) for row in rows} == {examples}
    assert all(0 < float(row["train_loss"]) < 2 for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mechanism", "flags"),
    [
        pytest.param(
            "adaptive_gaussian",
            "--clipped_count_stddev=10",
            marks=pytest.mark.campaign,
        ),
        pytest.param(
            "bounded_weight",
            "--client_weighting=capped --weight_cap=250 --audit_statistic=max",
            marks=pytest.mark.campaign,
        ),
        # Its clients' weights carry a seed beside the role.
        ("discrete_gaussian", "--audit_statistic=final"),
        pytest.param("tree", APART, marks=pytest.mark.campaign),
        pytest.param("banded_matrix", f"--bands=2 {APART}", marks=pytest.mark.campaign),
    ],
)
def test_other_mechanisms_are_audited(run, mechanism, flags):
    folder, output, _ = run(mechanism, f"--mechanism={mechanism}", *flags.split())
    result = found(folder)
    assert result["bound"]["epsilon"] < result["epsilon"] <= 1
    assert result["bound"]["largest"] > BAR
    assert result["contradicts"] is False
    statistic = dict(f.split("=") for f in flags.split()).get("--audit_statistic")
    assert result["statistic"] == (statistic or "mean")
    assert f"canaries by their {result['statistic']} cosine" in output
    assert ("max" in result["estimates"]) is (statistic == "max")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sabotage", "flags"),
    [
        *[(s, "") for s in audit.SABOTAGES if s != "none"],
        ("noise_off", f"--mechanism=tree {APART}"),
        pytest.param(
            "clip_off",
            f"--mechanism=banded_matrix --bands=2 {APART}",
            marks=pytest.mark.campaign,
        ),
    ],
)
def test_a_sabotaged_mechanism_is_caught(run, honest, sabotage, flags):
    folder, output, errors = run(sabotage, f"--sabotage={sabotage}", *flags.split())
    result = found(folder)
    # The account is none the wiser.
    if not flags:
        assert result["epsilon"] == found(honest[0])["epsilon"]
    assert 0.99 < result["epsilon"] <= 1
    assert result["bound"]["epsilon"] > BAR > result["epsilon"]
    assert result["contradicts"] is True
    assert "audit: CONTRADICTION" in output
    assert "warning: SABOTAGED" in errors
    assert sabotage in (folder / "SABOTAGED").read_text(encoding="utf-8")
    hparams = json.loads((folder / "hparams.json").read_text(encoding="utf-8"))
    assert hparams["hparams"]["sabotage"] == sabotage


@pytest.mark.slow
def test_stopped_and_resumed_it_is_the_same_audit(run, execute, honest, monkeypatch):
    following, calls = InProcessEngine.next, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return following(*args)

    folder = honest[0].parent / "resumed"
    line = [*COMMON, "--checkpoint_every=1", f"--output_dir={folder}"]
    monkeypatch.setattr(InProcessEngine, "next", interrupted)
    with pytest.raises(RunInterrupted):
        execute("privacy_audit", line)
    monkeypatch.undo()
    monkeypatch.setattr(report, "write", lambda _: None)
    assert not (folder / "audit.json").exists()
    code, output, errors = execute("privacy_audit", line)
    assert code == 0, errors
    assert "after round 1 of 2" in output
    for name in ("audit.json", "canaries.svg"):
        # The SVG's ids are random.
        if name == "audit.json":
            assert (folder / name).read_bytes() == (honest[0] / name).read_bytes()
        else:
            assert (folder / name).exists()


@pytest.mark.parametrize(
    ("flags", "fragments"),
    [
        (
            "--sabotage=clip_off --mechanism=local_gaussian",
            ["does not go with --mechanism=local_gaussian"],
        ),
        ("--sabotage=clip_off --ledger=/nowhere/l", ["--ledger"]),
        ("--canaries=1", ["--canaries=1", "at least 2"]),
        ("--audit_confidence=1", ["--audit_confidence=1", "below 1"]),
        ("--audit_statistic=median", ["--audit_statistic=median", "mean, max, final"]),
        ("--cohort_size=99", ["--cohort_size=99", "84 clients"]),
    ],
)
def test_bad_flags_give_one_line(execute, tmp_path, flags, fragments):
    line = [f for f in COMMON if f != "--sampler=full"]
    code, output, errors = execute(
        "privacy_audit", [*line, *flags.split(), f"--output_dir={tmp_path / 'run'}"]
    )
    assert (code, output) == (2, "")
    assert errors.count("\n") == 1
    for fragment in (flags.split()[0].split("=")[0], *fragments):
        assert fragment in errors
    assert not (tmp_path / "run").exists()


class TestMembership:
    """Labels that mean nothing: who knows them has seen them."""

    @pytest.fixture(scope="class")
    def parts(self, make_linear_task):
        from tfl_research.tasks import objectives

        generator = np.random.default_rng(0)

        def split():
            return {
                "x": generator.normal(size=(60, 20)).astype(np.float32),
                "y": generator.integers(2, size=60).astype(np.int32),
            }

        def build():
            return tf.keras.Sequential(
                [
                    tf.keras.layers.InputLayer((20,)),
                    tf.keras.layers.Dense(64, activation="relu"),
                    tf.keras.layers.Dense(2),
                ]
            )

        from tfl_research import data

        task = dataclasses.replace(
            make_linear_task({"a": (np.zeros((1, 2)), np.zeros(1))}),
            train=data.ClientData.from_arrays({"a": split(), "b": split()}),
            test=data.ClientData.from_arrays({"a": split(), "b": split()}),
            build_model=build,
            build_objective=objectives.multiclass,
        )
        return _Setup(task, Experiment(task=task))

    def attack(self, parts, folder, model):
        model.save(folder / "export" / "final", save_format="tf")
        return audited._membership(Audit(), parts, _Result(folder), ["a", "b"])

    def test_an_untrained_model_knows_nothing(self, parts, tmp_path):
        tf.keras.utils.set_random_seed(1)
        result = self.attack(parts, tmp_path, parts.task.build_model())
        assert (result.members, result.non_members) == (120, 120)
        assert result.auc_low < 0.5 < result.auc_high

    def test_an_overfitted_model_is_found_out(self, parts, tmp_path):
        tf.keras.utils.set_random_seed(1)
        model = parts.task.build_model()
        examples = [parts.task.train.load(name) for name in ("a", "b")]
        x, y = (np.concatenate([e[k] for e in examples]) for k in ("x", "y"))
        optimizer = tf.keras.optimizers.Adam(0.02)

        @tf.function
        def step():
            with tf.GradientTape() as tape:
                losses = parts.task.build_objective().example_losses(y, model(x))
                loss = tf.reduce_mean(losses)
            weights = model.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
            return loss

        for _ in range(150):
            step()
        result = self.attack(parts, tmp_path, model)
        assert result.auc_low > 0.7
        assert result.advantage > 0.4

    def test_examples_of_clients_that_never_took_part_are_no_members(
        self, parts, tmp_path
    ):
        tf.keras.utils.set_random_seed(1)
        parts.task.build_model().save(tmp_path / "export" / "final", save_format="tf")
        for trained, members in (["b"], 60), ([], None):
            result = audited._membership(Audit(), parts, _Result(tmp_path), trained)
            assert (result and result.members) == members
        settings = Audit(attack_examples=10)
        few = audited._membership(settings, parts, _Result(tmp_path), ["a", "b"])
        assert (few.members, few.non_members) == (10, 10)


@dataclasses.dataclass
class _Setup:
    task: object
    experiment: Experiment


@dataclasses.dataclass
class _Result:
    path: object
