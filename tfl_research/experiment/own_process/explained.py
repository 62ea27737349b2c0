"""An engine whose errors are one line that names the round's clients."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Optional

from tfl_research import interrupts
from tfl_research.errors import UserError
from tfl_research.experiment.own_process.client_values import CohortValues
from tfl_research.runtime import NotIsolated, WorkerUnavailable
from tfl_research.runtime.engine import ClosedOnExit

# Lines of TensorFlow's messages that do not say what failed.
_FRAMES = re.compile(
    r"(Graph execution error|Detected at node|<stack traces|File |Traceback|\[\["
    r"|The op is created|in user code|\^)"
)
# Largest number of clients that an error names, and that are tried one by one.
_NAMED, _TRIED = 4, 50


class ExplainedEngine(ClosedOnExit):
    """An engine whose errors are one line with the round's clients.

    Args:
      engine: executes the rounds.
      finds_client: whether a failed round is executed again with each of its clients
        alone, until one fails. This must be false for a process with noise, because
        every execution is charged.
    """

    def __init__(self, engine: Any, *, finds_client: bool):
        self._engine = engine
        self._finds_client = finds_client

    def initialize(self) -> Any:
        """Returns the initial server state."""
        return self._engine.initialize()

    def next(self, state: Any, cohort: Any) -> tuple[Any, Any]:
        """Executes a round; an error names the round's clients in one line.

        Returns:
          The server state after the round, and the round's metrics.

        Raises:
          UserError: the process failed.
        """
        given = list(cohort) if isinstance(cohort, CohortValues) else cohort
        try:
            new, metrics = self._engine.next(state, given)
        except (UserError, WorkerUnavailable, NotIsolated):
            raise
        except Exception as error:
            interrupts.check()
            clients = f"{len(cohort)} clients"
            if isinstance(cohort, CohortValues) and cohort.client_ids:
                clients = self._named(state, cohort)
            raise UserError(
                f"process: a round of {clients} failed "
                f"({type(error).__name__}: {_cause(error)}); tfl.Runtime('tff') "
                "executes it as TFF does"
            ) from error
        return new, metrics

    def close(self) -> None:
        self._engine.close()

    def _named(self, state: Any, cohort: CohortValues) -> str:
        """Names a failed round's clients, and a client with whom alone it fails."""
        ids = cohort.client_ids
        found = None
        if self._finds_client and 1 < len(ids) <= _TRIED:
            found = self._failing(state, cohort)
        named = _listed(ids)
        return named if found is None else f"{named}, and of {found!r} alone,"

    def _failing(self, state: Any, cohort: CohortValues) -> Optional[str]:
        for client_id, value in zip(cohort.client_ids, cohort):
            try:
                self._engine.next(state, [value])
            except Exception:  # noqa: BLE001 - of a user's process: any
                interrupts.check()
                return client_id
        return None


def _listed(ids: Sequence[str]) -> str:
    more = len(ids) - _NAMED
    shown = ", ".join(map(repr, ids[:_NAMED])) + (f" and {more} more" * (more > 0))
    return f"{len(ids)} clients ({shown})" if len(ids) > 1 else f"1 client ({shown})"


def _cause(error: Exception) -> str:
    """Returns the most informative line of an error's message."""
    text = str(error)
    # TFF's worker reports errors by gRPC.
    details = re.search(r'details = "(.*?)"\n', text, re.DOTALL)
    if details is not None:
        text = details.group(1)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if not _FRAMES.match(line)]
    return (telling or lines or ["no message"])[0][:300]
