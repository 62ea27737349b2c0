"""Runs of experiments, and everything that they give out."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import outputs_of_runs
import pytest

import tfl_research as tfl

Runs = Callable[[tfl.Experiment], dict[str, Any]]


@pytest.fixture(scope="module")
def given_out(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Runs an experiment, and returns all that it gives out, by item."""

    def run(experiment: tfl.Experiment) -> dict[str, Any]:
        folder, screen = tmp_path_factory.mktemp("given") / "run", io.StringIO()
        experiment.run(folder, stream=screen)
        return outputs_of_runs.items(folder, screen.getvalue())

    return run
