"""Runs of experiments, and everything that they give out."""

from __future__ import annotations

import io
import pathlib
from collections.abc import Callable
from typing import Any

import outputs_of_runs
import pytest

import tfl_research as tfl

Runs = Callable[[tfl.Experiment], dict[str, Any]]


@pytest.fixture
def given_out(tmp_path: pathlib.Path) -> Runs:
    """Runs an experiment, and returns all that it gives out, by item."""
    number = [0]

    def run(experiment: tfl.Experiment) -> dict[str, Any]:
        number[0] += 1
        folder, screen = tmp_path / f"run {number[0]}" / "run", io.StringIO()
        experiment.run(folder, stream=screen)
        return outputs_of_runs.items(folder, screen.getvalue())

    return run
