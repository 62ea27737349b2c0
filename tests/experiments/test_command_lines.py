"""What the binaries say to bad and to helpful flags, before TensorFlow is there."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DP = "dp_fed_avg --task=mnist --output_dir={tmp}/a "
RECORD = "record_dp_fed_avg --task=heart --output_dir={tmp}/a "
RECORD_NOISED = RECORD + "--record_noise_multiplier=1 "
NOISED = DP + "--noise_multiplier=1 "
NOISED_DEVICES = NOISED + "--devices=9 --sampler=fixed --cohort_size=5 "
# Experiment and flags, and what the error line must hold. {tmp} does not exist, {file}
# is a file, {other} is the folder of a run with other flags.
CASES = [
    ("fed_avg", ["--task", "heart"]),
    ("fed_avg --task=hart", ["--task=hart", "heart", "shakespeare"]),
    ("fed_avg --task=heart", ["--output_dir"]),
    (
        "fed_avg --task=heart --client_learning_rate=-1",
        ["--client_learning_rate=-1", "at least 0"],
    ),
    ("fed_avg --task=heart --server_learning_rate=nan", ["--server_learning_rate=nan"]),
    ("fed_avg --task=heart --rounds=ten", ["--rounds=ten", "whole number"]),
    (
        "fed_avg --task=heart --lerning_rate=1",
        ["--lerning_rate", "--client_learning_rate"],
    ),
    (
        "fed_avg --task=heart --proximal_strength=1",
        ["unknown flag --proximal_strength"],
    ),
    ("fed_avg heart", ["unexpected argument 'heart'", "--name=value"]),
    ("fed_avg --flagfile={tmp}/none", ["{tmp}/none"]),
    (
        "fed_avg --task=heart --output_dir={tmp}/a --cohort_size=5",
        ["--cohort_size=5", "4 clients"],
    ),
    (
        "fed_avg --task=heart --output_dir={tmp}/a --partition=iid",
        ["--partition=iid", "heart"],
    ),
    ("fed_avg --task=heart --output_dir={file}/a", ["{file}/a", "--output_dir"]),
    (
        "fed_avg --task=heart --output_dir={other}",
        ["{other}", "another experiment", "--output_dir"],
    ),
    (
        "fed_prox --task=heart --output_dir={tmp}/a --proximal_strength=-1",
        ["--proximal_strength=-1"],
    ),
    (
        DP,
        ["--noise_multiplier", "--target_epsilon"],
    ),
    (
        NOISED + "--target_epsilon=1",
        ["--target_epsilon=1", "--noise_multiplier"],
    ),
    (
        NOISED + "--client_weighting=examples",
        ["--client_weighting=examples", "--client_weighting=capped"],
    ),
    (
        NOISED + "--delta=1",
        ["--delta=1"],
    ),
    (
        NOISED + "--delta=0",
        ["--delta=0"],
    ),
    (
        NOISED + "--mechanism=adaptive_gaussian --cohort_size=10",
        ["--mechanism=adaptive_gaussian", "--cohort_size=11", "--clipped_count_stddev"],
    ),
    (
        DP + "--noise_multiplier=1e-200",
        ["--noise_multiplier=1e-200", "must be 0, for no noise, or at least 1e-100"],
    ),
    (
        RECORD + "--record_noise_multiplier=1e-200",
        ["--record_noise_multiplier=1e-200", "at least 1e-100"],
    ),
    (
        DP + "--noise_multiplier=1e300",
        ["--noise_multiplier=1e300", "at most 1e+06"],
    ),
    (
        NOISED + "--mechanism=laplace",
        ["--mechanism=laplace", "one of gaussian, adaptive_gaussian"],
    ),
    (
        NOISED + "--restart_every=4",
        ["--restart_every=4", "--mechanism=tree, not with gaussian"],
    ),
    (
        NOISED + "--mechanism=tree",
        ["--mechanism=tree", "--sampler=poisson", "--sampler=min_separation"],
    ),
    (
        NOISED + "--sampler=min_separation --min_separation=1000",
        ["--min_separation=1000", "--cohort_size"],
    ),
    (
        NOISED + "--mechanism=banded_matrix --sampler=min_separation "
        "--min_separation=3 --bands=4",
        ["--mechanism=banded_matrix", "bands"],
    ),
    (
        NOISED + "--mechanism=skellam --sampler=fixed --client_weighting=capped "
        "--weight_cap=5",
        ["--mechanism=skellam", "--client_weighting=uniform"],
    ),
    (
        NOISED + "--mechanism=discrete_gaussian --sampler=fixed --cohort_size=5 "
        "--minimum_cohort_size=6",
        ["--minimum_cohort_size=6", "no round would release anything"],
    ),
    (
        NOISED + "--ledger={tmp}/l --run_seed=7",
        ["--ledger={tmp}/l", "leave --run_seed out"],
    ),
    (
        RECORD_NOISED + "--record_ledgers={tmp}/l --run_seed=7",
        ["--record_ledgers={tmp}/l", "leave --run_seed out"],
    ),
    (
        NOISED + "--budget_epsilon=0.01",
        ["--budget_epsilon=0.01", "first round"],
    ),
    (
        NOISED + "--aggregator=krum --byzantine=1",
        ["--aggregator=krum", "mean"],
    ),
    (
        NOISED_DEVICES + "--over_selection=1.3",
        ["--over_selection=1.3", "takes every report that is in time"],
    ),
    (
        NOISED_DEVICES + "--availability_by_label=0.5",
        ["--availability_by_label=0.5", "no noise covers"],
    ),
    (
        NOISED_DEVICES + "--mechanism=tree",
        [
            "--devices=9: tree needs a sampler",
            "keeps a client's rounds apart",
            "--mechanism=gaussian",
        ],
    ),
    (
        NOISED_DEVICES + "--mechanism=banded_matrix",
        [
            "--devices=9: banded_matrix needs a sampler",
            "keeps a client's rounds apart",
        ],
    ),
    (
        NOISED_DEVICES + "--mechanism=skellam",
        ["--devices=9: skellam gets its noise in shares", "a late device is missing"],
    ),
    (
        NOISED_DEVICES + "--mechanism=discrete_gaussian",
        ["--devices=9: discrete_gaussian gets its noise in shares"],
    ),
    (
        NOISED_DEVICES + "--mechanism=bounded_weight --client_weighting=capped "
        "--weight_cap=5 --clipped_denominator",
        ["--clipped_denominator=True: is analysed for Poisson cohorts", "--devices"],
    ),
    (
        NOISED_DEVICES + "--mechanism=local_gaussian --availability_by_label=1",
        ["--availability_by_label=1", "no noise covers"],
    ),
    (
        NOISED_DEVICES + "--minimum_cohort=6",
        ["--minimum_cohort=6", "--cohort_size=5"],
    ),
    (
        NOISED_DEVICES.replace("=fixed", "=poisson"),
        ["--sampler=poisson: --devices decides", "--sampler=fixed"],
    ),
    (NOISED + "--drop_out=0.5", ["--drop_out=0.5", "--devices"]),
    (
        NOISED_DEVICES + "--mechanism=local_gaussian --aggregator=krum --byzantine=1 "
        "--minimum_cohort=4",
        ["at least 5 clients", "as few as 4"],
    ),
    (
        RECORD_NOISED + "--minimum_clients=5",
        ["--minimum_clients=5", "from 1 to 4, the largest cohort"],
    ),
    (RECORD_NOISED + "--devices=9", ["unknown flag --devices"]),
    (RECORD, ["--record_noise_multiplier or --record_target_epsilon is missing"]),
    (
        RECORD_NOISED + "--record_target_epsilon=1",
        ["--record_target_epsilon=1", "leave it or --record_noise_multiplier out"],
    ),
    (RECORD_NOISED + "--record_delta=1", ["--record_delta=1", "below 1"]),
    (RECORD_NOISED + "--client_epochs=2", ["--client_epochs=2", "--client_steps"]),
    (RECORD_NOISED + "--batch_size=8", ["--batch_size=8", "--record_batch_size"]),
    (
        RECORD_NOISED + "--max_examples_per_client=8",
        ["--max_examples_per_client=8", "--record_batch_size"],
    ),
    (
        RECORD_NOISED + "--client_gradient_clip=1",
        ["--client_gradient_clip=1", "--record_l2_norm_clip"],
    ),
    (
        RECORD_NOISED + "--microbatch_size=21",
        ["--microbatch_size=21", "at most the expected batch size 20"],
    ),
    (
        RECORD_NOISED + "--record_budget_epsilon=0.01",
        ["--record_budget_epsilon=0.01", "first round alone"],
    ),
    (
        RECORD + "--record_target_epsilon=1e-9 --record_delta=1e-15",
        ["--record_target_epsilon=1e-09", "no noise multiplier"],
    ),
    (RECORD_NOISED + "--noise_multiplier=1", ["unknown flag --noise_multiplier"]),
    # Before the run's folder, in which the flag would stay.
    (NOISED + "--ledger={file}/l", ["{file}/l", "cannot open"]),
    (NOISED + "--ledger={file}", ["{file}", "line 1"]),
    (RECORD_NOISED + "--record_ledgers={file}", ["cannot make {file}"]),
]

RUNNER = """
import contextlib, importlib.util, io, json, sys
from tfl_research import cli

