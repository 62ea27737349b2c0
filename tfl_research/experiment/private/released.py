"""Decides an experiment's releases: filter, private evaluation and private choice."""

from __future__ import annotations

import csv
from collections.abc import Callable
from typing import TYPE_CHECKING, Optional

from tfl_research import outputs, privacy
from tfl_research.errors import SettingError
from tfl_research.experiment.configs import RecordLevelPrivacy, UserLevelPrivacy
from tfl_research.outputs import release as releases
from tfl_research.outputs.columns import COHORT
from tfl_research.outputs.files import (
    BEST_BY_NOISE,
    BEST_MODEL,
    CLIENTS,
    HELD_OUT_CLIENTS,
    MEMBERSHIP,
)
from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.ledger.statements.statement_outputs import (
    OF_EVERY_RUN,
    GivenOut,
)
from tfl_research.program.evaluation import deciding
from tfl_research.program.evaluation.private_metrics import (
    PrivateAccuracy,
    PrivateChoice,
    sensitivity,
)
from tfl_research.program.evaluation.releases import Releases
from tfl_research.program.evaluation.selection import selection_column
from tfl_research.storage import RunFolder
from tfl_research.storage.files import atomic
from tfl_research.storage.metrics import metrics_log

if TYPE_CHECKING:
    from tfl_research.experiment.setup import Setup

# Columns that a mechanism computes.
_CLIP, _NOISE = "clip_norm", "aggregator_noise_stddev"
_LEARNING_RATES = ("client_learning_rate", "server_learning_rate")


def release_of(setup: Setup) -> outputs.Release:
    """Returns the filter of an experiment's outputs.

    Cohort sizes are public if settings alone decide them. This is so under record-level
    privacy, whose neighbours have the same clients, and if every cohort has the same
    size without simulated devices. The size of a Poisson cohort depends on whether a
    client takes part. In a federation, a size also tells whether a site took part that
    does not answer, unless every cohort has all clients.
    """
    experiment = setup.experiment
    if experiment.privacy is None:
        return outputs.Release()
    settings = experiment.release
    public, unproven = frozenset[str](), frozenset[str]()
    asked = setup.asked
    if isinstance(experiment.privacy, RecordLevelPrivacy) or (
        experiment.devices.devices is None
        and asked.minimum_cohort_size == asked.maximum_cohort_size
        and (
            setup.facts is None
            or asked.minimum_cohort_size == len(setup.task.train.client_ids)
        )
    ):
        public = frozenset(COHORT)
    if isinstance(experiment.privacy, UserLevelPrivacy):
        unproven = _unproven(experiment.privacy.chosen)
    return outputs.Release(
        is_private=True,
        withholds=settings.withhold_exact or not setup.task.card.public_data,
        named=frozenset(settings.release_exact),
        public=public,
        unproven=unproven,
    )


def tells_who(setup: Setup) -> bool:
    """Whether a run's printed lines may show who takes part in a round."""
    release = release_of(setup)
    return not release.withholds or release.covers("cohort_size")


def _unproven(mechanism: privacy.MechanismSettings) -> frozenset[str]:
    """Returns a mechanism's columns that are exact although the table says private.

    If clients add the noise, its total tells how many clients took part. And the
    toolkit does not know how a user's own mechanism computes its columns.
    """
    if privacy.MECHANISMS.origin(mechanism.NAME) is not None:
        return frozenset([_CLIP, _NOISE, *_LEARNING_RATES])
    return frozenset() if mechanism.NOISED_AT == "server" else frozenset([_NOISE])


def check(setup: Setup) -> None:
    """Refuses settings of the release that cannot be fulfilled.

    Raises:
      SettingError: a name is no exact output, a held-out client is also trained on, a
        metric for the best model or for early stopping is withheld, or the private
        evaluation is not sound.
    """
    experiment, settings = setup.experiment, setup.experiment.release
    if experiment.privacy is None:
        return
    if settings.release_exact and setup.task.card.public_data:
        raise settings.refused(
            "release_exact",
            f"has no effect for task {setup.task.name}: its data are public, and "
            "every output is shown; leave it out",
        )
    for name in settings.release_exact:
        if name != releases.ALL and not releases.is_withheld_name(name):
            known = ", ".join(releases.withheld_names())
            raise SettingError(
                f"--release_exact={name}: there is no such exact output; give one of "
                f"{known}, or {releases.ALL}"
            )
    _check_held_out(setup)
    _check_private_metrics(setup)
    column = _deciding_column(setup)
    if column is None and experiment.training.early_stopping_patience is not None:
        patience = experiment.training.early_stopping_patience
        raise SettingError(
            f"--early_stopping_patience={patience}: every metric that could stop the "
            "run is withheld, since ε does not cover it; give held-out clients, "
            "--evaluation_noise_multiplier or --release_exact, or leave it out"
        )


