"""Computes the fingerprint of a run: everything on which a noised sum depends."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Optional

from tfl_research import tasks
from tfl_research.aggregators import AGGREGATORS, AggregatorSettings
from tfl_research.algorithms import ALGORITHMS, AlgorithmSettings
from tfl_research.data import SiteClients
from tfl_research.errors import SettingError
from tfl_research.experiment.configs import Runtime, TaskChoice
from tfl_research.experiment.description import Description
from tfl_research.privacy import MECHANISMS
from tfl_research.sampling import OWN_SAMPLERS
from tfl_research.settings import declared
from tfl_research.storage import provenance, run_record
from tfl_research.storage.fingerprint import Fingerprint, digest
from tfl_research.tasks import Task
from tfl_research.tasks.built_in import downloads

if TYPE_CHECKING:
    from tfl_research.experiment.setup import Setup

# The digest of the data is left out of the settings, since it is exact.
_NOT_SETTINGS = frozenset({"data_sha256"})


def of_run(setup: Setup, computation: Mapping[str, str], data: str) -> Fingerprint:
    """Computes the fingerprint of a start; without privacy, only of the computation.

    Args:
      setup: the setup of the run.
      computation: the result of `runtime.computation_digests`, for a process that was
        built with a public seed.
      data: the result of `data_digest`, in a private run.
    """
    if setup.plan is None:
        return Fingerprint(dict(computation))
    values = run_record.plain_hparams(setup.hparams())
    left_out = run_record.MAY_CHANGE | _NOT_SETTINGS
    values = {name: value for name, value in values.items() if name not in left_out}
    runtime = {field.name for field in declared(Runtime)}
    execution = {n: v for n, v in values.items() if n in runtime}
    return Fingerprint(
        dict(computation),
        data=data,
        plan=digest(run_record.plain("plan", setup.plan.record())),
        settings=digest({n: v for n, v in values.items() if n not in runtime}),
        execution=digest({**execution, **provenance.numeric_environment()}),
        packages=provenance.package_versions(),
        sources=provenance.source_digests(_modules(setup)),
    )


def data_digest(setup: Setup) -> str:
    """Computes the SHA-256 of the data of a private run, for any task.

    Raises:
      SettingError: the data have no digest.
    """
    at_sites = _digest_of_sites(setup.source)
    if at_sites is not None:
        return at_sites
    known = _known_digest(setup)
    return content_digest(setup.source) if known is None else known


def _digest_of_sites(task: Task) -> Optional[str]:
    """Computes a digest of data at sites from the sites' keyed digests."""
    if not isinstance(task.train, SiteClients):
        return None
    return hashlib.sha256(task.train.mark.encode()).hexdigest()


def check_examples(setup: Setup) -> None:
    """Checks all clients of a private run before its first round.

    If a run stopped at the first round of a client with bad data, it would reveal who
    took part in this round. The data of packages and the files of the task `csv` have
    digests of their own, and are checked when they are read.

    Raises:
      UserError: the model or the loss does not take a label or token.
    """
    if isinstance(setup.source.train, SiteClients):
        return  # The sites do.
    if _known_digest(setup) is None:
        setup.task.functional_model(setup.experiment.training.seed)
        setup.task.fitting.check_everyone(setup.task)


def _known_digest(setup: Setup) -> Optional[str]:
    """Returns the digest of data that need not be read; None for other data."""
    task = setup.source
    choice = _choice(setup.experiment)
    if choice is None:
        return None
    files = choice.files_digest()
    if files is not None:
        return files
    options = task.recipe.options if task.recipe is not None else choice.options()
    return downloads.digest(str(choice.task), options)


def own_data_digest(experiment: Description, task: Task) -> Optional[str]:
    """Computes the SHA-256 of a user's data; None for the toolkit's own tasks.

    Args:
      experiment: the experiment.
      task: the task of the experiment, as it was built.

    Raises:
      SettingError: the data have no digest.
    """
    at_sites = _digest_of_sites(task)
    if at_sites is not None:
        return at_sites
    choice = _choice(experiment)
    if choice is not None:
        files = choice.files_digest()
        if files is not None and task.encoding:
            return hashlib.sha256(f"{files} {task.encoding}".encode()).hexdigest()
        if files is not None or tasks.origin(str(choice.task)) is None:
            return files
    return content_digest(task)


def _choice(experiment: Description) -> Optional[TaskChoice]:
    """Returns the choice of the registered task of the experiment, or None."""
    task = experiment.task
    if isinstance(task, TaskChoice):
        return task
    if isinstance(task, Task) and task.recipe is not None and task.has_data_of_recipe:
        return TaskChoice.of(task.recipe.name, task.recipe.options)
    return None


def content_digest(task: Task) -> str:
    """Computes the SHA-256 of a task's clients and arrays (`tasks.content_digest`).

    Raises:
      SettingError: an array holds Python objects.
    """
    try:
        return tasks.content_digest(task)
    except ValueError as error:
        raise SettingError(f"--task={task.name}: {error}") from error


def _modules(setup: Setup) -> set[str]:
    """Returns the modules that registered parts of the run."""
    experiment, found = setup.experiment, set[Optional[str]]()
    if isinstance(experiment.algorithm, AlgorithmSettings):
        found.add(ALGORITHMS.origin(experiment.algorithm.NAME))
    if isinstance(experiment.aggregator, AggregatorSettings):
        found.add(AGGREGATORS.origin(experiment.aggregator.NAME))
    if setup.user_level is not None:
        found.add(MECHANISMS.origin(setup.user_level.mechanism.NAME))
        found.add(type(setup.user_level.event).__module__)
    if experiment.cohorts.own is not None:
        found.add(OWN_SAMPLERS.origin(experiment.cohorts.own.NAME))
    choice = _choice(experiment)
    if choice is not None:
        found.add(tasks.origin(str(choice.task)))
    return {name for name in found if name is not None}
