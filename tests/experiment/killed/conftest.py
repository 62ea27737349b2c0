"""A run that was killed after round 3, and accounts that tell when they recharge."""

from __future__ import annotations

import shutil

import pytest
from killed_runs import EVERY, rounds, seen

from tfl_research import privacy


@pytest.fixture(scope="module", autouse=True)
def lean(lean_runs):
    """No model or report is written; equal experiments share one TFF process.

    Nor is a checkpoint written after 30 seconds, which a busy machine takes.
    """

    def is_due(self, round_number):
        return round_number % EVERY == 0

    from tfl_research.program import recovery

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recovery.Recovery, "is_due", is_due)
        lean_runs(patch, lambda: seen["key"])
        yield


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run that was killed after round 3, with a checkpoint of round 2."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    models, _ = rounds(folder, until=3)
    assert sorted(models) == [1, 2, 3]
    return folder, models


@pytest.fixture
def killed(begun, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(begun[0], folder)
    return folder, begun[1]


@pytest.fixture(autouse=True)
def recharged(monkeypatch):
    """After which rounds accounts were told to charge again."""
    calls = []
    inner = privacy.RoundAccount.__dict__.get("recharge_after")

    def recharge_after(self, completed_rounds):
        calls.append(completed_rounds)
        if inner is not None:
            inner(self, completed_rounds)

    monkeypatch.setattr(
        privacy.RoundAccount, "recharge_after", recharge_after, raising=False
    )
    return calls
