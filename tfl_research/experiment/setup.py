"""What an experiment becomes before TensorFlow is imported: task, cohorts, plan.

Every refusal that needs the data is raised here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from tfl_research.aggregators import SumFormats
from tfl_research.data import ClientData, SiteClients
from tfl_research.devices import PacedRounds
from tfl_research.experiment import (
    attacked,
    compatibility,
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
    released,
    user_level,
)
from tfl_research.federation.facts import AllFacts
from tfl_research.privacy import Population, RecordLevelPlan, UserLevelPlan
from tfl_research.sampling import Repeated, Sampler, Successive
from tfl_research.tasks import Task


@dataclasses.dataclass(frozen=True)
class Setup:
    """A checked experiment with its data read.

    Attributes:
      experiment: as described.
      source: the experiment's task as it was read.
      task: with the clients and local steps of the run: canaries, devices, poisoned
        examples and the server's own examples are in it.
      asked: whom a round asks, drawn by the seed.
      reporting: whom a round hears of, where some that are asked do not report.
      cohorts: the cohorts of the process' rounds. An algorithm that takes several
        exchanges has each cohort as often.
      plan: what is noised and charged, or None without privacy.
      client_weights: the weights of the weighted metrics, by client.
      malicious: ids of the malicious clients.
      population: the population that a shared ledger is about; None without a shared
        ledger.
      facts: what the sites of a federation tell of themselves, or None.
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
        """The plan of user-level privacy, if there is one."""
        return self.plan if isinstance(self.plan, UserLevelPlan) else None

    @property
    def record_level(self) -> Optional[RecordLevelPlan]:
        """The plan of record-level privacy, if there is one."""
        return self.plan if isinstance(self.plan, RecordLevelPlan) else None

    def sum_formats(self, *, secure: bool = True) -> Optional[SumFormats]:
        """The numbers of secure sums for the largest cohort; None for plain sums.

        Args:
          secure: whether the runtime executes secure sums.

        Raises:
          SettingError: cohorts that are too large for the bits.
        """
        return self.experiment.secure_sums.formats(
            max(1, self.asked.maximum_cohort_size), secure=secure
        )

    def hparams(self) -> dict[str, Any]:
        """The settings of the run, and values that follow from them, for its folder."""
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
            **attacked,
        }

    def _data_digest(self) -> dict[str, str]:
        """The digest of data that are in no package: no run is resumed on other data.

        The digest is an exact function of the data. A private run keeps its own where
        only the owner can read it (`private.fingerprints`).
        """
        if self.plan is not None:
            return {}
        digest = fingerprints.own_data_digest(self.experiment, self.source)
        return {} if digest is None else {"data_sha256": digest}


def prepare(experiment: Description, *, source: Optional[Task] = None) -> Setup:
    """Reads the data, makes the plan, and checks whether all parts fit together.

    Args:
      experiment: as described.
      source: the experiment's task where it was built already, as at a site.

    Raises:
      SettingError: see `Experiment.check`.
    """
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
    """The experiment's task, its data read.

    Raises:
      SettingError: data that are missing or malformed, options the task refuses.
    """
    task = experiment.task
    if isinstance(task, TaskChoice):
        return task.build(experiment.training.seed)
    if not isinstance(task, Task):
        raise TypeError(f"expected a task, got {task!r}")
    if task.card.public_data and task.has_foreign_data:
        # The card is about the data that the registry built.
        card = dataclasses.replace(task.card, public_data=False)
        return dataclasses.replace(task, card=card)
    return task


def _private(setup: Setup) -> Setup:
    """The setup with its plan, and under DP-SGD with steps drawn at random."""
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
    """The setup without the silos that are down, and with repeated cohorts."""
    experiment = setup.experiment
    if isinstance(setup.task.train, SiteClients):
        # The engine sees who answers.
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
    """The setup under attack, and with the server's own examples."""
    honest: ClientData = setup.task.train
    return server_root.with_root(attacked.with_attack(setup), honest)


def secret_cohorts(
    setup: Setup, run_seed: int, later: Sequence[tuple[int, int]] = ()
) -> Sampler:
    """The cohorts of a run, drawn by its secret seed where the guarantee needs that.

    Amplification by sampling assumes that nobody knows who took part. Devices are
    selected by the public seed all the same: their account claims no amplification.

    Args:
      setup: the setup of the run.
      run_seed: the run seed in the run's folder.
      later: (rounds before, secret seed) of later attempts, see `Attempts.seeds`.
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
