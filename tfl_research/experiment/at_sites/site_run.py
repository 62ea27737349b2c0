"""One run at a site: its process, its clients' states and its noise."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Optional

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import runtime
from tfl_research.data import CLIENT_SECRET, Cohort, client_secrets
from tfl_research.errors import UserError
from tfl_research.experiment import setup as setups
from tfl_research.experiment.at_sites.state_rounds import state_rounds_of
from tfl_research.experiment.at_sites.sums_at_site import SumsAtSite
from tfl_research.experiment.description import Description
from tfl_research.experiment.federated import shared
from tfl_research.experiment.private.releases import released
from tfl_research.experiment.running import building
from tfl_research.experiment.running.noise_keys import PUBLIC_SEED
from tfl_research.federation import evaluator as evaluations
from tfl_research.federation.facts import AllFacts
from tfl_research.federation.secure_sums import SumTerms
from tfl_research.federation.site.policy import EXAMPLES, SitePolicy
from tfl_research.federation.site.site_file import SiteFile
from tfl_research.federation.site.site_ledger import SiteLedger
from tfl_research.federation.site.site_noise import SiteNoise, own_seed
from tfl_research.federation.wire.handler import Refused
from tfl_research.federation.wire.messages import Message, MessageError
from tfl_research.processes import FederatedProcess
from tfl_research.program import Evaluator
from tfl_research.runtime.rounds.separate import SeparateProcess
from tfl_research.storage import provenance, run_record
from tfl_research.storage.client_states import ClientStates
from tfl_research.tasks import Task

STATE, POSITION = "client_state", "position"


class RunAtSite:
    """Executes a site's part of one run.

    Args:
      experiment: the experiment, as the coordinator describes it.
      facts: the facts of all sites.
      own: the task with the site's examples.
      compiler: the compiler of the clients' work.
      digests: the digests of the coordinator's computation.
      folder: the folder of the run at the site.
      secret: the secret of the site, from which the site's own randomness is made.
      site: the content of site.toml.
      say: prints a line for the site's own people.

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
        site: SiteFile,
        say: Callable[[str], None],
    ):
        # No site uses a GPU, so that all sites round alike.
        runtime.prepare("none")
        source = shared.of_all_sites(own, facts, own)
        setup = setups.prepare(experiment, source=source)
        self._check_reported(setup, site.policy)
        process = self._built(setup)
        # Labels and tokens are checked now, because the model is known.
        own.fitting.check_everyone(own)
        self.setup = setup
        own_digests = {
            **runtime.computation_digests(process),
            shared.SOURCES: shared.source_digest(),
        }
        self._check_same(digests, own_digests)
        covered = {
            name: value
            for name, value in shared.settings(experiment).items()
            if name not in run_record.MAY_CHANGE
        }
        # The site's noise of a round depends on these, and on the round's model.
        covers = repr(
            (
                facts.sites[site.name].mark,
                compiler,
                sorted(covered.items()),
                sorted(own_digests.items()),
                sorted(provenance.package_versions().items()),
                sorted(provenance.numeric_environment().items()),
            )
        )
        self._process = SeparateProcess(process, compiler)
        self._own = own
        self._states: Optional[ClientStates] = None
        if process.client_states is not None:
            path = folder / "client_states.sqlite"
            self._states = ClientStates(path, process.client_states)
        self._kept = self._process.kept_positions(POSITION)
        self._site, self._say = site, say
        self._has_secrets = process.client_secrets
        ledger: Optional[SiteLedger] = None
        if setup.record_level is not None:
            ledger = SiteLedger(
                folder,
                site.folder,
                setup.record_level,
                own.train.client_ids,
                seed=own_seed(secret, folder.name),
                policy=site.policy,
                say=say,
            )
        self._sums = SumsAtSite(site, folder.name, self._process)
        self._noise = SiteNoise(
            folder,
            secret,
            draws=process.client_secrets or ledger is not None,
            covers=covers,
            ledger=ledger,
            forget=self._sums.forget_after,
        )
        self._repeatable = shared.repeatable_rounds(experiment)
        self._evaluator: Optional[Evaluator] = None
        self._evaluated_after: Mapping[str, int] = {}

    def _built(self, setup: setups.Setup) -> FederatedProcess:
        """Builds the process of the experiment."""
        return building.process(setup, noise_seed=PUBLIC_SEED)

    @staticmethod
    def _check_reported(setup: setups.Setup, policy: SitePolicy) -> None:
        """Checks the training metrics, which reports have in addition to the update."""
        if setup.record_level is not None and not released.reports_metrics(setup):
            return
        # Secure sums show the exact sums over all sites.
        summed = setup.experiment.secure_sums.secure_sums
        if not summed or policy.metrics is None:
            policy.check_metrics(sorted(setup.task.build_objective().metrics))

    @staticmethod
    def _check_same(theirs: Mapping[str, str], ours: Mapping[str, str]) -> None:
        other = sorted(n for n in {*theirs, *ours} if theirs.get(n) != ours.get(n))
        if other:
            raise Refused(
                "this site and the coordinator have different versions of "
                f"{', '.join(other).replace('_', ' ')}; install the same version of "
                "tfl_research, its packages and plugins"
            )

    def round(self, request: Message) -> Message:
        """Returns the clients' reports, or the site's keys under secure sums.

        Raises:
          Refused: the round was requested before with another model, so the same noise
            would be used twice.
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
        state_rounds = state_rounds_of(request, client_ids)
        terms: Optional[tuple[int, SumTerms]] = None
        if self.setup.experiment.secure_sums.secure_sums:
            terms = self._sums.terms(number, request)
        self._site.policy.check_round(number)
        # This charges the round, so nothing may refuse the request after this line.
        self._noise.take(request)
        tensors: dict[str, np.ndarray] = {}
        reports = []
        for place, client_id in enumerate(client_ids):
            before = min(state_rounds[client_id], number - 1)
            report = self._report(number, client_id, context, before)
            reports.append([np.asarray(value) for value in report])
            for position, value in enumerate(reports[-1]):
                if position not in self._kept:
                    tensors[f"{place}/{position}"] = value
        if terms is not None:
            return self._sums.begin(number, *terms, reports)
        return Message("round", {"clients": client_ids}, tensors)

    def sum_step(self, request: Message) -> Message:
        """Takes a further step of a secure sum.

        Raises:
          SecureSumError: the step does not fit, or would show a single vector.
        """
        return self._sums.step(request)

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
        if self._has_secrets:
            secrets = client_secrets(self._noise.seed, [client_id], number)
            cohort = cohort.with_members(**{CLIENT_SECRET: secrets})
        if self._states is not None:
            # Reports of later rounds did not count, or the rounds are repeated now.
            self._check_state(client_id, state_round)
            self._states.go_back(client_id, state_round, number - self._repeatable)
            cohort = self._states.attach(cohort)
        clients = self._process.clients
        report = clients.report(context, clients.chunk(cohort, 0))
        if self._states is not None:
            self._states.store(number, [client_id], [report[self._kept[0]]])
            self._states.sync()
        return report

    def _check_state(self, client_id: str, after: int) -> None:
        """Refuses a round that continues from a client's state that the site lacks."""
        if self._states is not None and not self._states.has(client_id, after):
            raise Refused(
                f"the run goes on from the state of client {client_id!r} after round "
                f"{after}, but this site does not have that state; restore the newest "
                "copy of the site's folder, or start a new run"
            )

    def _state_rows(self, client_ids: Sequence[str]) -> np.ndarray:
        """Returns the clients' states for the present evaluation."""
        if self._states is None:
            raise TypeError("clients keep no states")
        return self._states.rows(client_ids, after=self._evaluated_after)

    @property
    def _cohort_seed(self) -> int:
        if self._noise.ledger is not None:
            return self._noise.seed
        return self.setup.experiment.training.seed

    def evaluate(self, request: Message) -> Message:
        """Returns the clients' evaluation sums of the model in the request."""
        if request.text("split") != evaluations.SPLIT:
            raise MessageError(f"this site has no split {request.text('split')[:40]!r}")
        if self._evaluator is None:
            task = dataclasses.replace(
                self.setup.task, train=self._own.train, test=self._own.test
            )
            states = None if self._states is None else self._state_rows
            self._evaluator = Evaluator(task, states=states, separately=True)
        # A client's sums reveal its number of test examples.
        names = [*self._evaluator.metrics, EXAMPLES]
        self._site.policy.check_metrics(names)
        after = state_rounds_of(request, self._own.train.client_ids)
        for client_id, number in after.items():
            self._check_state(client_id, number)
        self._evaluated_after = after
        trainable, non_trainable = evaluations.weights_of(request)
        weights = tff.learning.models.ModelWeights(trainable, non_trainable)
        try:
            return evaluations.answer(self._evaluator.client_sums(weights))
        except UserError:
            raise  # It may quote data.
        except ValueError as error:
            raise MessageError(
                "the weights do not have the shapes of this run's model"
            ) from error

    def close(self) -> None:
        """Closes the files."""
        self._sums.end()
        if self._noise.ledger is not None:
            for line in self._noise.ledger.lines():
                self._say(line)
        self._noise.close()
        if self._states is not None:
            self._states.close()
