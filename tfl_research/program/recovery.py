"""Writes the checkpoints of a run, and restores a run from the last checkpoint."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any, Optional

from tfl_research.errors import UserError
from tfl_research.program.config import RunConfig
from tfl_research.program.interfaces import Account
from tfl_research.program.states import WeightsOf, model_weights
from tfl_research.storage.checkpoints import Checkpoint, CheckpointStore
from tfl_research.storage.client_states import EMPTY_TABLE, ClientStates
from tfl_research.storage.run_folder import RunFolder


class Recovery:
    """Reads and writes checkpoints, together with the clients' states and the ledgers.

    Attributes:
      round_number: round of the last checkpoint; 0 when there is no checkpoint.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: RunConfig,
        account: Optional[Account],
        client_states: Optional[ClientStates],
        weights_of: WeightsOf = model_weights,
        any_shape: Collection[str] = (),
    ):
        self._weights_of = weights_of
        self._any_shape = any_shape
        self._store = CheckpointStore(
            folder.checkpoints_path,
            keep=config.keep_checkpoints,
            key=folder.checkpoint_key,
            attempts=folder.attempts,
        )
        self._path, self._config = folder.path, config
        self._account = account
        self._client_states = client_states
        self.round_number = 0
        self._last_time = time.monotonic()

    def load(self, initial_state: Any) -> Optional[Checkpoint]:
        """Returns the last checkpoint or None, and restores the clients' states.

        Raises:
          UserError: the checkpoint does not fit the process, or a ledger has lost
            entries that it had when the checkpoint was written.
        """
        checkpoint = self._store.load_latest(
            initial_state,
            self._weights_of(initial_state),
            any_shape=self._any_shape,
        )
        if checkpoint is not None:
            self._check_ledgers(checkpoint.progress["ledgers"])
        if self._client_states is not None:
            if checkpoint is None:
                self._client_states.restore(0, EMPTY_TABLE)
            else:
                self._client_states.restore(
                    checkpoint.round_number, checkpoint.progress["client_states"]
                )
        if checkpoint is not None:
            self.round_number = checkpoint.round_number
        return checkpoint

    def _check_ledgers(self, positions: Any) -> None:
        if self._account is None:
            return
        try:
            self._account.check_positions(positions)
        except ValueError as error:
            raise UserError(str(error)) from error

    def is_due(self, round_number: int) -> bool:
        """Whether a checkpoint is due after the round."""
        waited = time.monotonic() - self._last_time
        return (
            round_number % self._config.checkpoint_every == 0
            or waited >= self._config.checkpoint_seconds
        )

    def save(
        self, round_number: int, state: Any, best: Any, progress: Mapping[str, Any]
    ) -> None:
        """Writes a checkpoint. The rows of metrics.csv must already be durable."""
        account, states = self._account, self._client_states
        if states is not None:
            states.sync()
        ledgers = {} if account is None else account.positions()
        self._store.save(
            Checkpoint(
                round_number,
                state,
                best,
                {
                    **progress,
                    "ledgers": ledgers,
                    "client_states": None if states is None else states.extent,
                },
            )
        )
        if states is not None:
            states.drop_outdated(self._store.rounds()[-1])
        self.round_number = round_number
        self._last_time = time.monotonic()

    def last_good(self) -> str:
        """Returns words that say where a model is that has not diverged."""
        if not self.round_number:
            return "no checkpoint was due yet"
        return f"the last good checkpoint is {self._store.path(self.round_number)}"

    def how_it_resumes(self) -> str:
        """Returns a line about the rounds that earlier starts completed."""
        completed, asked = self.round_number, self._config.rounds
        if completed > asked:
            return (
                f"{self._path} has {completed} rounds already, more than "
                f"rounds={asked}: no further round runs"
            )
        return f"resumes {self._path} after round {completed} of {asked}"

    def how_to_resume(self, completed: int) -> str:
        """Says where the results are, and after which round a run resumes.

        Args:
          completed: number of completed rounds.
        """
        text = (
            f"results so far are in {self._path}, and the same command resumes after "
            f"round {self.round_number}"
        )
        if self.round_number < completed:
            text += ", the last checkpoint (a smaller checkpoint_every repeats less)"
        return text
