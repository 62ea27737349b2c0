"""Private evaluation and private choice of the best model, on training clients.

Both use the same score of a model: the mean over all training clients of the accuracy
on the client's own test examples. A client without test examples counts as 1/2. The
denominator n is the number of training clients, which is public.

The score is 1/2 plus the mean of one number in [-1/2, 1/2] for each client. If a client
is added or removed, or its data are replaced by no data, the sum of these numbers
changes by at most 1/2, and so the score by at most 1/(2n). If a client's data are
replaced by other data, the score changes by at most 1/n.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Optional

import numpy as np

from tfl_research.program.evaluation import secret_draws
from tfl_research.program.evaluation.client_metrics import Evaluation

METRIC = "accuracy"


def mean_accuracy(evaluation: Evaluation, clients: int) -> float:
    """Computes the score of a model, in [0, 1].

    Args:
      evaluation: the evaluation on the training clients' test examples.
      clients: n, the number of training clients.

    Raises:
      ValueError: the evaluation has no accuracy.
    """
    if METRIC not in evaluation.per_client:
        raise ValueError(f"the task's objective has no metric {METRIC!r}")
    values = np.asarray(evaluation.per_client[METRIC], np.float64)
    known = (np.asarray(evaluation.examples) > 0) & np.isfinite(values)
    centred = np.clip(values[known], 0.0, 1.0) - 0.5
    return 0.5 + math.fsum(centred) / clients


def sensitivity(clients: int, neighbouring_relation: str) -> float:
    """Returns the sensitivity of the score: 1/n for replaced clients, else 1/(2n)."""
    return (1.0 if neighbouring_relation == "replace_one" else 0.5) / clients


@dataclasses.dataclass(frozen=True)
class PrivateAccuracy:
    """The Gaussian mechanism on the score of a model.

    Attributes:
      noise_multiplier: standard deviation of the noise over the sensitivity.
      clients: number of training clients.
      neighbouring_relation: the neighbouring relation of the run.
      event: the event that the account charges for each evaluation.
      key: a secret key; the noise is a function of the key and the round.
    """

    noise_multiplier: float
    clients: int
    neighbouring_relation: str
    event: Any
    key: int = dataclasses.field(repr=False)

    def noised(self, round_number: int, evaluation: Evaluation) -> float:
        """Returns the noised score, in [0, 1]; charge the event before you show it."""
        spread = self.noise_multiplier * sensitivity(
            self.clients, self.neighbouring_relation
        )
        noise = secret_draws.normal(self.key, "private evaluation", round_number)
        score = mean_accuracy(evaluation, self.clients) + spread * noise
        return min(max(score, 0.0), 1.0)


class PrivateChoice:
    """The exponential mechanism over the evaluated rounds, one round after another.

    McSherry and Talwar 2007: round r is chosen with a probability proportional to
    exp(ε · score(r) / (2 · sensitivity)). Add Gumbel noise of scale 2 · sensitivity / ε
    to each round's score. The round with the largest sum has this distribution, so a
    running maximum suffices. The maximum is secret until the choice is charged.

    Attributes:
      event: the event that the account charges for the choice.
      best_round: the round of the maximum so far, or None.

    Args:
      epsilon: ε of the choice.
      clients: number of training clients.
      neighbouring_relation: the neighbouring relation of the run.
      event: the event that the account charges for the choice.
      key: a secret key; the noise is a function of the key and the round.
    """

    def __init__(
        self,
        epsilon: float,
        clients: int,
        neighbouring_relation: str,
        event: Any,
        key: int,
    ):
        self._scale = 2 * sensitivity(clients, neighbouring_relation) / epsilon
        self._clients = clients
        self._key = key
        self.event = event
        self.best_round: Optional[int] = None
        self._largest = -math.inf

    def update(self, round_number: int, evaluation: Evaluation) -> bool:
        """Adds a round; returns whether its noisy score is the largest so far."""
        noise = secret_draws.gumbel(self._key, "private choice", round_number)
        noisy = mean_accuracy(evaluation, self._clients) + self._scale * noise
        if noisy > self._largest:
            self._largest, self.best_round = noisy, round_number
            return True
        return False

    def export(self) -> dict[str, Any]:
        """Returns the state as JSON values, for the secret checkpoint."""
        return {"best_round": self.best_round, "largest": repr(self._largest)}

    def restore(self, exported: dict[str, Any]) -> None:
        """Restores the state that `export` returned."""
        self.best_round = exported["best_round"]
        self._largest = float(exported["largest"])