def _deciding_column(setup: Setup) -> Optional[str]:
    """Returns the column that selects the best model or stops the run, or None."""
    experiment, task = setup.experiment, setup.task
    training, settings = experiment.training, experiment.release
    if settings.selection_epsilon is not None:
        return None
    splits = ["eval", *task.further_splits]
    splits += [] if task.held_out is None else ["held_out"]
    try:
        return deciding.deciding_column(
            training.selection_metric,
            task.selection_metric,
            release_of(setup),
            splits,
            is_private=settings.evaluation_noise_multiplier is not None,
        )
    except ValueError as error:
        raise training.refused("selection_metric", str(error)) from error


def _check_held_out(setup: Setup) -> None:
    """Checks that no held-out client is trained on; only then its metrics cost no ε."""
    task = setup.source
    if task.held_out is None:
        return
    held_out = set(task.held_out.client_ids)
    both = next((name for name in task.train.client_ids if name in held_out), None)
    if both is not None:
        raise SettingError(
            f"--task={task.name}: client {both!r} is both held out and trained on, so "
            "ε does not cover metrics on the held-out clients; give a further split "
            "eval_..., or other clients"
        )


def _check_private_metrics(setup: Setup) -> None:
    experiment, settings = setup.experiment, setup.experiment.release
    given = [
        name
        for name in ("evaluation_noise_multiplier", "selection_epsilon")
        if getattr(settings, name) is not None
    ]
    if not given:
        return
    training, first = experiment.training, given[0]
    if isinstance(experiment.privacy, RecordLevelPrivacy):
        raise settings.refused(
            first,
            "protects clients, and record-level privacy protects records; leave it "
            "out, or evaluate on held-out clients",
        )
    if experiment.devices.devices is not None:
        raise settings.refused(
            first,
            "does not go with --devices, because several devices hold the same "
            "examples; leave it out",
        )
    if experiment.audit is not None:
        raise settings.refused(
            first,
            "does not go with an audit, because canaries have no test examples; leave "
            "it out",
        )
    if training.max_evaluation_examples is not None:
        raise settings.refused(
            first,
            "--max_evaluation_examples picks among all clients' examples together, so "
            "one client would decide which examples of others count; leave it out",
        )
    if settings.selection_epsilon is None:
        return
    if training.selection_metric is not None:
        raise settings.refused(
            "selection_epsilon",
            f"chooses by the accuracy of the training clients; leave "
            f"--selection_metric={training.selection_metric} out",
        )
    if training.early_stopping_patience is not None:
        raise settings.refused(
            "selection_epsilon",
            "chooses the model only when the run ends, so nothing can stop the run "
            "early; leave --early_stopping_patience out",
        )


def _evaluation_event(setup: Setup) -> Event:
    """Returns the event of one private evaluation."""
    amplification = setup.asked.amplification
    relation, clients = amplification.neighbouring_relation, amplification.population
    noise = float(setup.experiment.release.evaluation_noise_multiplier or 0.0)
    # A Gaussian event counts its noise in clips, and under replace-one a sensitivity is
    # two clips. The setting counts the noise in sensitivities.
    clips = 2.0 if relation == "replace_one" else 1.0
    return privacy.GaussianEvent(
        "none", noise * clips, 1.0, clients, float(clients), relation
    )


def _selection_event(setup: Setup) -> Event:
    amplification = setup.asked.amplification
    return privacy.PureEvent(
        float(setup.experiment.release.selection_epsilon or 0.0),
        amplification.neighbouring_relation,
        population=amplification.population,
    )