results = []
for name, *flags in json.load(sys.stdin):
    spec = importlib.util.spec_from_file_location(name, f"experiments/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.execute(module.PRESET, [f"experiments/{name}.py", *flags])
    heavy = [m for m in ("tensorflow", "tensorflow_federated") if m in sys.modules]
    results.append([code, out.getvalue(), err.getvalue(), heavy])
json.dump(results, sys.stdout)
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """The folders that the cases name."""
    from tfl_research.storage import RunFolder

    folder = tmp_path_factory.mktemp("command_lines")
    (folder / "file").write_text("not a folder")
    with RunFolder.open(
        folder / "other", {"task": "heart", "seed": 17}, experiment="fed_avg"
    ):
        pass
    return {name: str(folder / name) for name in ("tmp", "file", "other")}


@pytest.fixture(scope="module")
def results(places):
    """Every case, and --help of every binary, run in one process."""
    lines = [case.format(**places).split() for case, _ in CASES]
    helps = [[n, "--help"] for n in ("fed_avg", "fed_prox", "dp_fed_avg")]
    finished = subprocess.run(
        [sys.executable, "-c", RUNNER],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        input=json.dumps(lines + helps),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


@pytest.mark.parametrize("index", range(len(CASES)), ids=lambda i: CASES[i][0])
def test_bad_flags_give_one_line(results, places, index):
    code, output, errors, heavy = results[index]
    assert code == 2, errors
    assert output == ""
    lines = [line for line in errors.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1, errors
    assert lines[0].startswith("error: ")
    for fragment in CASES[index][1]:
        assert fragment.format(**places) in lines[0]
    assert heavy == []


def test_help_is_grouped_and_shows_defaults(results):
    for code, output, errors, heavy in results[len(CASES) :]:
        assert code == 0
        assert errors == ""
        assert heavy == []
        for heading in ("Task", "Client optimizer", "Cohort", "Training", "Output"):
            assert f"\n{heading}:\n" in output
        assert (
            "--client_learning_rate=number\n      Learning rate η. (default: 0.1)"
            in output
        )
        assert "WARNING: whoever learns this seed can subtract the noise" in " ".join(
            output.split()
        )
        assert "--flagfile=FILE" in output
        assert max(len(line) for line in output.splitlines()) <= 88


def test_help_lists_every_mechanism_with_its_paper(results):
    from tfl_research.privacy import MECHANISMS

    text = " ".join(results[-1][1].split())
    assert len(MECHANISMS.names()) == 8
    for name, mechanism in MECHANISMS.items():
        assert f"{name}: {mechanism.title()}" in text
        assert "arXiv" in mechanism.PAPERS[0]


def test_help_differs_by_binary(results):
    fed_avg, fed_prox, dp_fed_avg = (r[1] for r in results[len(CASES) :])
    assert "--proximal_strength" in fed_prox
    assert "--proximal_strength" not in fed_avg
    assert "--noise_multiplier" in dp_fed_avg
    assert "--noise_multiplier" not in fed_avg
    assert "--devices" in fed_avg
    assert "--devices" in dp_fed_avg
    for text in (fed_avg, dp_fed_avg):
        said = " ".join(text.split())
        assert "poisson (the default with user-level privacy)" in said
        assert "fixed (the default without privacy)" in said


def test_nothing_is_left_where_flags_were_refused(results, places):
    assert results
    assert not pathlib.Path(places["tmp"]).exists()


def test_a_binary_is_a_preset_of_at_most_sixty_lines():
    binaries = sorted((ROOT / "experiments").glob("*.py"))
    assert len(binaries) == 12
    for path in binaries:
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= 65, path.name
        assert lines[-1] == "    cli.main(PRESET)"
