"""Whole federations whose processes are killed by -9, again and again.

Every run must end as a simulation in which the same clients take part in the same
rounds, and every ledger must have every round.
"""

from __future__ import annotations

import collections
import json
import pathlib
import random
import sqlite3
import time

import pytest
import whole_federation
from federations import NAMES, Federation, written
from whole_federation import COORDINATOR, Processes

from tfl_research import sampling
from tfl_research.errors import RoundAbandoned
from tfl_research.experiment.at_sites import compare
from tfl_research.privacy.ledger.ledger import Ledger
from tfl_research.runtime.rounds import separate

pytestmark = [pytest.mark.slow, pytest.mark.campaign]

# More than the kills wait for: at most eight for each kill, and three on average.
ROUNDS = 150
KILLS = 25


@pytest.mark.parametrize(("name", "seed"), [("records", 1), ("scaffold", 2)])
def test_kills_change_nothing(tmp_path, monkeypatch, name, seed):
    federation = written(
        tmp_path, names=NAMES[:3], carrier="flare", round_deadline=60.0
    )
    out = tmp_path / "run"
    with Processes(federation, name, ROUNDS, out) as processes:
        killed = _killed(processes, out, random.Random(seed))
        lines = processes.lines(COORDINATOR)
    counted = _counted(out)
    simulated = _simulated(federation, out, counted, monkeypatch)
    without = sum(len(federation.names) - len(who) for who in counted.values())
    abandoned = [number for number, who in counted.items() if not who]
    unevaluated = {
        line.split()[1].rstrip(":")
        for line in lines
        if ": the model is not evaluated: " in line
    }
    print(
        f"{name}: kills {dict(killed)}; {without} absences in {ROUNDS} rounds, "
        f"{len(abandoned)} abandoned, {len(unevaluated)} without evaluation"
    )
    differences = [
        line
        for line in compare.differences(out, simulated)
        if not (
            line.split(":")[0].removeprefix("round ") in unevaluated
            and " is empty and " in line
        )
    ]
    assert differences == []
    for number in range(1, ROUNDS + 1):
        _check_said(lines, number, counted[number], federation.names)
    if name == "records":
        _check_ledgers(federation, out, counted)
    assert sum(killed.values()) == KILLS


def _killed(
    processes: Processes, out: pathlib.Path, draws: random.Random
) -> collections.Counter[str]:
    """Kills until the coordinator ends by itself; how often each process was killed."""
    killed: collections.Counter[str] = collections.Counter()
    due = 1
    for _ in whole_federation.until_ended(processes, seconds=3000):
        if sum(killed.values()) == KILLS or processes.completed(out) < due:
            continue
        _wait(processes, out, draws.uniform(0, 0.2), rounds=1)
        # A coordinator takes the longest to come back: everybody begins again.
        name = draws.choice([*processes.names, *processes.names[:-1]])
        if processes.running[COORDINATOR].exitcode is not None:
            continue
        processes.kill(name)
        killed[name] += 1
        # Somebody may ask for it in the meantime.
        _wait(processes, out, draws.choice([0.0, 0.0, 0.5, 2.0]), rounds=2)
        processes.start(name)
        if draws.random() < 0.3:
            # The next kill may come while it starts and the others wait for it.
            _wait(processes, out, draws.uniform(0, 6), rounds=2)
        else:
            due = processes.completed(out) + draws.randint(1, 4)
    return killed


def _wait(
    processes: Processes, out: pathlib.Path, seconds: float, *, rounds: int
) -> None:
    """Waits for a time, or until so many further rounds are complete.

    However fast rounds are, a wait leaves most of them for further kills.
    """
    end = time.monotonic() + seconds
    last = processes.completed(out) + rounds
    while time.monotonic() < end and processes.completed(out) < last:
        time.sleep(0.005)


def _counted(out: pathlib.Path) -> dict[int, set[str]]:
    """By round, whose reports count, as the coordinator keeps it."""
    path = out / "federation" / "totals" / "participants.sqlite"
    counted: dict[int, set[str]] = {number: set() for number in range(1, ROUNDS + 1)}
    with sqlite3.connect(path) as table:
        for number, client in table.execute("select round, client from participants"):
            counted[number].add(client)
    return counted


def _simulated(
    federation: Federation,
    out: pathlib.Path,
    counted: dict[int, set[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> pathlib.Path:
    """The simulation in which exactly these clients take part."""
    sample, result = sampling.Full.sample, separate.SeparateClients.result
    present: list[str] = []

    def some(self, number):
        present[:] = [i for i in sample(self, number) if i in counted[number]]
        return tuple(present)

    def or_abandoned(self, state, total):
        if not present:
            raise RoundAbandoned("nobody")
        return result(self, state, total)

    monkeypatch.setattr(sampling.Full, "sample", some)
    monkeypatch.setattr(separate.SeparateClients, "result", or_abandoned)
    return compare.simulate(
        out,
        federation.folder / "simulation",
        compiler="graph",
        site_of=federation.state_folders,
        changes={"data_dir": str(federation.folder / "all")},
    )


def _check_said(lines, number, who, names):
    """Whoever is not in a round is said to be missing."""
    said = [line for line in lines if line.startswith(f"round {number}: without ")]
    for name in names:
        missing = who and name not in who
        assert not missing or any(f"'{name}'" in line for line in said)
    if not who:
        assert any(f"round {number} is abandoned" in line for line in lines)


def _check_ledgers(federation, out, counted):
    """Every ledger has the rounds 1 to n, each once, to the last that counts."""
    with Ledger(out / "ledger.jsonl") as ledger:
        assert len(ledger.events) == ROUNDS
    for name in federation.names:
        state = federation.state_folders[name]
        last = max(number for number, who in counted.items() if name in who)
        (run,) = state.glob("runs/*/ledger.jsonl")
        for path in (run, state / "ledgers" / f"{name}.jsonl"):
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            rounds = [line["round"] for line in lines if "round" in line]
            assert rounds == list(range(1, len(rounds) + 1))
            assert len(rounds) >= last
