"""One run at a site: its process, its clients' states and its noise."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import runtime
from tfl_research.data import Cohort
from tfl_research.experiment import building, setup as setups
from tfl_research.experiment.description import Description
from tfl_research.experiment.federated import shared
from tfl_research.experiment.noise_keys import PUBLIC_SEED
from tfl_research.federation import evaluator as evaluations
from tfl_research.federation.facts import AllFacts
from tfl_research.federation.handler import Refused
from tfl_research.federation.kept_rounds import KeptRounds
from tfl_research.federation.messages import Message, MessageError
from tfl_research.program import Evaluator
from tfl_research.runtime.separate import SeparateProcess
from tfl_research.storage.client_states import ClientStates
from tfl_research.tasks import Task

STATE, POSITION = "client_state", "position"


class RunAtSite:
    """Does a site's part of one run.

    Args:
      experiment: as the coordinator describes it.
      facts: of all sites.
      own: the task with the site's examples.
      compiler: of the clients' work.
      digests: of the coordinator's computation.
      folder: of the run at the site.
      secret: of the site; its own randomness is a function of it.

    Raises:
      Refused: the site builds another computation than the coordinator.
    """

    def __init__(
        self,
        experiment: Description,
        facts: AllFacts,
        own: Task,
        *,
        compiler: str,
        digests: Mapping[str, str],
        folder: pathlib.Path,
        secret: bytes,
    ):
        own.fitting.check_everyone(own)
        source = shared.of_all_sites(own, facts, own)
        setup = setups.prepare(experiment, source=source)
        process = building.process(setup, noise_seed=PUBLIC_SEED)
        self.setup = setup
        self._check_same(digests, runtime.computation_digests(process))
        self._process = SeparateProcess(process, compiler)
        self._own = own
        self._states: Optional[ClientStates] = None
        if process.client_states is not None:
            path = folder / "client_states.sqlite"
            self._states = ClientStates(path, process.client_states)
        self._kept = self._process.kept_positions(POSITION)
        self._is_record_level = shared.is_record_level(experiment)
        self._rounds = KeptRounds(folder / "rounds.sqlite")
        self._seed = own_seed(secret, folder.name)
        self._evaluator: Optional[Evaluator] = None

    @staticmethod
    def _check_same(theirs: Mapping[str, str], ours: Mapping[str, str]) -> None:
        other = sorted(n for n in {*theirs, *ours} if theirs.get(n) != ours.get(n))
        if other:
            raise Refused(
                f"the {', '.join(other).replace('_', ' ')} of this site and of the "
                "coordinator differ; install the same version of tfl_research, its "
                "packages and plugins"
            )

    def round(self, request: Message) -> Message:
        """What the site's clients report in a round.

        Raises:
          Refused: the round was asked for before with another model, and the site's
            noise would be the same.
          MessageError: the request does not fit the process.
          UserError: a client's computation fails.
        """
        number, client_ids = request.integer("round"), request.texts("clients")
        own = set(self._own.train.client_ids)
        for client_id in client_ids:
            if client_id not in own:
                raise MessageError(f"client {client_id!r} is not at this site")
        context = [
            tf.constant(request.tensor(f"context/{n}", dtype=dtype, shape=shape))
            for n, (dtype, shape) in enumerate(self._process.context_layout)
        ]
        if self._is_record_level:
            self._rounds.take(number, _digest(request))
        state_rounds = request.mapping("state_rounds")
        tensors: dict[str, np.ndarray] = {}
        for place, client_id in enumerate(client_ids):
            before = min(int(state_rounds.get(client_id, 0)), number - 1)
            report = self._report(number, client_id, context, before)
            for position, value in enumerate(report):
                if position not in self._kept:
                    tensors[f"{place}/{position}"] = np.asarray(value)
        return Message("round", {"clients": client_ids}, tensors)

    def _report(
        self,
        number: int,
        client_id: str,
        context: Sequence[tf.Tensor],
        state_round: int,
    ) -> list[tf.Tensor]:
        cohort: Cohort = self.setup.task.train.cohort(
            [client_id], seed=self._cohort_seed, round_number=number
        )
        if self._states is not None:
            # Reports of later rounds did not count, or are repeated now.
            self._states.keep_only(client_id, state_round)
            cohort = self._states.attach(cohort)
        clients = self._process.clients
        report = clients.report(context, clients.chunk(cohort, 0))
        if self._states is not None:
            [position] = self._kept
            self._states.store(number, [client_id], [report[position]])
            self._states.sync()
        return report

    @property
    def _cohort_seed(self) -> int:
        if self._is_record_level:
            return self._seed
        return self.setup.experiment.training.seed

    def evaluate(self, request: Message) -> Message:
        """The sums of the site's clients, of the model in the request."""
        if request.text("split") != evaluations.SPLIT:
            raise MessageError(f"there is no split {request.text('split')[:40]!r} here")
        if self._evaluator is None:
            task = dataclasses.replace(
                self.setup.task, train=self._own.train, test=self._own.test
            )
            states = None if self._states is None else self._states.rows
            self._evaluator = Evaluator(task, states=states, separately=True)
        trainable, non_trainable = evaluations.weights_of(request)
        weights = tff.learning.models.ModelWeights(trainable, non_trainable)
        try:
            return evaluations.answer(self._evaluator.client_sums(weights))
        except ValueError as error:
            raise MessageError(str(error)) from error

    def close(self) -> None:
        """Closes the files."""
        self._rounds.close()
        if self._states is not None:
            self._states.close()


def own_seed(secret: bytes, run: str) -> int:
    """The seed of a site's own randomness in a run, which only the site knows."""
    message = f"local steps and noise of the run {run}".encode()
    return int.from_bytes(hmac.new(secret, message, hashlib.sha256).digest(), "big")


def _digest(request: Message) -> str:
    """SHA-256 of what a round's result depends on."""
    digest = hashlib.sha256(repr(request.texts("clients")).encode())
    for name in sorted(request.tensors):
        array: Any = request.tensors[name]
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
