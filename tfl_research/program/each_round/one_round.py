"""One round: cohort, charge, process, and the round's row of metrics.csv."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, Optional

import numpy as np

from tfl_research.data import CLIENT_SECRET, SiteCohort, client_secrets
from tfl_research.errors import RoundAbandoned, UserError
from tfl_research.program.config import RunConfig
from tfl_research.program.each_round import divergence, exclusions
from tfl_research.program.interfaces import (
    Account,
    Engine,
    HasCompanions,
    Outcome,
    Sampler,
    SimulatesDevices,
)
from tfl_research.program.states import WeightsOf
from tfl_research.storage import nest
from tfl_research.storage.client_states import ClientStates
from tfl_research.storage.metrics.round_metrics import measurements, round_row


class Rounds:
    """Runs rounds for `session.Session`; each starts at the last round's state.

    Attributes:
      measurements: arrays that the last round measured in addition to numbers, by name.
      excluded: (client, reason) of the clients that the last round excluded.

    Args:
      clients: the training data, a `data.ClientData`.
      engine: executes the process.
      sampler: draws the client ids of each round.
      config: seeds of the cohorts.
      account: charges rounds to a privacy budget, or None.
      client_states: the table of the clients' states, or None.
      message_bytes: bytes to and from a client in a round, or None.
      weights_of: the model in a state, or None.
      names_excluded: whether the run tells which clients were excluded.
    """

    def __init__(
        self,
        clients: Any,
        engine: Engine,
        sampler: Sampler,
        config: RunConfig,
        account: Optional[Account],
        client_states: Optional[ClientStates],
        message_bytes: Optional[tuple[int, int]],
        weights_of: WeightsOf,
        *,
        names_excluded: bool = False,
    ):
        self._clients = clients
        self._engine = engine
        self._sampler = sampler
        self._config = config
        self._account = account
        self._client_states = client_states
        self._message_bytes = message_bytes
        self._weights_of = weights_of
        self.measurements: Mapping[str, np.ndarray] = {}
        self.excluded: exclusions.Excluded = ()
        self._names_excluded = names_excluded
        self._exclusions = exclusions.Exclusions(engine)

    def exceeds_budget(self, round_number: int) -> bool:
        """Whether the round would exceed the privacy budget."""
        if self._account is None:
            return False
        return self._account.would_exceed(self._charged(round_number))

    def epsilon_after(self, round_number: int) -> Optional[float]:
        """Returns ε with the round charged; None without an account."""
        if self._account is None:
            return None
        return self._account.epsilon_after(self._charged(round_number))

    def do(
        self, round_number: int, state: Any, last_good: str
    ) -> Optional[tuple[Any, dict[str, Any]]]:
        """Runs a round, unless the account refuses to charge the round.

        Args:
          round_number: the round's number; rounds are numbered from 1.
          state: the process state after the last round.
          last_good: says where a model is that has not diverged, for messages.

        Returns:
          The state after the round and the row of metrics.csv; None when the account
          refuses the round.

        Raises:
          TrainingDivergedError: the aggregated model is not finite.
          UserError: the round's noise is not the noise of the account's plan.
        """
        start = time.perf_counter()
        self.measurements, self.excluded = {}, ()
        outcome = self._outcome(round_number)
        if outcome is not None and outcome.abandoned:
            row = self._abandoned(round_number)
        else:
            done = self._aggregated(round_number, state, outcome, last_good)
            state, row = (state, None) if done is None else done
        if row is None:
            return None
        self._add_outcome(row, outcome)
        row["round_seconds"] = time.perf_counter() - start
        return state, row

    def _charged(self, round_number: int) -> int:
        """Returns the round's number among the rounds that the account charges."""
        account, sampler = self._account, self._sampler
        if account is None or account.charges_abandoned:
            return round_number
        if isinstance(sampler, SimulatesDevices):
            return round_number - sampler.abandoned_before(round_number)
        return round_number

    def _outcome(self, round_number: int) -> Optional[Outcome]:
        if isinstance(self._sampler, SimulatesDevices):
            return self._sampler.outcome(round_number)
        return None

    def _num_companions(self) -> int:
        """Returns how many participants of every cohort are not clients."""
        sampler = self._sampler
        return len(sampler.beside) if isinstance(sampler, HasCompanions) else 0

    def _check_measured(self, round_number: int, metrics: Any) -> None:
        """Compares the round's noise with the noise of the account's plan."""
        if self._account is None:
            return
        try:
            self._account.check_measured(metrics)
        except ValueError as error:
            reason = error.for_command_line if isinstance(error, UserError) else error
            raise UserError(
                f"round {round_number}: {reason}; nothing of this round is released"
            ) from error

    def _aggregated(
        self,
        round_number: int,
        state: Any,
        outcome: Optional[Outcome],
        last_good: str,
    ) -> Optional[tuple[Any, dict[str, Any]]]:
        """Runs a round with a cohort, which may be empty."""
        config, account = self._config, self._account
        client_ids = self._sampler.sample(round_number)
        cohort_seed = config.seed if config.cohort_seed is None else config.cohort_seed
        cohort = self._clients.cohort(
            client_ids, seed=cohort_seed, round_number=round_number
        )
        if config.client_secret is not None:
            secrets = client_secrets(config.client_secret, client_ids, round_number)
            cohort = cohort.with_members(**{CLIENT_SECRET: secrets})
        if outcome is not None:
            cohort = outcome.prepared(cohort)
        if self._client_states is not None:
            cohort = self._client_states.attach(cohort)
        # The charge is durable before anything with this round's noise exists.
        epsilon = (
            math.inf if account is None else account.charge(self._charged(round_number))
        )
        if epsilon is None:
            return None
        before = state
        try:
            state, metrics = self._engine.next(state, cohort)
        except RoundAbandoned:
            # The engine has said why. The charge stands: it was made before.
            return state, self._row(round_number, 0, {}, epsilon)
        # The check comes before the round is written, printed or evaluated.
        self._check_measured(round_number, metrics)
        weights = self._weights_of(state)
        if weights is not state:
            divergence.check_weights(
                round_number, weights, last_good, config.own_server_parts
            )
        if self._client_states is not None:
            # A skipped round does not change the server, so it must not change clients.
            skipped = nest.find_scalar(metrics.get("aggregator", ()), "skipped")
            if not skipped:
                self._client_states.store(
                    round_number, client_ids, metrics["client_states"]
                )
        self.measurements = measurements(metrics)
        if self._names_excluded:
            count = exclusions.excluded(metrics) or 0
            self.excluded = self._exclusions.of_round(before, cohort, count)
            if self.excluded:
                found = {exclusions.NAME: exclusions.array(self.excluded)}
                self.measurements = {**self.measurements, **found}
        size = len(client_ids) - self._num_companions()
        if isinstance(cohort, SiteCohort):
            # The cohort size counts only the clients that answered.
            size = int(metrics["cohort"]["clients"])
        return state, self._row(round_number, size, metrics, epsilon)

    def _row(
        self, round_number: int, cohort_size: int, metrics: Any, epsilon: float
    ) -> dict[str, Any]:
        """Makes the row of a round that was charged."""
        account = self._account
        row = round_row(
            round_number,
            cohort_size,
            metrics,
            epsilon=epsilon,
            delta=None if account is None else account.delta,
            noise_multiplier=None if account is None else account.noise_multiplier,
        )
        self.add_shared(row, self._charged(round_number))
        return row

    def _abandoned(self, round_number: int) -> Optional[dict[str, Any]]:
        """Returns the row of a round without a cohort, which changes no state.

        Returns None if the account charges abandoned rounds and the budget is spent.
        """
        account, epsilon, charged = self._account, math.inf, 0
        if account is not None:
            charged = self._charged(round_number)
            if not account.charges_abandoned:
                charged -= 1
            after = (
                account.charge(charged)
                if account.charges_abandoned
                else account.epsilon_after(charged)
            )
            if after is None:
                return None
            epsilon = after
        row = round_row(
            round_number,
            0,
            {},
            epsilon=epsilon,
            delta=None if account is None else account.delta,
            noise_multiplier=None if account is None else account.noise_multiplier,
        )
        self.add_shared(row, charged)
        return row

    def add_shared(self, row: dict[str, Any], charged_rounds: int) -> None:
        """Adds ε of the shared ledger, with its releases so far, to a row."""
        if self._account is None:
            return
        total = self._account.shared_epsilon(charged_rounds)
        if total is not None:
            row["shared_epsilon"] = total

    def _add_outcome(self, row: dict[str, Any], outcome: Optional[Outcome]) -> None:
        if outcome is not None:
            row.update(outcome.columns())
        if self._message_bytes is not None:
            row.update(traffic(row, self._message_bytes))


def traffic(row: Mapping[str, Any], message_bytes: tuple[int, int]) -> dict[str, int]:
    """Returns the cells `bytes_down` and `bytes_up`, or none if the row has them.

    Args:
      row: cells of the round: `cohort_size`; and `selected` and `dropped_out` where
        clients can drop out. A client that drops out receives the model and sends
        nothing.
      message_bytes: bytes to and from a client in a round.
    """
    if "bytes_down" in row:
        return {}
    selected = int(row.get("selected", row["cohort_size"]))
    reported = selected - int(row.get("dropped_out", 0))
    down, up = message_bytes
    return {"bytes_down": selected * down, "bytes_up": reported * up}
