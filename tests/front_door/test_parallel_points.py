"""Points that run at a time leave the same bits as points that run one by one."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import textwrap

import pytest

from tfl_research.storage import checkpoints

LAST = "round-00000002.ckpt"
PROGRAM = """
    import pathlib, sys
    import tfl_research as tfl

    base = tfl.Experiment(
        "heart",
        privacy=tfl.UserLevelPrivacy(noise_multiplier=1.0, l2_norm_clip=0.5),
        training=tfl.Training(
            rounds=2, run_seed="5", tensorboard=False, export=False, report=False
        ),
        runtime=tfl.Runtime(client_execution="folded_xla"),
    )
    rates = [0.1, 0.3, 0.7]
    points = [
        tfl.Point(str(r), base.with_settings(client_learning_rate=r), {"r": r})
        for r in rates
    ]
    folder = pathlib.Path(sys.argv[1])
    tfl.Sweep(folder / "at_a_time", points).run(parallel=2)
    assert "tensorflow" not in sys.modules
    tfl.Sweep(folder / "one_by_one", points).run()
"""
# Of a round, by a clock.
TIMES = {"round_seconds", "examples_per_second"}


def rounds(path):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


@pytest.mark.slow
def test_bits_are_the_same(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), str(tmp_path)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "0.3: round 2/2" in result.stdout
    ways = [tmp_path / "at_a_time", tmp_path / "one_by_one"]
    tables = [(way / "results.csv").read_bytes() for way in ways]
    assert tables[0] == tables[1]
    for point in ("0.1", "0.3", "0.7"):
        folders = [way / "points" / point for way in ways]
        found = [rounds(folder / "metrics.csv") for folder in folders]
        assert found[0] == found[1]
        assert len(found[0]) == 2
        # A version ends with a seal of the run's own secret, and its header has times.
        numbers = [
            bytes(checkpoints._read(folder / "checkpoints" / LAST)[1])
            for folder in folders
        ]
        assert len(numbers[0]) > 4 * 35
        assert numbers[0] == numbers[1]
        assert not (folders[0] / "export").exists()
        assert not (folders[0] / "report.html").exists()
