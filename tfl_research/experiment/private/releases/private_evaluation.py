"""The private evaluations of a run and the private choice of its best model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from tfl_research import privacy
from tfl_research.experiment.configs import RecordLevelPrivacy
from tfl_research.privacy.accounting.events import Event
from tfl_research.program.evaluation.private_metrics import (
    PrivateAccuracy,
    PrivateChoice,
    sensitivity,
)

if TYPE_CHECKING:
    from tfl_research.experiment.setup import Setup


def check(setup: Setup) -> None:
    """Refuses a private evaluation that is not sound.

    Raises:
      SettingError: another setting of the experiment breaks it.
    """
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
            f"Private evaluation: {score}. This accuracy gets Gaussian noise of "
            f"{settings.evaluation_noise_multiplier:g} times that bound, and is "
            "charged before anyone sees it."
        )
    if settings.selection_epsilon is not None:
        lines.append(
            "Private choice of the best model by the exponential mechanism over the "
            f"evaluated rounds, with ε = {settings.selection_epsilon:g} (McSherry and "
            f"Talwar 2007). The score is {score}."
        )
    return lines


def accuracy(setup: Setup, noise_key: int) -> Optional[PrivateAccuracy]:
    """Makes the private accuracy of a run's evaluations, or None.

    Args:
      setup: the setup of the run.
      noise_key: secret; the noise is a function of this key.
    """
    multiplier = setup.experiment.release.evaluation_noise_multiplier
    if multiplier is None:
        return None
    amplification = setup.asked.amplification
    return PrivateAccuracy(
        multiplier,
        amplification.population,
        amplification.neighbouring_relation,
        _evaluation_event(setup),
        noise_key,
    )


def choice(setup: Setup, noise_key: int) -> Optional[PrivateChoice]:
    """Makes the private choice of a run's best model, or None; see `accuracy`."""
    epsilon = setup.experiment.release.selection_epsilon
    if epsilon is None:
        return None
    amplification = setup.asked.amplification
    return PrivateChoice(
        epsilon,
        amplification.population,
        amplification.neighbouring_relation,
        _selection_event(setup),
        noise_key,
    )
