"""Makes clients' personal models, and calls that another thread may execute."""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Optional

import tensorflow as tf

from tfl_research import _tff_compat, autograph, models
from tfl_research.clients import PersonalModel
from tfl_research.clients.local_state import own_state
from tfl_research.data import ClientData
from tfl_research.program.evaluation.client_sums import StateRows
from tfl_research.tasks.task import Task

# (server weights, local steps, round number[, shared]) -> personal weights.
PersonalFunction = Callable[..., Any]


class ClientModels(NamedTuple):
    """The global and the personal model of a client, with non-trainable weights.

    Attributes:
      weights: the weights of the global model.
      state: non-trainable weights of the global model, from the server or from the
        client's own state.
      own_weights: the weights of the personal model.
      own_state: non-trainable weights of the personal model.
      train_examples: distinct examples that the personal model was trained on.
    """

    weights: Sequence[tf.Tensor]
    state: Sequence[Any]
    own_weights: Sequence[tf.Tensor]
    own_state: Sequence[Any]
    train_examples: int


class Sent(NamedTuple):
    """The server's message to every client."""

    weights: list[tf.Tensor]
    state: tuple[tf.Tensor, ...]
    shared: tuple[Any, ...]


def call_of(function: Any, *arguments: Any) -> Callable[[], Any]:
    """Makes a call of a traced function, which another thread may execute.

    The function is traced here: traces depend on the order of the arguments' shapes.
    """
    if tf.config.functions_run_eagerly():
        return functools.partial(function, *arguments)
    traced = function.get_concrete_function(*arguments)

    def call() -> Any:
        with _tff_compat.calls_at_a_time():
            return traced(*arguments)

    return call


class PersonalModels:
    """Makes the personal models of clients.

    Args:
      task: the task. Its training clients train on their own examples; other clients
        take no local steps.
      personal: computes a client's personal weights.
      model: the task's functional model.
      shared: (global weights, server state) -> the values that the server sends in
        addition to the model.
      seed: seed of the clients' local steps.
    """

    def __init__(
        self,
        task: Task,
        personal: PersonalFunction,
        model: models.FunctionalModel,
        shared: Callable[[Any, Any], Any],
        seed: int,
    ):
        self._train = task.train
        self._train_ids = frozenset(task.train.client_ids)
        self._model = model
        self._shared = shared
        self._seed = seed
        self._make = autograph.function(personal, reduce_retracing=True)

    def sent(self, state: Any) -> Sent:
        """Makes the server's message to every client.

        Args:
          state: the process state, a `LearningAlgorithmState`.
        """
        weights = [tf.constant(w) for w in state.global_model_weights.trainable]
        common_state = tuple(
            tf.constant(w) for w in state.global_model_weights.non_trainable
        )
        sent = self._shared(tuple(weights), state.finalizer)
        shared = () if sent is None else (tf.nest.map_structure(tf.constant, sent),)
        return Sent(weights, common_state, shared)

    def making(
        self,
        client_id: str,
        sent: Sent,
        round_number: int,
        states: Optional[StateRows],
    ) -> Callable[[], ClientModels]:
        """Makes a function that makes a client's models; any thread may call it.

        Args:
          client_id: the client.
          sent: the result of `sent`.
          round_number: number of completed rounds.
          states: the clients' states; None if clients keep no state.
        """
        steps = self._steps(client_id, round_number + 1, states, sent.state)
        kept: Sequence[Any] = sent.state
        if self._model.local and states is not None:
            kept = own_state(self._model, states([client_id])[0], sent.state)
        count = int(steps["num_examples"])
        call = call_of(
            self._make, sent.weights, steps, tf.constant(round_number), *sent.shared
        )

        def made() -> ClientModels:
            own = call()
            own_weights, personal_state = own, kept
            if isinstance(own, PersonalModel):
                own_weights, personal_state = own
            return ClientModels(sent.weights, kept, own_weights, personal_state, count)

        return made

    def _steps(
        self,
        client_id: str,
        round_number: int,
        states: Optional[StateRows],
        model_state: Sequence[tf.Tensor],
    ) -> Mapping[str, Any]:
        """Returns the client's local steps; none for a client outside of training."""
        train: ClientData = self._train
        if client_id in self._train_ids:
            cohort = train.cohort(
                [client_id], seed=self._seed, round_number=round_number
            )
            steps = cohort.batches(0)
        else:
            nobody = train.cohort([], seed=self._seed, round_number=round_number)
            stacked = nobody.stacked(num_clients=1, num_steps=0)
            steps = collections.OrderedDict((n, v[0]) for n, v in stacked.items())
        if states is not None:
            steps["client_state"] = states([client_id])[0]
        tensors: dict[str, Any] = {n: tf.constant(v) for n, v in steps.items()}
        if model_state:
            tensors["model_state"] = tuple(model_state)
        return tensors
