"""Runs on neighbouring folders of files: what one client moves in what is released."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest

import tfl_research as tfl

_CLIENTS, _CLIP = 20, 0.05
_SCHEMA = {
    "columns": {
        "age": {"minimum": 0, "maximum": 100, "outside": "clip"},
        "dose": {"minimum": 0, "maximum": 10, "outside": "clip"},
    },
    "label": {"classes": ["0", "1"]},
}
_CHANGES = {
    "a value far outside": lambda rows: [f"1e6,{i}e6,0" for i in range(len(rows))],
    "a missing cell": lambda rows: [f"NA,{i % 7},0" for i in range(len(rows))],
    "ten times the rows": lambda rows: [*rows, *_rows(3, 100)],
    "a single row": lambda rows: rows[:1],
}


def _rows(client, count=12):
    ages = [(29 * client + 17 * i) % 100 for i in range(count)]
    return [f"{age},{age % 7},{int(age > 50)}" for age in ages]


def _write(folder, client, rows):
    path = folder / f"c{client:02d}.csv"
    path.write_text("\n".join(["age,dose,y", *rows]) + "\n")


def _released(folder, output, **release):
    """The weights after a round of tiny noise."""
    experiment = tfl.Experiment(
        tfl.TaskChoice("csv", data_dir=str(folder), label_column="y"),
        privacy=tfl.UserLevelPrivacy(
            noise_multiplier=1e-4, l2_norm_clip=_CLIP, delta=1e-2, accountant="rdp"
        ),
        cohorts=tfl.Cohorts("full"),
        batches=tfl.Batches(client_epochs=5),
        release=tfl.Release(**release),
        training=tfl.Training(rounds=1, run_seed="7"),
    )
    # Nobody looks at what the run would write at its end.
    with contextlib.closing(experiment.rounds(output, stream=io.StringIO())) as rounds:
        weights = next(rounds).weights.trainable
    return np.concatenate([np.asarray(w).ravel() for w in weights])


@pytest.mark.slow
def test_one_client_moves_the_sum_by_two_clips_at_most(tmp_path):
    folder = tmp_path / "silos"
    folder.mkdir()
    for client in range(_CLIENTS):
        _write(folder, client, _rows(client))

    def moved(name, base, **release):
        """How far the released sum moves, in clips."""
        _write(folder, 7, _CHANGES[name](_rows(7)))
        run = f"{name} {bool(release)}"
        after = _released(folder, tmp_path / run, **release)
        _write(folder, 7, _rows(7))
        return float(np.linalg.norm(after - base)) * _CLIENTS / _CLIP

    declared = {"public_schema": True}
    base = _released(folder, tmp_path / "declared", **declared)
    # What the statement names as assumed is outside of the guarantee indeed.
    assert moved("a value far outside", base, **declared) > 3
    with pytest.raises(tfl.SettingError, match="which no ε covers"):
        _released(folder, tmp_path / "refused")
    (folder / "schema.json").write_text(json.dumps(_SCHEMA))
    base = _released(folder, tmp_path / "schema")
    for name in _CHANGES:
        assert 0.01 < moved(name, base) < 2.01
