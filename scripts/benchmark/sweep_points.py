"""A process that runs a small sweep and prints CPU seconds of its points, by phase.

    python -m benchmark.sweep_points NAME FOLDER

prints a JSON list with a mapping for each point: CPU seconds by name of `PHASES`, and
`PROGRAMS`.
"""

from __future__ import annotations

import collections
import functools
import io
import json
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from tfl_research.cli import starting

# Round one's further CPU seconds, above the median of the later rounds', are `compile`.
PHASES = (
    *("data", "process", "form", "compile", "rounds", "evaluation", "export"),
    *("report", "other"),
)
# How many programs of clients were traced for XLA: 0 if an earlier point had the same.
PROGRAMS = "client programs"
_ROUNDS = 4
# Names of the sweeps.
SWEEPS = ("learning_rates", "attacks", "epsilons")


class _Clock:
    """CPU seconds of this process, each counted for the innermost phase that runs."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = collections.defaultdict(float)
        self.of_rounds: list[float] = []
        self._running: list[str] = ["other"]
        self._since = time.process_time()

    def _pass(self) -> None:
        now = time.process_time()
        self.seconds[self._running[-1]] += now - self._since
        self._since = now

    def measured(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose CPU seconds count for a phase."""

        @functools.wraps(function)
        def run(*arguments: Any, **named: Any) -> Any:
            self._pass()
            self._running.append(phase)
            begin = self.seconds[phase]
            try:
                return function(*arguments, **named)
            finally:
                self._pass()
                self._running.pop()
                if phase == "rounds":
                    self.of_rounds.append(self.seconds[phase] - begin)

        return run

    def take(self) -> dict[str, float]:
        """The CPU seconds since the last call, by phase."""
        self._pass()
        found = {phase: self.seconds[phase] for phase in PHASES}
        if len(self.of_rounds) > 1:
            usual = statistics.median(self.of_rounds[1:])
            found["compile"] = max(self.of_rounds[0] - usual, 0.0)
            found["rounds"] -= found["compile"]
        self.seconds.clear()
        self.of_rounds.clear()
        return found


class _CompiledPrograms:
    """Counts the programs that are traced for XLA."""

    def __init__(self) -> None:
        self._number = 0

    def count(self, owner: Any) -> None:
        """Counts from now on what a class of `compiler.shared_programs` builds."""
        build = owner._built

        def counted(shared: Any, trace: Any, signature: Any, *others: Any) -> Any:
            compiled, *_ = others
            self._number += bool(compiled)
            return build(shared, trace, signature, *others)

        owner._built = counted

    def take(self) -> int:
        """The number since the last call."""
        number, self._number = self._number, 0
        return number


def _points(name: str) -> Sequence[Any]:
    """The points of a sweep by name."""
    import tfl_research as tfl
    from tfl_research.experiment import sweeps

    training = tfl.Training(rounds=_ROUNDS, print_every=_ROUNDS)
    mnist = tfl.Experiment(
        tfl.TaskChoice("mnist"),
        weighting=tfl.Weighting("uniform"),
        training=training,
    )
    if name == "learning_rates":
        return [
            sweeps.Point.changed(f"{rate}", mnist, {}, client_learning_rate=rate)
            for rate in (0.05, 0.1, 0.02, 0.03, 0.04)
        ]
    if name == "attacks":
        points, _ = sweeps.byzantine_grid(
            mnist,
            names=["none", "label_flip", "sign_flip", "alie"],
            rules=["mean", "coordinate_median", "geometric_median"],
            fractions=[0.2],
            seeds=[0],
        )
        return points
    if name != "epsilons":
        raise ValueError(f"{name} is not one of {', '.join(SWEEPS)}")
    private = tfl.Experiment(
        "heart",
        cohorts=tfl.Cohorts("poisson", cohort_size=2),
        privacy=tfl.UserLevelPrivacy("gaussian", target_epsilon=4),
        training=training,
    )
    return [
        sweeps.Point.changed(f"{epsilon}", private, {}, target_epsilon=epsilon)
        for epsilon in (4.0, 8.0, 6.0, 12.0, 16.0)
    ]


def measure(name: str, folder: pathlib.Path) -> list[dict[str, float]]:
    """Runs a sweep; returns CPU seconds by phase, and `PROGRAMS`, for each point."""
    from tfl_research import deferred_imports

    # As the commands of `experiments` do.
    deferred_imports.freeze_imports()
    deferred_imports.import_tff()
    from tfl_research.experiment import setup, sweeps
    from tfl_research.experiment.running import building, engines
    from tfl_research.program.evaluation.evaluator import Evaluator
    from tfl_research.program.results import finish
    from tfl_research.runtime.compiler.shared_programs import SharedPrograms
    from tfl_research.runtime.in_process import InProcessEngine
    from tfl_research.tasks import shared

    clock = _Clock()
    for phase, owner, attribute in (
        ("data", setup, "prepare"),
        ("process", building, "process"),
        ("form", engines, "build"),
        ("rounds", InProcessEngine, "next"),
        ("evaluation", Evaluator, "__init__"),
        ("evaluation", Evaluator, "evaluate"),
        ("export", finish, "write_outputs"),
        ("report", finish, "write_page"),
    ):
        function = getattr(owner, attribute)
        setattr(owner, attribute, clock.measured(phase, function))
    programs = _CompiledPrograms()
    programs.count(SharedPrograms)
    found = []
    # The points of one sweep; each has a folder of its own, so that its check counts
    # for it and not for the first one.
    with shared.within_sweep():
        for point in _points(name):
            clock.take()
            sweep = sweeps.Sweep(folder / point.name, [point])
            sweep.run(io.StringIO())
            found.append({**clock.take(), PROGRAMS: programs.take()})
    return found


if __name__ == "__main__":
    starting.prepare()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    json.dump(measure(sys.argv[1], pathlib.Path(sys.argv[2])), answers)
    answers.close()
    # TensorFlow's threads end with the process.
    os._exit(0)