def planned_releases(setup: Setup) -> list[tuple[Event, int]]:
    """Returns the releases that are charged in addition to the rounds, with counts."""
    settings, training = setup.experiment.release, setup.experiment.training
    planned: list[tuple[Event, int]] = []
    if settings.evaluation_noise_multiplier is not None:
        every = training.evaluate_every
        evaluations = -(-training.rounds // every)
        planned.append((_evaluation_event(setup), evaluations))
    if settings.selection_epsilon is not None:
        planned.append((_selection_event(setup), 1))
    return planned


def notes(setup: Setup) -> list[str]:
    """Writes the statement's sentences about private evaluation and private choice."""
    settings, lines = setup.experiment.release, []
    amplification = setup.asked.amplification
    clients, relation = amplification.population, amplification.neighbouring_relation
    score = (
        f"the mean over {clients} training clients of the accuracy on the client's own "
        "test examples, 1/2 for a client without any; one client moves the mean by at "
        f"most {sensitivity(clients, relation):.4g}"
    )
    if settings.evaluation_noise_multiplier is not None:
        lines.append(
            f"Private evaluation: {score}. It gets Gaussian noise of "
            f"{settings.evaluation_noise_multiplier:g} times that, and is charged "
            "before anyone sees it."
        )
    if settings.selection_epsilon is not None:
        lines.append(
            "Private choice of the best model by the exponential mechanism over the "
            f"evaluated rounds, with ε = {settings.selection_epsilon:g} (McSherry and "
            f"Talwar 2007). The score is {score}."
        )
    return lines


def of_run(
    setup: Setup, noise_key: int, write_statement: Optional[Callable[[], None]]
) -> Releases:
    """Makes the releases of a run for the round loop.

    Args:
      setup: the setup of the run.
      noise_key: secret; the noise of private evaluations is a function of this key.
      write_statement: writes the privacy statement; None without privacy.
    """
    settings = setup.experiment.release
    amplification = setup.asked.amplification
    clients, relation = amplification.population, amplification.neighbouring_relation
    accuracy, choice = None, None
    if settings.evaluation_noise_multiplier is not None:
        accuracy = PrivateAccuracy(
            settings.evaluation_noise_multiplier,
            clients,
            relation,
            _evaluation_event(setup),
            noise_key,
        )
    if settings.selection_epsilon is not None:
        choice = PrivateChoice(
            settings.selection_epsilon,
            clients,
            relation,
            _selection_event(setup),
            noise_key,
        )
    return Releases(release_of(setup), accuracy, choice, write_statement)


def evaluates_clients(setup: Setup) -> bool:
    """Whether the run evaluates models on the training clients' test examples."""
    asked = setup.experiment.release
    needed = (asked.evaluation_noise_multiplier, asked.selection_epsilon)
    return release_of(setup).shows_split("eval") or needed != (None, None)


def given_out(setup: Setup, folder: RunFolder) -> GivenOut:
    """Returns the outputs that a run releases, for its statement.

    Args:
      setup: the setup of the run.
      folder: the folder of the run. The columns are those of its metrics.csv, or before
        the first round those of every metrics.csv.
    """
    experiment, release = setup.experiment, release_of(setup)
    columns, table = list(metrics_log.COLUMNS), folder.metrics_path
    if table.exists():
        with table.open(encoding="utf-8", newline="") as file:
            columns = next(csv.reader(file), columns)
    if setup.task.held_out is None:
        columns = [name for name in columns if not name.startswith("held_out_")]
    column = _deciding_column(setup)
    decided_by = "" if column is None else selection_column(column)
    if experiment.release.selection_epsilon is not None:
        decided_by = deciding.PRIVATE_CHOICE
    if folder.summary_path.exists() and not (folder.export_path / "best").exists():
        # The run has ended without a choice.
        decided_by = ""
    files = [CLIENTS]
    if setup.task.held_out is not None:
        files.append(HELD_OUT_CLIENTS)
    if decided_by == deciding.PRIVATE_CHOICE:
        files.append(BEST_BY_NOISE)
    elif decided_by:
        files.append(BEST_MODEL)
    if experiment.training.tensorboard:
        files.append("logdir")
    if experiment.audit is not None:
        files += ["audit.json", "canaries.svg", MEMBERSHIP]
    return GivenOut(release, columns, [*files, *_further(folder, files)], decided_by)


def _further(folder: RunFolder, known: list[str]) -> list[str]:
    """Returns files in the folder that are in no other list: the user's callbacks'."""
    heads = {name.split(":")[0].split("/")[0] for name in (*known, *OF_EVERY_RUN)}
    return sorted(
        path.name
        for path in folder.path.iterdir()
        if path.name not in heads
        and outputs.file(path.name).kind not in (outputs.SECRET, outputs.DERIVED)
        and not path.name.startswith(".")
        and not path.name.endswith(atomic.TEMPORARY_SUFFIX)
    )
