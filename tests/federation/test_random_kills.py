"""Site and coordinator are killed at random moments: every round counts once."""

from __future__ import annotations

import json
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tfl_research.privacy.accounting.events.record_event import RecordEvent

_ROUNDS = 24
_EVENT = RecordEvent(1.0, 10.0, 2, 1, (("a", 1000),))

_SITE = """
import pathlib, sys
import numpy as np
from tfl_research.federation.wire.messages import Message
from tfl_research.federation.site.policy import SitePolicy
from tfl_research.federation.site.site_ledger import SiteLedger
from tfl_research.federation.site.site_server import run_folder, serve
from tfl_research.privacy.accounting.events.record_event import RecordEvent
from tfl_research.privacy.plans.record_level import RecordLevelPlan

folder, rounds = pathlib.Path(sys.argv[1]), int(sys.argv[2])
event = RecordEvent(1.0, 10.0, 2, 1, (("a", 1000),))
plan = RecordLevelPlan(event, 1.0, (1e-4,), "rdp", rounds)

class Site:
    def __init__(self):
        path = run_folder(folder, "run1")
        path.mkdir(mode=0o700, exist_ok=True)
        self.ledger = SiteLedger(path, folder, plan, ["a"], seed=3,
                                 policy=SitePolicy(), say=print)

    def handle(self, request):
        number = request.integer("round")
        self.ledger.charge(number)
        with open(folder / "computed", "a") as file:
            file.write(f"{number}\\n")
        noise = np.random.default_rng(number).normal(size=3)
        return Message("round", {}, {"x": request.tensors["x"] + noise})

serve(folder / "site.sock", "nord", b"n" * 32, Site, state_folder=folder)
"""

_COORDINATOR = """
import pathlib, sys
import numpy as np
from tfl_research.federation.wire.carriers import LocalCarrier
from tfl_research.federation.wire.exchange import Exchange
from tfl_research.federation.wire.messages import Message
from tfl_research.storage.files import atomic

folder, site, rounds = map(pathlib.Path, sys.argv[1:4])
carrier = LocalCarrier({"nord": site / "site.sock"}, patience=60.0)
exchange = Exchange(carrier, {"nord": b"n" * 32}, "run1", folder / "sequence")
state = folder / "state"
model, done = np.zeros(3), 0
if state.exists():
    done, *values = state.read_text().split()
    model, done = np.array([float.fromhex(v) for v in values]), int(done)
for number in range(done + 1, int(str(rounds)) + 1):
    request = Message("round", {"round": number, "completed": number - 1}, {"x": model})
    ((_, answer),) = exchange.ask({"nord": request}, 60.0)
    model = answer.tensor("x", dtype="float64", shape=[3])
    text = " ".join([str(number), *(float(v).hex() for v in model)])
    atomic.write(state, text.encode())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "most_kills"),
    [(1, 4), *(pytest.param(n, 12, marks=pytest.mark.campaign) for n in range(2, 6))],
)
def test_random_kills(tmp_path, seed, most_kills):
    site = tmp_path / "nord"
    site.mkdir(mode=0o700)

    def start(program: str, *arguments: object) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", program, *map(str, arguments)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    programs = {
        "site": (_SITE, site, _ROUNDS),
        "coordinator": (_COORDINATOR, tmp_path, site, _ROUNDS),
    }
    running = {name: start(*program) for name, program in programs.items()}
    draws, kills = random.Random(seed), 0
    done = tmp_path / "state"
    try:
        while running["coordinator"].poll() is None:
            # Kills are spread over the rounds, and not over the time of starting.
            reached = int(done.read_text().split()[0]) if done.exists() else 0
            if kills < most_kills and reached >= _ROUNDS * kills // (most_kills + 1):
                time.sleep(draws.uniform(0, 0.02))
                name = draws.choice(["site", "coordinator"])
                running[name].send_signal(signal.SIGKILL)
                running[name].wait()
                running[name].stderr.close()
                running[name] = start(*programs[name])
                kills += 1
            time.sleep(0.001)
        assert running["coordinator"].returncode == 0, running[
            "coordinator"
        ].stderr.read()
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    assert kills == most_kills
    expected = _undisturbed()
    number, *values = done.read_text().split()
    assert int(number) == _ROUNDS
    assert [float.fromhex(value) for value in values] == expected
    _check_ledgers(site)


def _undisturbed() -> list[float]:
    model = np.zeros(3)
    for number in range(1, _ROUNDS + 1):
        model = model + np.random.default_rng(number).normal(size=3)
    return list(model)


def _check_ledgers(site: pathlib.Path) -> None:
    """Every round is charged once, in both ledgers, and was computed at least once."""
    rounds = list(range(1, _ROUNDS + 1))
    own = (site / "runs/run1/ledger.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in own[1:]] == rounds
    shared = (site / "ledgers/a.jsonl").read_text().splitlines()
    assert [json.loads(line)["round"] for line in shared] == rounds
    assert all(json.loads(line)["event"] == _EVENT.to_dict() for line in shared)
    computed = list(map(int, (site / "computed").read_text().split()))
    assert set(computed) == set(rounds)
    assert computed == sorted(computed)
