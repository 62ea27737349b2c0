"""A shared ledger that no longer fits a run once its rounds begin."""

from __future__ import annotations

import contextlib
import types

import pytest

from tfl_research import privacy, program, runtime
from tfl_research.experiment.running import building, engines
from tfl_research.privacy.accounting.events.record_event import RecordEvent


@pytest.mark.parametrize("budget", [[], ["--budget_epsilon=50"]])
def test_one_line_and_no_traceback(execute, tmp_path, monkeypatch, budget):
    path, folder = tmp_path / "shared.jsonl", tmp_path / "run"
    other = RecordEvent(1.0, 8.0, 4, 1, (("a", 90),))

    def run(*, task, account, **_):
        # Another run is quicker with its first round.
        people = privacy.Population.of(task.train.client_ids)
        with privacy.SharedLedger(path, "0" * 16, people) as shared:
            shared.record(1, other)
        account.would_exceed(1)
        account.charge(1)

    process = types.SimpleNamespace(
        plan=None,
        client_states=None,
        client_secrets=False,
        download_bytes=4,
        message_bytes=(4, 4),
    )
    monkeypatch.setattr(program, "run", run)
    monkeypatch.setattr(building, "process", lambda *_, **__: process)
    monkeypatch.setattr(engines, "build", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(runtime, "computation_digests", lambda _: {})
    monkeypatch.setattr(runtime, "unrepeatable_operations", lambda _: [])
    code, _, errors = execute(
        "dp_fed_avg",
        [
            "--task=heart",
            "--noise_multiplier=1",
            "--cohort_size=2",
            "--delta=1e-3",
            f"--ledger={path}",
            f"--output_dir={folder}",
            *budget,
        ],
    )
    assert code == 2
    assert errors.count("\n") == 1
    assert "error: " in errors
    assert "unit 'record', but this run has" in errors
    with privacy.Ledger(folder / "ledger.jsonl") as ledger:
        assert len(ledger) == 0
