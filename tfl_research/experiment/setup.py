"""Prepares an experiment before TensorFlow is imported: task, cohorts and plan.

This module raises all errors that need the data.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from tfl_research.aggregators import SumFormats
from tfl_research.data import ClientData, SiteClients
from tfl_research.devices import PacedRounds
from tfl_research.errors import naming_own_parts
from tfl_research.experiment import (
    attacked,
    compatibility,
    flattening,
    server_root,
    simulated_devices,
)
from tfl_research.experiment.configs import (
    RecordLevelPrivacy,
    TaskChoice,
    UserLevelPrivacy,
)
from tfl_research.experiment.description import Description
from tfl_research.experiment.federated import coordinator
from tfl_research.experiment.private import (
    audited,
    fingerprints,
    record_level,
    user_level,
)
from tfl_research.experiment.private.releases import released
from tfl_research.federation.facts import AllFacts
from tfl_research.privacy import Population, RecordLevelPlan, UserLevelPlan
from tfl_research.sampling import Repeated, Sampler, Successive
from tfl_research.tasks import Task


@dataclasses.dataclass(frozen=True)
class Setup:
    """A checked experiment with its data read.

    Attributes:
      experiment: the experiment, as the user described it.
      source: the experiment's task as it was read.
      task: the task with the clients and local steps of the run, including canaries,
        devices, poisoned examples and the server's own examples.
      asked: the sampler of the clients that a round asks, drawn by the seed.
      reporting: the sampler of the clients that report, if some clients that are asked
        do not report.
      cohorts: the sampler of the process' rounds. If an algorithm has several
        exchanges, each cohort is repeated for each exchange.
      plan: the privacy plan; None without privacy.
      client_weights: the weights of the weighted metrics, by client.
      malicious: ids of the malicious clients.
      population: the population that a shared ledger is about; None without a shared
        ledger.
      facts: the facts that the sites of a federation tell about themselves, or None.
    """

    experiment: Description
    source: Task
    task: Task
    asked: Sampler
    reporting: Sampler
    cohorts: Sampler
    plan: Optional[Any] = None
    client_weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    malicious: tuple[str, ...] = ()
    population: Optional[Population] = None
    facts: Optional[AllFacts] = None

    @property
    def user_level(self) -> Optional[UserLevelPlan]:
        """The plan of user-level privacy, or None."""
        return self.plan if isinstance(self.plan, UserLevelPlan) else None

    @property
    def record_level(self) -> Optional[RecordLevelPlan]:
        """The plan of record-level privacy, or None."""
        return self.plan if isinstance(self.plan, RecordLevelPlan) else None

    def sum_formats(self, *, secure: bool = True) -> Optional[SumFormats]:
        """Returns the formats of secure sums for the largest cohort; None without.

        Args:
          secure: whether the runtime executes secure sums.

        Raises:
          SettingError: the cohorts are too large for the bits.
        """
        return self.experiment.secure_sums.formats(
            max(1, self.asked.maximum_cohort_size), secure=secure
        )

    def hparams(self) -> dict[str, Any]:
        """Returns the run's settings, and values that follow, for the run's folder."""
        clients = self.task.train
        attacked = {}
        if not self.experiment.attack.is_none:
            attacked["malicious_clients"] = list(self.malicious)
        return {
            **self.experiment.flat(),
            "batching": dataclasses.asdict(clients.batching),
            "expected_cohort_size": self.reporting.expected_cohort_size,
            "num_train_clients": len(self.asked.client_ids),
            **self._data_digest(),
            **self._cohorts_digest(),
            **attacked,
        }

    def _cohorts_digest(self) -> dict[str, str]:
        """Returns a digest of the first cohorts of a sampler of a user's own.

        The seed is public, so that the digest says nothing about a run's own cohorts.
        """
        return self.experiment.resolved_cohorts.digest(
            self.asked.client_ids, self.experiment.training.seed
        )

    def _data_digest(self) -> dict[str, str]:
        """Returns the digest of a user's data, so that no run resumes on other data.

        The digest is an exact function of the data. A private run keeps its digest
        where only the owner can read it (`private.fingerprints`).
        """
        if self.plan is not None:
            return {}
        digest = fingerprints.own_data_digest(self.experiment, self.source)
        return {} if digest is None else {"data_sha256": digest}


def prepare(experiment: Description, *, source: Optional[Task] = None) -> Setup:
    """Reads the data, makes the plan, and checks whether all parts fit together.

    Args:
      experiment: the experiment.
      source: the experiment's task, if it was built already, as at a site.

    Raises:
      SettingError: two settings do not fit together; see `Experiment.check`.
    """
    with naming_own_parts(flattening.own_parts(experiment)):
        return _prepared(experiment, source)


def _prepared(experiment: Description, source: Optional[Task]) -> Setup:
    compatibility.check(experiment)
    seed = experiment.training.seed
    facts: Optional[AllFacts] = None
    if source is None and experiment.runtime.runtime == "federation":
        source, facts = coordinator.described(experiment)
    if source is None:
        source = built_task(experiment)
    task = experiment.batches.applied_to(source)
    task = experiment.baseline.applied_to(task)
    if experiment.audit is not None:
        task = audited.with_canaries(experiment.audit, task, seed)
    devices = simulated_devices.Registered.of(experiment, task)
    if devices is not None:
        task = devices.task
    weights = experiment.training.client_weights(task.test.client_ids)
    asked = experiment.resolved_cohorts.build(task.train.client_ids, seed)
    if devices is not None:
        asked = devices.rounds(experiment, asked)
    found = Setup(
        *(experiment, source, task, asked, asked, asked),
        client_weights=weights,
        facts=facts,
    )
    found = _private(found)
    found = _reporting(found)
    compatibility.check_setup(found)
    released.check(found)
    return _attacked(found)


def built_task(experiment: Description) -> Task:
    """Reads the data and builds the experiment's task.

    Raises:
      SettingError: data are missing or malformed, or the task refuses an option.
    """
    task = experiment.task
    if isinstance(task, TaskChoice):
        return task.build(experiment.training.seed)
    if not isinstance(task, Task):
        raise TypeError(f"expected a task, got {task!r}")
    if task.card.public_data and task.has_foreign_data:
        # The card describes the registered task's data, which the user replaced.
        card = dataclasses.replace(task.card, public_data=False)
        return dataclasses.replace(task, card=card)
    return task


def _private(setup: Setup) -> Setup:
    """Adds the plan to a setup, and under DP-SGD steps that are drawn at random."""
    privacy = setup.experiment.privacy
    if isinstance(privacy, UserLevelPrivacy):
        plan, population = user_level.plan(setup)
        return dataclasses.replace(setup, plan=plan, population=population)
    if isinstance(privacy, RecordLevelPrivacy):
        task = record_level.with_poisson_steps(setup)
        setup = dataclasses.replace(setup, task=task)
        return dataclasses.replace(setup, plan=record_level.plan(setup))
    return setup


def _reporting(setup: Setup) -> Setup:
    """Makes a setup leave out silos that are down, and repeat cohorts."""
    experiment = setup.experiment
    if isinstance(setup.task.train, SiteClients):
        # In a federation, the engine sees which sites answer.
        reporting: Sampler = setup.asked
    else:
        reporting = experiment.silos.sampler(setup.asked, experiment.training.seed)
    exchanges = experiment.chosen_algorithm.EXCHANGES
    if exchanges == 1:
        return dataclasses.replace(setup, reporting=reporting, cohorts=reporting)
    train: ClientData = setup.task.train
    task = dataclasses.replace(setup.task, train=train.with_exchanges(exchanges))
    cohorts = Repeated(setup.asked, exchanges)
    return dataclasses.replace(setup, task=task, reporting=reporting, cohorts=cohorts)


def _attacked(setup: Setup) -> Setup:
    """Puts a setup under attack, and adds the server's own examples."""
    honest: ClientData = setup.task.train
    return server_root.with_root(attacked.with_attack(setup), honest)


def secret_cohorts(
    setup: Setup, run_seed: int, later: Sequence[tuple[int, int]] = ()
) -> Sampler:
    """Returns a run's cohorts, drawn by the secret seed if the guarantee needs this.

    Amplification by sampling assumes that nobody knows who took part. Devices are
    always selected by the public seed, since their event has no amplification.

    Args:
      setup: the setup of the run.
      run_seed: the run seed in the run's folder.
      later: pairs (number of rounds before, secret seed) of later attempts, see
        `Attempts.seeds`.
    """
    experiment = setup.experiment
    if setup.user_level is None or isinstance(setup.asked, PacedRounds):
        return setup.cohorts
    secret = user_level.secret_cohorts(setup, run_seed)
    if later:
        parts = [(after, user_level.secret_cohorts(setup, s)) for after, s in later]
        secret = Successive(((0, secret), *parts))
    if experiment.audit is not None:
        return audited.with_coins(experiment.audit, secret, setup)
    return secret
