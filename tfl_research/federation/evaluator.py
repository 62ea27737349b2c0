"""Evaluates models at the sites; only sums by client come to the coordinator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfl_research.data import ClientData
from tfl_research.errors import EvaluationUnavailable
from tfl_research.federation.sites import Sites
from tfl_research.federation.wire.messages import Message, MessageError
from tfl_research.program.evaluation.client_metrics import Evaluation
from tfl_research.program.evaluation.client_sums import ClientSums
from tfl_research.program.evaluation.evaluator import Evaluator
from tfl_research.tasks.metrics import Metric
from tfl_research.tasks.task import Task

SPLIT = "eval"


class FederatedEvaluator:
    """Evaluates models on the clients' test splits, at their sites.

    A site sends, for each of its clients, the number of test examples, the sums from
    which metrics are computed, and metrics that need all examples of a client, such as
    the AUC. Predictions and labels stay at the site. So the column of the AUC over the
    examples of all clients is missing.

    Args:
      task: the coordinator's task, which has no rows.
      sites: the sites of the run.
      site_of: the site of each client.
      client_weights: see `program.Evaluator`.
      say: prints a line for the user.
      state_rounds: for each client, the last round whose state counts. A site may have
        states of later rounds, if its reports came too late.
    """

    def __init__(
        self,
        task: Task,
        sites: Sites,
        site_of: Mapping[str, str],
        client_weights: Mapping[str, float],
        say: Callable[[str], None],
        state_rounds: Callable[[Sequence[str]], Mapping[str, int]],
    ):
        self._task = task
        self._sites = sites
        self._site_of = site_of
        self._say = say
        self._state_rounds = state_rounds
        self._local = Evaluator(task, client_weights=client_weights)
        left_out = sorted(self._local.of_examples)
        if left_out:
            self._say(
                f"{', '.join(left_out)} over all clients' examples cannot be computed, "
                "because predictions stay at the sites; clients.csv has the values of "
                "each client"
            )

    @property
    def splits(self) -> Sequence[str]:
        """The test splits of the training clients."""
        return [SPLIT]

    @property
    def metrics(self) -> Mapping[str, Metric]:
        """The metrics over all clients' examples, by name."""
        return {
            name: metric
            for name, metric in self._local.metrics.items()
            if name not in self._local.of_examples
        }

    def evaluate(self, weights: Any, split: str = SPLIT) -> Evaluation:
        """Evaluates the model at every site, and adds the sites' sums.

        Args:
          weights: the model's weights.
          split: one of `splits`.

        Raises:
          ValueError: the split is not one of `splits`.
          EvaluationUnavailable: a site refuses, does not answer, or its answer does not
            fit.
        """
        if split != SPLIT:
            raise ValueError(f"split {split!r} is not one of {list(self.splits)}")
        clients: ClientData = self._task.train
        tensors = {
            f"{kind}/{n}": np.asarray(value)
            for kind, values in (
                ("trainable", weights.trainable),
                ("non_trainable", weights.non_trainable),
            )
            for n, value in enumerate(tf.nest.flatten(values))
        }
        header = {"round": 0, "completed": 0, "split": split}
        rounds: dict[str, dict[str, int]] = {}
        for client_id, number in self._state_rounds(clients.client_ids).items():
            rounds.setdefault(self._site_of[client_id], {})[client_id] = number
        requests = {
            site: Message("evaluate", {**header, "state_rounds": of_site}, tensors)
            for site, of_site in rounds.items()
        }
        parts = {
            site: _sums(site, answered, list(rounds[site]))
            for site, answered in self._sites.evaluations(requests)
        }
        _check_alike(parts)
        joined = _joined(list(parts.values()), clients.client_ids)
        return self._local.evaluation(split, joined)


def answer(found: ClientSums) -> Message:
    """A site's message with the sums of its clients."""
    tensors: dict[str, np.ndarray] = {"counts": np.asarray(found.counts, np.int64)}
    tensors.update((f"sums/{name}", array) for name, array in found.sums.items())
    tensors.update((f"each/{name}", a) for name, a in found.of_examples.items())
    return Message("evaluate", {"clients": list(found.client_ids)}, tensors)


def weights_of(request: Message) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The trainable and the non-trainable weights of a request."""

    def of(kind: str) -> list[np.ndarray]:
        count = sum(name.startswith(f"{kind}/") for name in request.tensors)
        return [request.tensor(f"{kind}/{n}") for n in range(count)]

    return of("trainable"), of("non_trainable")


def _sums(site: str, answered: Message, own: Sequence[str]) -> ClientSums:
    """Reads a site's answer, which must have the site's own clients and no others.

    Raises:
      EvaluationUnavailable: the answer does not fit; the message names the site.
    """
    try:
        client_ids = tuple(answered.texts("clients"))
        if sorted(client_ids) != sorted(own):
            raise MessageError(
                f"it answers for the clients {_some(client_ids)}, but has {_some(own)}"
            )
        parts: dict[str, dict[str, np.ndarray]] = {"sums": {}, "each": {}}
        for name in answered.tensors:
            kind, _, rest = name.partition("/")
            if kind in parts:
                array = answered.tensor(name, dtype=np.float64)
                if array.shape[:1] != (len(own),):
                    raise MessageError(
                        f"tensor {name!r} has the shape {list(array.shape)}, expected "
                        f"a row for each of {len(own)} clients"
                    )
                parts[kind][rest] = array
        counts = answered.tensor("counts", dtype=np.int64, shape=[len(own)])
        if np.any(counts < 0):
            raise MessageError("a client has a negative number of test examples")
    except MessageError as error:
        raise EvaluationUnavailable(
            f"site {site}: its evaluation does not fit: {error}"
        ) from error
    return ClientSums(client_ids, counts, parts["sums"], parts["each"], {})


def _some(client_ids: Sequence[str]) -> str:
    return ", ".join(map(repr, client_ids[:5])) + ", ..." * (len(client_ids) > 5)


def _check_alike(parts: Mapping[str, ClientSums]) -> None:
    """Refuses sums of different forms, which cannot be added.

    Raises:
      EvaluationUnavailable: two sites differ; the message names them.
    """
    forms = {site: _form(part) for site, part in parts.items()}
    first = next(iter(forms))
    for site, form in forms.items():
        if form != forms[first]:
            raise EvaluationUnavailable(
                f"the sites {first} and {site} send sums of different names or shapes; "
                "install the same version at all sites"
            )


def _form(part: ClientSums) -> dict[str, tuple[int, ...]]:
    """The shape of a client's part of each sum."""
    named = [*part.sums.items(), *part.of_examples.items()]
    return {name: array.shape[1:] for name, array in named}


def _joined(parts: Sequence[ClientSums], client_ids: Sequence[str]) -> ClientSums:
    """The clients of all sites, in the coordinator's order."""
    place = {
        client_id: (part, row)
        for part in parts
        for row, client_id in enumerate(part.client_ids)
    }

    def column(get: Callable[[ClientSums], np.ndarray]) -> np.ndarray:
        return np.stack([get(place[i][0])[place[i][1]] for i in client_ids])

    def sums(name: str) -> np.ndarray:
        return column(lambda part: part.sums[name])

    def each(name: str) -> np.ndarray:
        return column(lambda part: part.of_examples[name])

    return ClientSums(
        tuple(client_ids),
        column(lambda part: part.counts),
        {name: sums(name) for name in parts[0].sums},
        {name: each(name) for name in parts[0].of_examples},
        {},
    )
