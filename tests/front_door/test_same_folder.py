"""A run by Python leaves the folder that the binary leaves."""

from __future__ import annotations

import csv
import json
import pathlib
import sys

import pytest

import tfl_research as tfl
from tfl_research import cli

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "experiments"))
# A text with the seconds that a round took, or that differs by the folder's name.
TIMES = ("round_seconds",)


def experiment():
    """That of the flags below, as a researcher writes it."""
    return tfl.Experiment(
        task="heart",
        client_optimizer=tfl.SGD(0.2),
        server_optimizer=tfl.SGD(1.0, momentum=0.5),
        batches=tfl.Batches(batch_size=16),
        cohorts=tfl.Cohorts("poisson", cohort_size=2),
        privacy=tfl.UserLevelPrivacy(
            "gaussian", l2_norm_clip=0.5, target_epsilon=8, budget_epsilon=9
        ),
        training=tfl.Training(rounds=4, evaluate_every=2, run_seed="3", seed=1),
        runtime=tfl.Runtime(client_execution="folded_graph"),
        name="dp_fed_avg",
    )


FLAGS = (
    "--task=heart",
    "--client_learning_rate=0.2",
    "--server_momentum=0.5",
    "--batch_size=16",
    "--cohort_size=2",
    "--sampler=poisson",
    "--l2_norm_clip=0.5",
    "--target_epsilon=8",
    "--budget_epsilon=9",
    "--rounds=4",
    "--evaluate_every=2",
    "--run_seed=3",
    "--seed=1",
    "--client_execution=folded_graph",
)


def content(path, folder):
    """A file's content without times and the folder's own name."""
    if path.suffix == ".csv":
        with open(path, encoding="utf-8", newline="") as file:
            return [
                {k: v for k, v in row.items() if k not in TIMES}
                for row in csv.DictReader(file)
            ]
    if path.suffix == ".json":
        found = json.loads(path.read_text().replace(str(folder), "FOLDER"))
        # Of a content with the folder's name.
        found.pop("digest", None)
        return found
    if path.name == "ledger.jsonl":
        # Each run has an id and a salt of its own, and hashes depend on them.
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        own = ("run", "salt", "seed_sha256", "previous", "hash")
        return [{k: v for k, v in line.items() if k not in own} for line in lines]
    if path.suffix == ".txt" or path.name == "run_seed":
        return path.read_bytes()
    return None


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    import dp_fed_avg

    base = tmp_path_factory.mktemp("same")
    arguments = ["dp_fed_avg", *FLAGS, f"--output_dir={base / 'flags'}"]
    assert cli.execute(dp_fed_avg.PRESET, arguments) == 0
    experiment().run(base / "python")
    return base / "flags", base / "python"


def files(folder):
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "events.out" not in path.name
    )


def test_the_same_files(folders):
    flags, python = folders
    assert files(flags) == files(python)
    names = set(files(flags))
    for expected in (
        "checkpoints",
        "computation.json",
        "hparams.json",
        "ledger.jsonl",
        "metrics.csv",
        "privacy.txt",
        "report.html",
        "run_seed",
        "runtime.json",
        "summary.json",
    ):
        assert any(name.startswith(expected) for name in names), expected
    # TensorBoard's files are there too, under names of their own.
    for folder in folders:
        assert list((folder / "logdir").glob("events.out*"))


def test_the_same_content(folders):
    flags, python = folders
    compared = 0
    for name in files(flags):
        ours, theirs = content(python / name, python), content(flags / name, flags)
        assert ours == theirs, name
        compared += ours is not None
    assert compared >= 9


def test_checkpoints_and_models_hold_the_same_numbers(folders):
    import numpy as np
    import tensorflow as tf

    for which in ("final", "best"):
        weights = [
            tf.keras.models.load_model(str(f / "export" / which), compile=False)
            for f in folders
        ]
        for a, b in zip(weights[0].get_weights(), weights[1].get_weights()):
            np.testing.assert_array_equal(a, b)
