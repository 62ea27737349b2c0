"""One run at a site that trains by the user's own class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfl_research.clients import given_work
from tfl_research.clients.local_loop import zero_sums
from tfl_research.data import CLIENT_SECRET, client_secrets
from tfl_research.data.arrays import structures
from tfl_research.errors import SettingError
from tfl_research.experiment import setup as setups
from tfl_research.experiment.at_sites.numpy_methods import NumPyClient, checked
from tfl_research.experiment.at_sites.site_run import RunAtSite
from tfl_research.experiment.running import building
from tfl_research.experiment.running.noise_keys import PUBLIC_SEED
from tfl_research.federation import evaluator as evaluations
from tfl_research.federation.wire.messages import Message, MessageError
from tfl_research.processes import FederatedProcess
from tfl_research.program.evaluation.client_sums import ClientSums

# Maps each sum of the objective to the metric of a class, a mean, that becomes the sum.
_MEANS = {"loss": "loss", "correct": "accuracy"}
_COUNTS = ("examples", "predictions")


class NumPyRun(RunAtSite):
    """Executes a site's part of one run with a class of the user.

    Args:
      *args: arguments of `RunAtSite`.
      client: an object of the class.
      **kwargs: arguments of `RunAtSite`.

    Raises:
      SettingError: the experiment needs clients with more than `fit` and `evaluate`.
    """

    def __init__(self, *args: Any, client: NumPyClient, **kwargs: Any):
        self._client = client
        super().__init__(*args, **kwargs)

    def _built(self, setup: setups.Setup) -> FederatedProcess:
        """Builds the experiment's process; the class's weights replace its training."""
        experiment = setup.experiment
        model = setup.task.functional_model(experiment.training.seed)
        self._shapes = [tuple(spec.shape) for spec in model.weight_specs]
        if setup.record_level is not None:
            raise SettingError(
                "record-level privacy needs noise inside of the local steps, but this "
                "site trains by its own class; give user-level privacy"
            )
        algorithm = experiment.chosen_algorithm.NAME
        if algorithm not in ("fed_avg", "fed_prox"):
            raise SettingError(
                f"--algorithm={algorithm}: a NumPyClient returns only weights; give "
                "fed_avg"
            )
        if model.state_specs:
            raise SettingError(
                "the task's model has statistics beside its weights (batch "
                "normalisation), which a NumPyClient cannot tell apart; use a model "
                "without such statistics"
            )
        parameters = self._client.get_parameters({})
        checked(parameters, self._shapes, "get_parameters")
        batch = {
            name: tf.zeros([1, 1, *spec.shape], spec.dtype)
            for name, spec in setup.task.train.specs.items()
            if not structures.is_text(spec.dtype)
        }
        sums = zero_sums(model, setup.task.build_objective(), batch)
        self._sum_specs = {
            name: tf.TensorSpec(value.shape, value.dtype)
            for name, value in sums.items()
        }
        unknown = [n for n in sums if n not in _MEANS and n not in _COUNTS]
        if unknown:
            raise SettingError(
                f"the task's metrics need {', '.join(unknown)}, which the means of a "
                "NumPyClient (loss, accuracy) do not give; use a task of classification"
            )
        work = given_work.GivenWork(tuple(model.weight_specs), self._sum_specs)
        return building.process(setup, noise_seed=PUBLIC_SEED, work=work)

    @staticmethod
    def _check_same(theirs: Mapping[str, str], ours: Mapping[str, str]) -> None:
        """Compares all parts except the clients' work, which this site replaces."""
        own = "client_computation"
        RunAtSite._check_same(
            {name: digest for name, digest in theirs.items() if name != own},
            {name: digest for name, digest in ours.items() if name != own},
        )

    def _report(
        self,
        number: int,
        client_id: str,
        context: Sequence[tf.Tensor],
        state_round: int,
    ) -> list[tf.Tensor]:
        weights = [np.asarray(tensor) for tensor in context[: len(self._shapes)]]
        if [weight.shape for weight in weights] != self._shapes:
            raise MessageError("the coordinator's message does not begin with weights")
        trained, examples, means = self._client.fit(weights, {"server_round": number})
        members = {
            given_work.weight_name(position): array[np.newaxis]
            for position, array in enumerate(checked(trained, self._shapes, "fit"))
        }
        members[given_work.EXAMPLES] = np.array([examples], np.float32)
        for name, value in self._sums_of(examples, means).items():
            members[given_work.sum_name(name)] = value[np.newaxis]
        cohort = self.setup.task.train.cohort(
            [client_id], seed=self._cohort_seed, round_number=number
        ).with_members(**members)
        if self._has_secrets:
            secrets = client_secrets(self._noise.seed, [client_id], number)
            cohort = cohort.with_members(**{CLIENT_SECRET: secrets})
        clients = self._process.clients
        return clients.report(context, clients.chunk(cohort, 0))

    def _sums_of(
        self, examples: int, means: Mapping[str, float]
    ) -> dict[str, np.ndarray]:
        """Returns the objective's sums; a missing mean gives zeros, so no value."""
        sums = {}
        for name, spec in self._sum_specs.items():
            needs = _MEANS.get(name, "loss" if name == "examples" else "accuracy")
            value = 0.0
            if needs in means:
                value = examples * (float(means[needs]) if name in _MEANS else 1.0)
            sums[name] = np.full(spec.shape, value, spec.dtype.as_numpy_dtype)
        return sums

    def evaluate(self, request: Message) -> Message:
        """Returns the sums of the class's evaluation of the model in the request."""
        if request.text("split") != evaluations.SPLIT:
            raise MessageError(
                f"this site has no split {request.text('split')[:40]!r}; expected "
                f"{evaluations.SPLIT}"
            )
        objective = self.setup.task.build_objective()
        self._site.policy.check_metrics(sorted(objective.metrics))
        weights, _ = evaluations.weights_of(request)
        if [weight.shape for weight in weights] != self._shapes:
            raise MessageError(
                "the weights do not have the shapes of this task's model"
            )
        loss, examples, means = self._client.evaluate(weights, {})
        sums = self._sums_of(examples, {**means, "loss": loss})
        return evaluations.answer(
            ClientSums(
                tuple(self._own.train.client_ids),
                np.array([examples], np.int64),
                {n: np.asarray([v], np.float64) for n, v in sums.items()},
                # These metrics need single predictions, which a class does not give.
                {name: np.array([np.nan]) for name in objective.of_examples},
                {},
            )
        )
