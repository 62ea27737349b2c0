"""Values that the coordinator and the sites of a run must make in the same way."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable
from typing import Any, Optional

from tfl_research import tasks
from tfl_research.data import SiteClients
from tfl_research.errors import SettingError
from tfl_research.experiment.configs import (
    TaskChoice,
    UserLevelPrivacy,
)
from tfl_research.experiment.description import Description
from tfl_research.federation.facts import AllFacts
from tfl_research.privacy.mechanisms.catalogue.specification import SECURE_SUM
from tfl_research.storage import provenance, run_record
from tfl_research.tasks import Task

# The name of `source_digest` among the digests of a run, and in the request "hello".
SOURCES = "source_files"
# Settings of this machine, or of work that only the coordinator does.
OWN = frozenset(
    {
        "accelerator",
        "client_execution",
        "chunk_clients",
        "export",
        "federation",
        "ledger",
        "data_dir",
        "open_worker_port",
        "plugins",
        "progress_bar",
        "record_ledgers",
        "report",
        "run_seed",
        "runtime",
        "tensorboard",
        "worker_cores",
        "worker_data",
        "worker_timeout",
        "workers",
    }
)
# Options of tasks that name a file or a folder of this machine.
_PATH_OPTION = re.compile(r"(.*_)?(dir|folder|path|file)")


def path_options(task_option: Iterable[object]) -> list[str]:
    """Returns the names of the task options that name a file or a folder.

    Args:
      task_option: texts "NAME=VALUE"; anyone may have written them.
    """
    names = [str(text).partition("=")[0] for text in task_option]
    return [name for name in names if _PATH_OPTION.fullmatch(name)]


def settings(experiment: Description) -> dict[str, Any]:
    """Returns the settings for the sites: JSON values, without paths or secrets."""
    flat = {
        name: value
        for name, value in experiment.flat().items()
        if name not in OWN and value is not None and value != ()
    }
    texts = tuple(t for t in flat.pop("task_option", ()) if not path_options([t]))
    if texts:
        flat["task_option"] = texts
    return run_record.plain_hparams(flat)


def source_digest() -> str:
    """Computes SHA-256 of this package's source files, as they are on disk now.

    Python encodes rows, makes batches and charges noise. The digest of a computation
    does not depend on this code.
    """
    files = sorted(provenance.source_digests().items())
    return hashlib.sha256(repr(files).encode()).hexdigest()


def repeatable_rounds(experiment: Description) -> int:
    """Returns how many of the last rounds a run may repeat after it is resumed."""
    training = experiment.training
    return training.checkpoint_every * (training.keep_checkpoints + 1)


def blueprint(experiment: Description) -> Task:
    """Builds the experiment's task at the coordinator, which uses no rows.

    Raises:
      SettingError: the task is not registered, or refuses an option.
    """
    choice = experiment.task
    if not isinstance(choice, TaskChoice):
        raise SettingError(
            "--runtime=federation: sites build the task by its name; register your "
            "task in a plugin (tfl_research.tasks.register) and give --task=NAME"
        )
    try:
        task = tasks.blueprint(
            str(choice.task), seed=experiment.training.seed, **choice.options()
        )
    except (ValueError, OSError) as error:
        raise SettingError(f"--task={choice.task}: {error}") from error
    return without_held_out(task)


def without_held_out(task: Task) -> Task:
    """Checks that the task has no held-out clients and no further splits.

    Raises:
      SettingError: the task has held-out clients or further splits.
    """
    if task.held_out is not None and len(task.held_out):
        raise SettingError(
            f"--task={task.name}: no site would hold the held-out clients; give "
            "--held_out_fraction=0 or --task_option=held_out_clients=0"
        )
    if task.further_splits:
        raise SettingError(
            f"--task={task.name}: no site would hold the split "
            f"{next(iter(task.further_splits))}; leave it out"
        )
    return dataclasses.replace(task, held_out=None)


def of_all_sites(task: Task, facts: AllFacts, own: Optional[Task] = None) -> Task:
    """Returns the task with the clients of all sites.

    Args:
      task: the task that builds the model and the objective.
      facts: the facts that the sites tell about themselves.
      own: at a site, the task with the site's own examples.

    Raises:
      SettingError: the sites encode rows in another way than the coordinator.
    """
    if facts.agreed != task.agreed or dict(facts.specs) != dict(task.train.specs):
        raise SettingError(
            f"--task={task.name}: site {next(iter(facts.sites))} encodes rows in "
            "another way than the coordinator; give both the same schema.json and "
            "task options"
        )
    ids = facts.ordered(tuple(task.train.client_ids))
    mark = "".join(facts.sites[name].mark for name in facts.sites)
    train = SiteClients.of(
        ids,
        facts.specs,
        task.train.batching,
        sizes=facts.sizes,
        own=None if own is None else own.train,
        mark=mark,
    )
    test = SiteClients.of(
        ids,
        facts.specs,
        task.test.batching,
        sizes={},
        own=None if own is None else own.test,
        mark=mark,
    )
    return dataclasses.replace(task, train=train, test=test)


def check(experiment: Description) -> None:
    """Refuses settings of simulations, and settings that need all data in one place.

    Raises:
      SettingError: a setting is refused; the message says the fix.
    """
    needless = {
        "devices": experiment.devices.devices is not None,
        "silo_drop_out": experiment.silos.silo_drop_out > 0,
        "attack": not experiment.attack.is_none,
        "audit": experiment.audit is not None,
        "train_on": experiment.baseline.train_on is not None,
        "personal_evaluation": experiment.personal_evaluation,
        "max_evaluation_examples": (
            experiment.training.max_evaluation_examples is not None
        ),
    }
    for name, given in needless.items():
        if given:
            raise SettingError(
                f"--{name}: is for a simulation, in which all data are in one place; "
                "leave it out with --runtime=federation"
            )
    aggregator = experiment.chosen_aggregator
    if aggregator is None:
        raise SettingError(
            f"--aggregator={experiment.aggregator_name}: sites build the process from "
            "settings; give an aggregator by its name"
        )
    if aggregator.NEEDS_ROOT:
        raise SettingError(
            f"--aggregator={aggregator.NAME}: takes the server's own examples from the "
            "clients' data; leave it out with --runtime=federation"
        )
    privacy = experiment.privacy
    if (
        isinstance(privacy, UserLevelPrivacy)
        and privacy.chosen.NOISED_AT == SECURE_SUM
        and not experiment.secure_sums.secure_sums
    ):
        raise SettingError(
            f"--mechanism={privacy.chosen.NAME}: each client adds only a part of the "
            "noise, and the coordinator would see each client's numbers with only that "
            "part of the noise; give --secure_sums"
        )
