"""Contenders on one workload, which take turns so that all meet the same machine."""

from __future__ import annotations

import pathlib
import sys
import time
from typing import Any

from benchmark.contender import Contender, ContenderFailed
from benchmark.images import IMAGES
from benchmark.large import LARGE
from benchmark.peers import environments
from benchmark.workloads import WORKLOADS

# Seconds of rounds that a contender gets in each of its turns, at least one round.
_TURN_SECONDS = 1.0
_MOST_ROUNDS = 20
# Seconds of rounds that a contender gets in all its turns, at least one turn.
_COUNTED_SECONDS = 15.0
_WARM_ROUNDS = 3
# A round that takes longer is not repeated before it counts.
_LONG_SECONDS = 5.0
# A round that takes longer, and is not the contender's first, counts alone.
_ONE_ROUND_SECONDS = 60.0
# TFF has no DP-SGD at the clients.
_NOT_IN_TFF = tuple(n for n, s in IMAGES.items() if s.record_clip is not None)


def say(text: str) -> None:
    """Prints progress, with the time of day."""
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def commands(
    workload: str, contenders: list[str], peers: list[str]
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Commands of those that run the workload, and why other peers are absent."""
    # A program by hand for the small models, and products of matrices for the others.
    runs_on: dict[str, Any] = {
        "limit": [n for n, s in IMAGES.items() if s.record_clip is None],
        "roofline": LARGE,
        "products": [n for n, s in LARGE.items() if s.model == "lstm"],
        "plain_tff": [n for n in WORKLOADS if n not in _NOT_IN_TFF],
    }
    chosen = {
        name: [sys.executable, "-m", "benchmark.worker", name, workload]
        for name in contenders
        if workload in runs_on.get(name, (workload,))
    }
    absent: dict[str, str] = {}
    for peer in peers:
        if workload not in environments.PEERS[peer].workloads:
            continue
        try:
            chosen[peer] = environments.command(peer, workload)
        except environments.PeerUnavailable as error:
            absent[peer] = str(error)
            say(f"{workload}: no {peer}: {error}")
    return chosen, absent


class _Field:
    """The contenders that still run on a workload, and why others do not."""

    def __init__(self, workload: str):
        self.workload = workload
        self.running: dict[str, Contender] = {}
        self.absent: dict[str, str] = {}

    def give_up(self, name: str, error: ContenderFailed) -> None:
        """Ends a contender; the others go on."""
        self.absent[name] = str(error)
        say(f"{self.workload}: no {name}: {error}")
        if name in self.running:
            self.running.pop(name).kill()

    def start(self, name: str, command: list[str], log: pathlib.Path) -> None:
        """Starts a contender and waits for its first round."""
        say(f"{self.workload}: {name} starts")
        try:
            self.running[name] = Contender(command, log)
        except ContenderFailed as error:
            self.give_up(name, error)

    def warm(self, name: str) -> tuple[int, int]:
        """Rounds that do not count; the rounds of a turn, and how many turns.

        No turns where a round is so long that it has counted.
        """
        contender = self.running[name]
        usual = contender.take(1, keep=False)
        say(f"{self.workload}: {name} takes {usual:.3g} s a round")
        if usual >= _ONE_ROUND_SECONDS:
            contender.count_last()
            return 0, 0
        if usual < _LONG_SECONDS:
            usual = contender.take(_WARM_ROUNDS - 1, keep=False)
        rounds = max(1, min(_MOST_ROUNDS, round(_TURN_SECONDS / usual)))
        return rounds, max(1, int(_COUNTED_SECONDS / (usual * rounds)))

    def turn(self, name: str, rounds: int) -> None:
        """Rounds that count."""
        try:
            self.running[name].take(rounds, keep=True)
        except ContenderFailed as error:
            self.give_up(name, error)


def is_due(turn: int, most: int, turns: int) -> bool:
    """Whether a contender of at most `most` turns runs in this one.

    Its turns are spread over all turns, so that it meets the same machine as others.
    """
    most = min(most, turns)
    return (turn + 1) * most // turns > turn * most // turns


def measure(
    workload: str, chosen: dict[str, list[str]], turns: int, folder: pathlib.Path
) -> tuple[dict[str, Contender], dict[str, str]]:
    """Contenders with the rounds they ran in turns, and why others have none."""
    field = _Field(workload)
    try:
        for name, command in chosen.items():
            field.start(name, command, folder / f"{workload}_{name}.log")
        plan = {}
        for name in list(field.running):
            try:
                plan[name] = field.warm(name)
            except ContenderFailed as error:
                field.give_up(name, error)
        for turn in range(turns):
            due = [n for n, (_, most) in plan.items() if is_due(turn, most, turns)]
            due = [name for name in due if name in field.running]
            if due:
                say(f"{workload}: turn {turn + 1} of {turns}: {', '.join(due)}")
            for name in due:
                field.turn(name, plan[name][0])
    except BaseException:
        for contender in field.running.values():
            contender.kill()
        raise
    for contender in field.running.values():
        contender.close()
    return field.running, field.absent
