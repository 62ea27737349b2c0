"""The coordinator's engine: sites do the clients' work, the coordinator the rest."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from tfl_research.data import SiteCohort
from tfl_research.errors import RoundAbandoned, UserError
from tfl_research.federation.asked_round import AskedRound
from tfl_research.federation.kept_totals import KeptTotals, Total
from tfl_research.runtime import UnsupportedProcess
from tfl_research.runtime.engine import ClientValues, ClosedOnExit
from tfl_research.runtime.rounds.separate import SeparateProcess
from tfl_research.storage import nest

# The tensors that each client reports, by client id.
Reports = Mapping[str, Sequence[np.ndarray]]


class CollectsReports(Protocol):
    """Protocol of an object that asks the sites for a round's work."""

    def reports(self, asked: AskedRound) -> Reports:
        """The reports of the clients that answer in time; others are left out."""
        ...

    def summed(self, asked: AskedRound) -> tuple[tuple[str, ...], Sequence[np.ndarray]]:
        """Adds the clients' reports by a secure sum.

        Returns:
          The clients whose reports are in the sum, and the sum.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Rules:
    """The conditions under which a round counts.

    Attributes:
      minimum_clients: a round with fewer clients that answer in time is abandoned.
      secure: whether sites give only masked integers.
      kept: positions in a report of the tensors that stay at the sites.
      exchanges: number of rounds in a row that need the same clients.
    """

    minimum_clients: int = 1
    secure: bool = False
    kept: Sequence[int] = ()
    exchanges: int = 1


class FederationEngine(ClosedOnExit):
    """Executes a process; the clients' work is done at sites.

    The reports of a round are added up one by one, in the order of the cohort. So a
    round gives the same result, to the last bit, as `runtime.in_process` with
    `Mode("separate", compiler)` on processors of one type. Before the server uses the
    total of a round, the total is kept on disk. A run that is resumed uses the kept
    total again. Otherwise another set of sites could answer, and the same noise would
    be added to another sum.

    Args:
      process: the process, in steps; the sites have the same process.
      sites: asks the sites for reports.
      kept: the totals of the last rounds.
      rules: the conditions under which a round counts.
      say: prints a line for the user.

    Raises:
      UnsupportedProcess: clients report something outside of secure sums although the
        rules ask for secure sums.
    """

    def __init__(
        self,
        process: SeparateProcess,
        sites: CollectsReports,
        kept: KeptTotals,
        rules: Rules,
        say: Callable[[str], None],
    ):
        self._process = process
        self._sites = sites
        self._kept = kept
        self._rules = rules
        self._say = say
        plain = self._process.clients.num_plain_leaves - len(rules.kept)
        if rules.secure and plain:
            raise UnsupportedProcess(
                f"--secure_sums: clients report {plain} tensors outside of secure "
                "sums; give another --aggregator or --algorithm, or leave "
                "--secure_sums out"
            )

    def initialize(self) -> Any:
        """The initial server state."""
        return self._process.initialize()

    def next(self, state: Any, cohort: ClientValues) -> tuple[Any, Any]:
        """Executes a round; returns (new state, metrics).

        Args:
          state: the state from `initialize` or from an earlier round.
          cohort: a `data.SiteCohort`.

        Raises:
          RoundAbandoned: too few clients answered in time.
          TypeError: the cohort is no `data.SiteCohort`.
        """
        if not isinstance(cohort, SiteCohort):
            raise TypeError(f"expected a SiteCohort, got {type(cohort).__name__}")
        leaves = self._process.state_leaves(state)
        number, asked = cohort.round_number, cohort.client_ids
        context = self._process.clients.context(leaves)
        total = self._kept.read(number, asked)
        if total is None:
            total = self._asked(number, asked, context)
            away = [name for name in asked if name not in total.client_ids]
            if self._rules.exchanges > 1 and away:
                raise UserError(
                    f"round {number}: client {away[0]!r} did not answer in time, but "
                    f"the algorithm needs the same clients in {self._rules.exchanges} "
                    "rounds in a row; start its site, then give the same command again"
                )
            self._kept.write(number, asked, total)
        if len(total.client_ids) < self._rules.minimum_clients and asked:
            self._kept.note(number, ())
            reason = (
                f"round {number} is abandoned: {len(total.client_ids)} of {len(asked)} "
                f"clients answered in time, fewer than --minimum_clients="
                f"{self._rules.minimum_clients}; the model stays as it is"
            )
            self._say(reason)
            raise RoundAbandoned(reason)
        missing = [i for i in asked if i not in total.client_ids]
        if missing:
            self._say(
                f"round {number}: left out, because no valid answer came in time: "
                f"{', '.join(map(repr, missing))}"
            )
        tensors = [tf.constant(value) for value in total.tensors]
        result = self._process.clients.result(leaves, tensors)
        new_state, metrics = self._process.packed(result)
        metrics = self._counted(number, metrics, len(total.client_ids))
        # A skipped round does not change the server, so it must not change clients.
        skipped = nest.find_scalar(metrics.get("aggregator", ()), "skipped")
        self._kept.note(number, () if skipped else total.client_ids)
        return new_state, metrics

    def _counted(self, number: int, metrics: Any, clients: int) -> Any:
        """The metrics with the number of clients that the coordinator has counted.

        Each report counts its client by a number, which a site can change.
        """
        cohort = metrics.get("cohort")
        reported = None if cohort is None else cohort.get("clients")
        if reported is None or int(reported) == clients:
            return metrics
        self._say(
            f"round {number}: the reports count {int(reported)} clients, but {clients} "
            "answered: a site sends wrong numbers"
        )
        counted = np.asarray(clients, np.asarray(reported).dtype)
        return {**metrics, "cohort": {**cohort, "clients": counted}}

    def close(self) -> None:
        """Closes the files of the totals."""
        self._kept.close()

    def _asked(
        self, number: int, asked: Sequence[str], context: Sequence[tf.Tensor]
    ) -> Total:
        """Asks the sites, and adds up what they report."""
        clients = self._process.clients
        if not asked:
            return _total((), clients.total([]))
        arrays = [np.asarray(tensor) for tensor in context]
        rounds = self._kept.state_rounds(asked, before=number)
        whole = AskedRound(number, asked, rounds, arrays)
        if self._rules.secure:
            who, summed = self._sites.summed(whole)
            report = [tf.constant(value) for value in summed]
            return _total(who, clients.total([report] if who else []))
        reports = self._sites.reports(whole)
        who = tuple(client_id for client_id in asked if client_id in reports)
        ordered = ([tf.constant(v) for v in reports[client_id]] for client_id in who)
        return _total(who, clients.total(ordered))


def _total(client_ids: Sequence[str], tensors: Sequence[tf.Tensor]) -> Total:
    return Total(tuple(client_ids), [np.asarray(tensor) for tensor in tensors])
