"""A running contender, seen from scripts/bench."""

from __future__ import annotations

import json
import os
import pathlib
import re
import select
import statistics
import subprocess
import uuid
from collections.abc import Mapping
from typing import Any, Optional

from benchmark import protocol

# An answer that takes longer than this does not count.
_PATIENCE_SECONDS = 300.0
_ENDING_SECONDS = 60.0
# The line of a Python traceback that says what went wrong.
_ERROR = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Interrupt|Exit)\b.*")


# How the reason begins why a contender that takes too long is absent.
TOO_LONG = "no answer within"


class ContenderFailed(RuntimeError):
    """The contender ended, hangs, or did not train."""


def last_error(log: str) -> str:
    """The last line of a log that names an error, else its last line."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR.match(line)]
    return (errors or lines or ["it ended without a message"])[-1]


class Contender:
    """A contender's processes.

    Attributes:
      rounds: seconds of every round that counts.
      cpu_rounds: CPU seconds of its first process in each of them.
      all_cpu: CPU seconds a round of all its processes, a number for each turn.
      start_seconds: from the start of its program to the end of its first round.
      peak_bytes: peak resident memory of all its processes, each at its own peak.
      resident_bytes: resident memory of all its processes after its last rounds.
      update_norm: how far the first round moved the global model, if it says so.
    """

    def __init__(
        self,
        command: list[str],
        log: pathlib.Path,
        environment: Optional[Mapping[str, str]] = None,
    ):
        """Starts it and waits for its first round.

        Args:
          command: a program that speaks `protocol`.
          log: file for what it prints; its folder takes its temporary files.
          environment: further environment variables.

        Raises:
          ContenderFailed: the contender ended, hangs or did not train.
        """
        self.rounds: list[float] = []
        self.cpu_rounds: list[float] = []
        self.all_cpu: list[float] = []
        self.peak_bytes = 0
        self.resident_bytes = 0
        self._last: dict[str, Any] = {}
        self._log = log
        self._read = b""
        self._mark = uuid.uuid4().hex
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={
                    **os.environ,
                    **(environment or {}),
                    protocol.MARK: self._mark,
                    "TMPDIR": str(log.parent),
                },
                start_new_session=True,
            )
        try:
            start = self._answer()
            self.start_seconds: float = start["start_seconds"]
            self.update_norm: Optional[float] = start.get("update_norm")
            if self.update_norm is not None and not 0 < self.update_norm < float("inf"):
                raise ContenderFailed(
                    f"its first round moved the model by {self.update_norm}"
                )
        except BaseException:
            self.kill()
            raise

    def _answer(self) -> dict[str, Any]:
        """The next answer; each trial before it has the patience of an answer."""
        while True:
            answer = json.loads(self._line())
            if protocol.TRIAL not in answer:
                return answer

    def _line(self) -> bytes:
        pipe: Any = self._process.stdout
        # Not by the pipe's own buffer, of which `select` knows nothing.
        while b"\n" not in self._read:
            if not select.select([pipe], [], [], _PATIENCE_SECONDS)[0]:
                raise ContenderFailed(f"{TOO_LONG} {_PATIENCE_SECONDS:.0f} s")
            further = os.read(pipe.fileno(), 1 << 16)
            if not further:
                raise ContenderFailed(last_error(self._log.read_text(errors="replace")))
            self._read += further
        line, _, self._read = self._read.partition(b"\n")
        return line

    def take(self, rounds: int, *, keep: bool) -> float:
        """Runs rounds; returns the median of their seconds.

        Raises:
          ContenderFailed: it ended or hangs.
        """
        try:
            print(rounds, file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise ContenderFailed(
                last_error(self._log.read_text(errors="replace"))
            ) from None
        self._last = answer = self._answer()
        if keep:
            self.count_last()
        self.peak_bytes = answer["peak_bytes"]
        self.resident_bytes = answer["resident_bytes"]
        return statistics.median(answer["seconds"])

    def count_last(self) -> None:
        """Counts the rounds that `take` ran last."""
        self.rounds += self._last["seconds"]
        self.cpu_rounds += self._last["cpu_seconds"]
        self.all_cpu.append(self._last["all_cpu_seconds"])

    def close(self) -> None:
        """Asks the contender to end, and kills the processes that do not."""
        try:
            self._process.communicate("\n", timeout=_ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.kill()

    def kill(self) -> None:
        """Kills all processes of the contender."""
        protocol.kill_marked(self._mark)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()
