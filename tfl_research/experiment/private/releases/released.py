"""Decides which outputs an experiment releases, and which metric may decide."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Optional

from tfl_research import outputs, privacy
from tfl_research.errors import SettingError
from tfl_research.experiment.configs import RecordLevelPrivacy, UserLevelPrivacy
from tfl_research.experiment.private.releases import private_evaluation
from tfl_research.outputs import release as releases
from tfl_research.outputs.columns import COHORT
from tfl_research.program.evaluation import deciding
from tfl_research.program.evaluation.releases import Releases

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
    private_evaluation.check(setup)
    column = deciding_column(setup)
    if column is None and experiment.training.early_stopping_patience is not None:
        patience = experiment.training.early_stopping_patience
        raise SettingError(
            f"--early_stopping_patience={patience}: every metric that could stop the "
            "run is withheld, since ε does not cover it; give held-out clients, "
            "--evaluation_noise_multiplier or --release_exact, or leave it out"
        )


def deciding_column(setup: Setup) -> Optional[str]:
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


def of_run(
    setup: Setup, noise_key: int, write_statement: Optional[Callable[[], None]]
) -> Releases:
    """Makes the releases of a run for the round loop.

    Args:
      setup: the setup of the run.
      noise_key: secret; the noise of private evaluations is a function of this key.
      write_statement: writes the privacy statement; None without privacy.
    """
    return Releases(
        release_of(setup),
        private_evaluation.accuracy(setup, noise_key),
        private_evaluation.choice(setup, noise_key),
        write_statement,
    )


def evaluates_clients(setup: Setup) -> bool:
    """Whether the run evaluates models on the training clients' test examples."""
    asked = setup.experiment.release
    needed = (asked.evaluation_noise_multiplier, asked.selection_epsilon)
    return release_of(setup).shows_split("eval") or needed != (None, None)


def reports_metrics(setup: Setup) -> bool:
    """Whether clients of a run with record-level privacy report metrics of training."""
    return release_of(setup).shows_any("train_")
