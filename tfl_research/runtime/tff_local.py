"""TFF's C++ runtime on this machine, the reference for the other engines."""

from __future__ import annotations

from typing import Any, Optional

import tensorflow_federated as tff

from tfl_research.runtime.engine import ClientValues, ClosedOnExit
from tfl_research.runtime.graphs.process_shape import client_type, split
from tfl_research.runtime.rounds.client_values import client_values
from tfl_research.runtime.workers.connection import ANSWER_SECONDS, NoAnswer
from tfl_research.runtime.workers.context import WorkerContext
from tfl_research.runtime.workers.remote_worker import WorkerUnavailable
from tfl_research.runtime.workers.worker import Worker


class TffLocalEngine(ClosedOnExit):
    """Executes a process on a TFF worker that this engine owns.

    The worker starts at the first call. `Worker` describes its lifetime.
    """

    def __init__(
        self,
        process: tff.templates.IterativeProcess,
        *,
        answer_seconds: float = ANSWER_SECONDS,
        open_port: bool = False,
    ):
        self._process = process
        self._client_type = client_type(process)
        self._worker = Worker(answer_seconds=answer_seconds, open_port=open_port)
        self._context: Optional[WorkerContext] = None

    @property
    def worker_pid(self) -> Optional[int]:
        """The worker's process id, None while it does not run."""
        return self._worker.pid

    def initialize(self) -> Any:
        """Returns the initial server state, with NumPy leaves."""
        return self._invoke(self._process.initialize)

    def next(self, state: Any, cohort: ClientValues) -> tuple[Any, Any]:
        """Executes a round; returns (new state, metrics) with NumPy leaves.

        Args:
          state: the state from `initialize` or from an earlier round, of any engine.
          cohort: a cohort of the toolkit, or a list with one value per client of
            the type that the process takes; may be empty. Ignored if the process has
            no clients.

        Raises:
          NotIsolated: the kernel allows no network namespace for the worker.
          WorkerUnavailable: the worker does not answer any more, as when it is stopped.
          RuntimeError: the worker ended.
        """
        arguments = [state]
        if self._client_type is not None:
            arguments.append(client_values(cohort, self._client_type))
        return split(self._invoke(self._process.next, *arguments), self._process)

    def _invoke(self, computation: Any, *arguments: Any) -> Any:
        if self._context is None:
            self._context = WorkerContext(self._worker.stub)
        try:
            with tff.framework.get_context_stack().install(self._context):
                return computation(*arguments)
        except NoAnswer as error:
            message = self._worker.failure()
            self.close()
            raise WorkerUnavailable(message) from error
        except Exception as error:
            if self._worker.ended:
                raise RuntimeError(self._worker.failure()) from error
            raise

    def close(self) -> None:
        """Ends the worker; a later call starts a new one."""
        context, self._context = self._context, None
        # A call that is still running fails with the worker.
        self._worker.close()
        if context is not None:
            context.close()


def tff_local(
    process: tff.templates.IterativeProcess,
    *,
    answer_seconds: float = ANSWER_SECONDS,
    open_port: bool = False,
) -> TffLocalEngine:
    """Makes an engine that executes `process` on TFF's C++ runtime on this machine.

    Use it as a context manager. The worker also ends when this process ends.

    Args:
      process: any `tff.templates.IterativeProcess`.
      answer_seconds: a worker that has not answered for so many seconds is lost.
      open_port: whether the worker may listen on all interfaces of this machine if
        the kernel allows no network namespace. Whoever reaches its port can then run
        programs as you.
    """
    return TffLocalEngine(process, answer_seconds=answer_seconds, open_port=open_port)
