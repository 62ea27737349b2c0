"""`Experiment.check` reads data and calibrates noise, and imports no TensorFlow."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# Each is an experiment, and the words of its refusal or None.
SCRIPT = """
import dataclasses, json, sys, warnings
import numpy as np
import tfl_research as tfl
from tfl_research import algorithms, aggregators, tasks
from tfl_research.privacy import mechanisms

warnings.simplefilter("ignore")
x = np.zeros((40, 3), np.float32)
own = tasks.from_arrays(
    {f"c{i}": {"x": x, "y": np.arange(40) % 2} for i in range(20)},
    model=lambda: 1 / 0,
    name="mine",
)
noised = tfl.UserLevelPrivacy(noise_multiplier=1.0)
short = tfl.Training(rounds=3)

def of(task="heart", **parts):
    return tfl.Experiment(task, **{"training": short, **parts})

EXPERIMENTS = {
    "plain": (of(), None),
    "own data": (of(own), None),
    "user-level": (
        of(privacy=tfl.UserLevelPrivacy("gaussian", target_epsilon=8)), None
    ),
    "tree": (
        of(
            privacy=tfl.UserLevelPrivacy("tree", target_epsilon=8),
            cohorts=tfl.Cohorts("min_separation", 2),
        ),
        None,
    ),
    "matrix": (
        of(
            own,
            privacy=tfl.UserLevelPrivacy("banded_matrix", target_epsilon=8),
            cohorts=tfl.Cohorts("min_separation", 5),
        ),
        None,
    ),
    "local": (
        of(
            privacy=tfl.UserLevelPrivacy("local_gaussian", noise_multiplier=1),
            aggregator=aggregators.Krum(byzantine=0),
            cohorts=tfl.Cohorts("full"),
        ),
        None,
    ),
    "audited": (of(privacy=noised, audit=tfl.Audit(20)), None),
    "record-level": (
        of(privacy=tfl.RecordLevelPrivacy(record_target_epsilon=4)), None
    ),
    "attacked": (
        of(
            own,
            attack=tfl.Attack("alie"),
            aggregator=aggregators.CoordinateMedian(byzantine=2),
        ),
        None,
    ),
    "poisoned": (of(own, attack=tfl.Attack("label_flip")), None),
    "backdoored": (of(own, attack=tfl.Attack("backdoor")), None),
    "rooted": (of(own, aggregator=aggregators.TrustedRoot(root_examples=5)), None),
    "devices": (of(devices=tfl.Devices(500)), None),
    "buffered": (
        of(algorithm=algorithms.FedBuff(concurrency=50), devices=tfl.Devices(500)),
        None,
    ),
    "private devices": (of(own, privacy=noised, devices=tfl.Devices(20)), None),
    "cross-silo": (of(silos=tfl.Silos(0.2, 2)), None),
    "private silos": (
        of(
            privacy=tfl.RecordLevelPrivacy(record_noise_multiplier=1),
            silos=tfl.Silos(0.2, 2),
        ),
        None,
    ),
    "one silo": (of(baseline=tfl.Baseline("Cleveland")), None),
    "personal": (of(personal_evaluation=True), None),
    "ditto": (of(algorithm="ditto", personal_evaluation=True), None),
    "compressed": (of(compression=tfl.Compression("top_k")), None),
    "remote": (of(runtime=tfl.Runtime("remote", workers="a:1")), None),
    "a rule that is refused": (of(privacy=noised, algorithm="scaffold"), "mechanism"),
    "a cohort that is refused": (of(cohorts=tfl.Cohorts(cohort_size=9)), "4 clients"),
    "a budget that is refused": (
        of(privacy=tfl.UserLevelPrivacy(noise_multiplier=1, budget_epsilon=0.01)),
        "first round",
    ),
    "a target that is refused": (
        of(
            privacy=tfl.RecordLevelPrivacy(
                record_target_epsilon=1e-9, record_delta=1e-15
            )
        ),
        "no noise multiplier",
    ),
    "a rule that needs more": (of(aggregator=aggregators.Krum(byzantine=1)), "least 5"),
    "an attack on no client": (
        of(own, attack=tfl.Attack("alie", malicious_fraction=0.01)),
        "makes none of the 20 clients malicious",
    ),
    "devices that are refused": (
        of(privacy=noised, devices=tfl.Devices(50, availability_by_label=1)),
        "no noise covers",
    ),
    "pooled rows that are refused": (
        of(
            dataclasses.replace(own, pooled=(tasks.Pooled("a scale", "all rows"),)),
            privacy=noised,
        ),
        "computes a scale from all rows",
    ),
}
found = {}
for name, (experiment, words) in EXPERIMENTS.items():
    said = None
    try:
        experiment.check()
    except tfl.UserError as error:
        said = str(error)
    heavy = [m for m in ("tensorflow", "tensorflow_federated") if m in sys.modules]
    found[name] = [said, words, heavy]
json.dump(found, sys.stdout)
"""
NAMES = [
    "plain",
    "own data",
    "user-level",
    "tree",
    "matrix",
    "local",
    "audited",
    "record-level",
    "attacked",
    "poisoned",
    "backdoored",
    "rooted",
    "devices",
    "buffered",
    "private devices",
    "cross-silo",
    "private silos",
    "one silo",
    "personal",
    "ditto",
    "compressed",
    "remote",
    "a rule that is refused",
    "a cohort that is refused",
    "a budget that is refused",
    "a target that is refused",
    "a rule that needs more",
    "an attack on no client",
    "devices that are refused",
    "pooled rows that are refused",
]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What `check` says of each experiment, and what is imported then."""
    folder = tmp_path_factory.mktemp("nothing_is_written")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stderr == ""
    assert list(folder.iterdir()) == []
    return json.loads(done.stdout)


def test_every_experiment_is_here(found):
    assert list(found) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_nothing_heavy_is_imported(found, name):
    said, words, heavy = found[name]
    if words is None:
        assert said is None
    else:
        assert words in said
        assert "\n" not in said
    assert heavy == []
