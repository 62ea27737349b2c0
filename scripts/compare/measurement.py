"""A framework's result: installation, runs, and a run that is killed and started again.

A result is a JSON file. It is written after each step, so that a measurement that ends
early goes on where it was.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from typing import Any, Optional

import numpy as np
from benchmark import held
from benchmark.peers import environments

from compare import federated_task, installation, lines, trial
from compare.frameworks import SCRIPTS, Framework

_EPSILON = re.compile(r"epsilon|ε", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is measured.

    Attributes:
      rounds: of a run.
      runs: how many whole runs there are; the medians count.
      date: today.
      machine: where this is.
    """

    rounds: int
    runs: int
    date: str = ""
    machine: str = ""


@dataclasses.dataclass(frozen=True)
class Yardstick:
    """The task's files and the models that the reference reaches.

    Attributes:
      folder: of `federated_task.write`.
      test: images and labels.
      first: the model after the first round.
      last: the model after the last round.
    """

    folder: pathlib.Path
    test: federated_task.Arrays
    first: list[np.ndarray]
    last: list[np.ndarray]


def identity(framework: Framework, setting: Setting) -> str:
    """Changes when the framework must be measured again."""
    digest = hashlib.sha256(str(setting.rounds).encode())
    files = [*framework.files, SCRIPTS / "compare" / "federated_task.py"]
    if framework.environment is None:
        digest.update(held.code(["tfl_research"]).encode())
    else:
        files.append(environments.requirements_of(framework.environment))
    for file in files:
        digest.update(file.read_bytes())
    digest.update(repr(framework.documented).encode())
    return digest.hexdigest()[:16]


def _hardware(machine: str) -> str:
    """A machine in words, without its load."""
    return machine.split(" (load")[0]


def _kept(
    path: pathlib.Path,
    wanted: str,
    documented: str,
    machine: str,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """What was measured already, on this machine.

    Raises:
      ValueError: the file is not a result.
    """
    if not path.exists():
        return {"identity": wanted}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        known = found["identity"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: not a result of this script ({error!r}); remove the file, or "
            "measure it again with --again"
        ) from error
    place = found.get("machine", machine)
    if known == wanted and _hardware(place) == _hardware(machine):
        return found
    if known == wanted:
        say(f"{path.name} was measured on another machine, {place}; measuring again")
        return {"identity": wanted}
    say(f"{path.name} is of another program or setting; measuring again")
    # An installation does not depend on the program or the setting.
    same = found.get("documented") == documented and "installation" in found
    return {
        "identity": wanted,
        **({"installation": found["installation"]} if same else {}),
    }


def _save(path: pathlib.Path, result: Mapping[str, Any]) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    part.replace(path)


class Measurement:
    """The steps of one framework."""

    def __init__(
        self,
        framework: Framework,
        setting: Setting,
        yardstick: Yardstick,
        path: pathlib.Path,
        say: Callable[[str], None],
    ):
        self._framework = framework
        self._setting = setting
        self._yardstick = yardstick
        self._path = path
        self._say = say
        documented = f"{' '.join(framework.documented)}: {framework.statement}"
        self._result = _kept(
            path, identity(framework, setting), documented, setting.machine, say
        )
        self._result["documented"] = documented
        # The last model of a whole run.
        self._whole_run: Optional[list[np.ndarray]] = None

    def run(self) -> dict[str, Any]:
        """Does the steps that are missing; returns the result."""
        self._result.setdefault("date", self._setting.date)
        self._result.setdefault("machine", self._setting.machine)
        self._result["lines"] = lines.of_files(self._framework.files)
        self._step("installation", lambda: installation.tried(self._framework))
        # A machine may have next time what it lacks now, so this result is measured
        # again. A failed program gets another identity when somebody mends it.
        self._result.pop("unavailable", None)
        if "absent" not in self._result:
            self._programs()
        _save(self._path, self._result)
        return self._result

    def _step(self, name: str, measure: Callable[[], Any]) -> None:
        if name not in self._result:
            self._say(name)
            self._result[name] = measure()
            _save(self._path, self._result)

    def _programs(self) -> None:
        needed = [f"run{number + 1}" for number in range(self._setting.runs)]
        if all(name in self._result for name in (*needed, "kill")):
            return
        try:
            self._say("environment")
            python = self._framework.interpreter()
            for name in needed:
                self._step(name, lambda: self._whole(python))
            self._step("kill", lambda: self._killed(python))
        except environments.PeerUnavailable as error:
            self._result["unavailable"] = installation.reason(str(error))
        except trial.TrialFailed as error:
            self._result["absent"] = str(error)

    def _trial(
        self, python: str, folder: pathlib.Path, kill_after: Optional[int] = None
    ) -> trial.Trial:
        own = [str(SCRIPTS.parent)] if self._framework.environment is None else []
        return trial.run(
            self._framework.command(python),
            self._yardstick.folder,
            folder,
            paths=[str(SCRIPTS), *own],
            rounds=self._setting.rounds,
            kill_after=kill_after,
            variables={"PATH": f"{pathlib.Path(python).parent}:{os.environ['PATH']}"},
        )

    def _whole(self, python: str) -> dict[str, Any]:
        rounds = self._setting.rounds
        folder = pathlib.Path(tempfile.mkdtemp())
        try:
            seen = self._trial(python, folder)
            if seen.rounds[0]["round"] != 1:
                raise trial.TrialFailed("it went on with a run that was not its own")
            first, last = trial.model(folder, 1), trial.model(folder, rounds)
            text = seen.log.read_text(errors="replace")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self._whole_run = last
        start = _initial(self._yardstick)
        distance = federated_task.distance
        return {
            "start_seconds": seen.start_seconds,
            "round_seconds": seen.round_seconds,
            "peak_bytes": seen.peak_bytes,
            "processes": seen.processes,
            "cpu_seconds": seen.cpu_seconds,
            "load": os.getloadavg()[0],
            "accuracy": federated_task.accuracy(last, self._yardstick.test),
            "update_norm": distance(first, start),
            "movement": distance(last, start),
            "first_distance": distance(first, self._yardstick.first),
            "last_distance": distance(last, self._yardstick.last),
            "epsilon_lines": sum(bool(_EPSILON.search(x)) for x in text.splitlines()),
        }

    def _killed(self, python: str) -> dict[str, Any]:
        """A whole run, a run that is killed half way, and the same command again."""
        rounds = self._setting.rounds
        if self._whole_run is None:
            self._whole(python)
        whole: Any = self._whole_run
        folder = pathlib.Path(tempfile.mkdtemp())
        try:
            self._trial(python, folder, kill_after=rounds // 2)
            try:
                seen = self._trial(python, folder)
                again = trial.model(folder, rounds)
            except trial.TrialFailed as error:
                return {"killed_after": rounds // 2, "error": str(error)}
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        movement = federated_task.distance(whole, _initial(self._yardstick))
        equal = all(np.array_equal(a, b) for a, b in zip(whole, again))
        return {
            "killed_after": rounds // 2,
            "first_round_after": seen.rounds[0]["round"],
            "same_bits": equal,
            "distance": federated_task.distance(whole, again) / movement,
        }


def _initial(yardstick: Yardstick) -> list[np.ndarray]:
    with np.load(yardstick.folder / "initial.npz") as file:
        return [file[name] for name in sorted(file.files)]
