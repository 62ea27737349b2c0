"""Makes the model of one client after a run, with the client's state."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import program
from tfl_research.clients.local_state import own_state
from tfl_research.errors import UserError
from tfl_research.experiment import setup as setups
from tfl_research.experiment.running import building, noise_keys
from tfl_research.storage.client_states import ClientStates

if TYPE_CHECKING:
    from tfl_research.experiment.running.result import Result


def model_of(result: Result, client_id: str, *, personal: bool) -> Any:
    """Returns the trained model of one client, with the client's state.

    Raises:
      UserError: there is no such client, the clients' states are missing, or the run
        has gone on since this result.
    """
    if client_id not in result.task.train.client_ids:
        listed = ", ".join(map(repr, result.task.train.client_ids[:4]))
        raise UserError(
            f"client_id={client_id!r} is not one of the {len(result.task.train)} "
            f"trained clients ({listed}, ...)"
        )
    experiment = dataclasses.replace(result.experiment, personal_evaluation=personal)
    setup = setups.prepare(experiment)
    process = building.process(setup, noise_seed=noise_keys.PUBLIC_SEED)
    state = result.ended.state
    common = state.global_model_weights
    weights, kept = common.trainable, common.non_trainable
    with contextlib.ExitStack() as stack:
        rows = None
        if process.client_states is not None:
            path = result.path / "client_states.sqlite"
            if not path.exists():
                raise UserError(
                    f"{path}, which holds what clients keep, is missing; run the "
                    "experiment again"
                )
            result.ended.check_folder()
            table = ClientStates(path, process.client_states)
            stack.callback(table.close)
            if table.last_round > result.ended.completed_rounds:
                raise UserError(
                    f"{result.path} is already at round {table.last_round}, but this "
                    f"result is of round {result.ended.completed_rounds}; run the "
                    "experiment again for the newest result"
                )
            rows = table.rows
        evaluator = building.personal_evaluator(setup)
        if evaluator is not None:
            made = evaluator.models_of(
                client_id, state, result.ended.completed_rounds, states=rows
            )
            weights, kept = made.own_weights, made.own_state
        elif rows is not None:
            model = setup.task.functional_model(experiment.training.seed)
            if model.local:
                kept = own_state(model, rows([client_id])[0], kept)
    return program.model_with(
        result.task,
        tff.learning.models.ModelWeights(_arrays(weights), _arrays(kept)),
    )


def _arrays(tensors: Any) -> list[np.ndarray]:
    return [np.asarray(tensor) for tensor in tf.nest.flatten(tensors)]
