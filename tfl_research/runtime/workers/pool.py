"""Jobs on several workers, of which some may be lost."""

from __future__ import annotations

import collections
import concurrent.futures
from collections.abc import Callable, Sequence
from typing import Any

from tfl_research.runtime.workers.remote_worker import RemoteWorker, WorkerUnavailable

# Executes a part of a round on the worker with the number.
Job = Callable[[int], Any]


class WorkerPool:
    """Gives jobs to workers; the jobs of a lost worker go to the others.

    Attributes:
      workers: the workers.

    Args:
      workers: at least one.
      jobs_at_once: how many jobs a worker executes at the same time.
      on_change: called with a sentence when a worker is lost or answers again.
    """

    def __init__(
        self,
        workers: Sequence[RemoteWorker],
        jobs_at_once: int,
        on_change: Callable[[str], None],
    ):
        self.workers = list(workers)
        self._at_once = jobs_at_once
        self._pool = concurrent.futures.ThreadPoolExecutor(len(workers) * jobs_at_once)
        self._lost: set[int] = set()
        self._on_change = on_change

    def each(self, jobs: Sequence[Job]) -> list[Any]:
        """Executes jobs and returns their results in order; any worker may do any job.

        Raises:
          WorkerUnavailable: none of the workers answers any more.
        """
        waiting = collections.deque(enumerate(jobs))
        results: dict[int, Any] = {}
        reasons: list[str] = []

        def work(index: int) -> None:
            worker = self.workers[index]
            while waiting and index not in self._lost:
                try:
                    place, job = waiting.popleft()
                except IndexError:  # Another worker was faster.
                    return
                try:
                    with worker.losses_named():
                        results[place] = job(index)
                except WorkerUnavailable as error:
                    waiting.appendleft((place, job))
                    reasons.append(str(error))
                    self._lost.add(index)
                    return
                except BaseException:
                    # Nobody gets the results of the other jobs.
                    waiting.clear()
                    raise

        while waiting:
            before = set(self._lost)
            # Waiting for a lost worker would take its time-out in every round.
            self._lost = {i for i in before if not self.workers[i].has_answered()}
            living = [i for i in range(len(self.workers)) if i not in self._lost]
            if not living:
                raise WorkerUnavailable("; ".join(reasons) or self._nobody())
            list(self._pool.map(work, living * self._at_once))
            if len(self._lost) < len(self.workers):
                self._tell(before)
        return [results[place] for place in range(len(jobs))]

    def require(self) -> None:
        """Waits until a worker answers.

        Raises:
          WorkerUnavailable: none answers in time.
        """
        self.each([lambda index: self.workers[index].ready_stub()])

    def _nobody(self) -> str:
        addresses = ", ".join(worker.address for worker in self.workers)
        return f"no TFF worker answers any more at {addresses}"

    def _tell(self, before: set[int]) -> None:
        """Reports the newly lost workers, and the workers that answer again."""
        for index in sorted(self._lost - before):
            address = self.workers[index].address
            self._on_change(
                f"no TFF worker answers at {address}; other workers compute its part"
            )
        for index in sorted(before - self._lost):
            self._on_change(f"the TFF worker at {self.workers[index].address} is back")

    def close(self) -> None:
        """Closes the connections; the workers keep running."""
        # Calls that are still running fail with their connection.
        for worker in self.workers:
            worker.close()
        self._pool.shutdown()


def consecutive(values: Sequence[Any], parts: int) -> list[list[Any]]:
    """Divides values into at most `parts` runs, whose lengths differ by at most one.

    A run is a sequence of consecutive values. The longer runs come first. Without
    values, there is a single empty run.
    """
    parts = max(1, min(parts, len(values)))
    length, longer = divmod(len(values), parts)
    runs, first = [], 0
    for index in range(parts):
        last = first + length + (index < longer)
        runs.append(list(values[first:last]))
        first = last
    return runs
