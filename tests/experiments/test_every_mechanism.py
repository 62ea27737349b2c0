"""Every mechanism by flag: on both runtimes, and stopped and resumed."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import tensorflow as tf

from tfl_research import privacy, program
from tfl_research.errors import RunInterrupted
from tfl_research.privacy import MECHANISMS
from tfl_research.privacy.ledger import spending
from tfl_research.runtime.in_process import InProcessEngine

pytestmark = pytest.mark.slow
ROUNDS = 4
COMMON = (
    "--task=heart",
    f"--rounds={ROUNDS}",
    "--checkpoint_every=2",
    "--noise_multiplier=1",
    "--delta=1e-3",
    "--run_seed=12345",
    "--notensorboard",
)
FLAGS = {
    "gaussian": ["--cohort_size=2"],
    "adaptive_gaussian": ["--sampler=full", "--clipped_count_stddev=1"],
    "bounded_weight": [
        "--cohort_size=2",
        "--client_weighting=capped",
        "--weight_cap=250",
        "--expected_client_weight=0.9",
    ],
    # A tree of three rounds, and the beginning of the next.
    "tree": ["--sampler=min_separation", "--cohort_size=1", "--restart_every=3"],
    "banded_matrix": ["--sampler=min_separation", "--cohort_size=1", "--bands=3"],
    "discrete_gaussian": ["--sampler=full"],
    "skellam": ["--sampler=fixed", "--cohort_size=2"],
    "local_gaussian": ["--cohort_size=2"],
}


def rows(folder):
    with open(folder / "metrics.csv", encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k != "round_seconds"} for row in found]


def flat(state):
    return [np.asarray(value) for value in tf.nest.flatten(state)]


@pytest.fixture(scope="module")
def start(execute, lean_runs):
    """(folder, mechanism, flags) -> (standard output, final state).

    Outputs of a finished run are left out, and runs of one mechanism share the TFF
    process that they would each build: what is executed is not affected.
    """
    patch = pytest.MonkeyPatch()
    results, go = [], program.run
    key = [""]

    def kept_run(**kwargs):
        results.append(go(**kwargs))
        return results[-1]

    def run(folder, name, *flags):
        # TFF's runtime has no secure modular sum: there it is another process.
        distributed = name in ("discrete_gaussian", "skellam")
        key[0] = f"{name} {distributed and '--runtime=tff' in flags}"
        results.clear()
        line = [*COMMON, f"--mechanism={name}", *FLAGS[name], f"--output_dir={folder}"]
        code, output, errors = execute("dp_fed_avg", [*line, *flags])
        assert code == 0, errors
        return output, results[0].state

    patch.setattr(program, "run", kept_run)
    lean_runs(patch, lambda: key[0])
    yield run
    patch.undo()


@pytest.fixture(scope="module", params=tuple(FLAGS))
def whole(request, start, tmp_path_factory):
    """A mechanism's uninterrupted run: name, folder, output, final state."""
    folder = tmp_path_factory.mktemp(request.param) / "run"
    output, state = start(folder, request.param, "--client_execution=folded_graph")
    return request.param, folder, output, state


def test_every_mechanism_is_here():
    assert set(FLAGS) == set(MECHANISMS.names())


def test_rounds_are_charged_as_the_mechanisms_event(whole):
    name, folder, output, _ = whole
    with privacy.Ledger(folder / "ledger.jsonl") as ledger:
        (event,) = set(ledger.events)
        assert len(ledger) == ROUNDS
    # Both cost what the Gaussian mechanism costs with their effective noise.
    same = ("adaptive_gaussian", "bounded_weight")
    assert event.kind == ("gaussian" if name in same else name)
    assert event.noise_multiplier == 1
    curve = privacy.EpsilonCurve(event, 1e-3).up_to(ROUNDS)[1:]
    found = [float(row["epsilon"]) for row in rows(folder)]
    np.testing.assert_allclose(found, curve, rtol=1e-8)
    assert np.isfinite(found).all()
    assert found[0] > 0
    # The run's first lines, and its statement.
    assert output.startswith(
        f"privacy: Mechanism {name}: {MECHANISMS.get(name).SUMMARY}"
    )
    assert f"after {ROUNDS} rounds" in output
    statement = (folder / "privacy.txt").read_text(encoding="utf-8")
    assert f"Done: {ROUNDS} rounds" in statement
    assert MECHANISMS.get(name).PAPERS[0].split("arXiv ")[-1][:10] in statement


def test_both_runtimes_agree(whole, start, tmp_path):
    name, folder, _, state = whole
    _, reference = start(tmp_path / "tff", name, "--runtime=tff")
    for ours, theirs in zip(flat(state), flat(reference)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    columns = ("round", "cohort_size", "epsilon", "delta", "noise_multiplier")
    for ours, theirs in zip(rows(folder), rows(tmp_path / "tff")):
        assert [ours[c] for c in columns] == [theirs[c] for c in columns]


def test_stopped_and_resumed_it_is_the_same_run(whole, start, tmp_path, monkeypatch):
    name, folder, _, state = whole
    execution = "--client_execution=folded_graph"
    following = InProcessEngine.next
    calls = []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == ROUNDS:
            raise KeyboardInterrupt
        return following(*args)

    # In the last round: charged, but the checkpoint is of two rounds before.
    monkeypatch.setattr(InProcessEngine, "next", interrupted)
    with pytest.raises(RunInterrupted):
        start(tmp_path / "run", name, execution)
    assert len(rows(tmp_path / "run")) == ROUNDS - 1
    monkeypatch.undo()
    output, resumed = start(tmp_path / "run", name, execution)
    assert f"after round {ROUNDS - 2} of {ROUNDS}" in output
    assert rows(tmp_path / "run") == rows(folder)
    for one, other in zip(flat(resumed), flat(state)):
        np.testing.assert_array_equal(one, other)
    ledgers = [spending.read_ledger(f).runs[0] for f in (folder, tmp_path / "run")]
    assert ledgers[0].entries == ledgers[1].entries
