"""Decides what a run of a process is charged, and which outputs it may release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tfl_research import processes
from tfl_research.errors import SettingError
from tfl_research.experiment.configs import Cohorts, Training
from tfl_research.experiment.own_process import noise
from tfl_research.experiment.own_process.process_form import ProcessForm
from tfl_research.outputs import release as releases
from tfl_research.privacy import UserLevelPlan
from tfl_research.sampling import Sampler
from tfl_research.storage.metrics import round_metrics

if TYPE_CHECKING:
    from tfl_research.experiment.own_process.process_experiment import (
        ProcessExperiment,
    )


def plan_of(process: Any) -> Any:
    """Returns the plan of a process of the toolkit; None for other processes."""
    if isinstance(process, processes.FederatedProcess):
        return process.plan
    return None


def planned(
    experiment: ProcessExperiment,
    settings: Cohorts,
    cohorts: Sampler,
    training: Training,
    randomness: noise.Randomness,
) -> Any:
    """Returns a run's privacy plan; None if neither process nor user has a plan.

    Raises:
      SettingError: the declaration does not fit the process or the cohorts.
    """
    own, declared = plan_of(experiment.process), experiment.privacy
    if own is not None:
        return _own_plan(experiment, own, cohorts, training)
    if declared is None:
        return None
    repeatable = declared.repeatable
    if repeatable and not randomness.is_repeatable:
        raise SettingError(
            "repeatable=True: the process has the operations "
            f"{', '.join(randomness.anew)}, which give another result when a round is "
            "repeated; give repeatable=False, so that every execution is charged, or "
            "draw by tf.random.stateless_... from a seed in the state"
        )
    if repeatable is None:
        if randomness.anew and randomness.by_seed:
            raise SettingError(
                "repeatable is missing: the process draws "
                f"{', '.join(randomness.by_seed)} by a seed and "
                f"{', '.join(randomness.anew)} anew at each execution; give "
                "repeatable=False if the noise is drawn anew; if not, remove the "
                "operations that draw anew, since a repeated round would add the same "
                "noise to other sums"
            )
        repeatable = randomness.is_repeatable
    return declared.plan(
        str(settings.sampler), cohorts, training.rounds, repeatable=repeatable
    )


def _own_plan(
    experiment: ProcessExperiment, own: Any, cohorts: Sampler, training: Training
) -> UserLevelPlan:
    if experiment.privacy is not None:
        raise SettingError(
            "privacy: the process was built from a privacy plan, which says what it "
            "costs; leave privacy out"
        )
    if not isinstance(own, UserLevelPlan):
        raise SettingError(
            "process: was built from a plan of record-level privacy, whose steps a "
            "task draws; give the plan's settings to tfl.Experiment"
        )
    if own.amplification != cohorts.amplification:
        raise SettingError(
            f"cohorts: the process' plan is for {own.amplification}, but the cohorts "
            f"are {cohorts.amplification}; give the cohorts of the plan"
        )
    if own.rounds != training.rounds:
        raise training.refused(
            "rounds",
            f"the process' plan is for {own.rounds} rounds; give rounds={own.rounds}",
        )
    return own


def check_release(experiment: ProcessExperiment, form: ProcessForm, plan: Any) -> None:
    """Checks the settings that decide which outputs are released.

    Raises:
      SettingError: the run has no such output, or the setting is only for tasks.
    """
    release = experiment.release
    if plan is None:
        release.check_without_privacy()
        return
    for name in ("public_schema", "evaluation_noise_multiplier", "selection_epsilon"):
        if getattr(release, name):
            raise release.refused(name, "goes with tasks only; leave it out")
    if release.release_exact and experiment.public_data:
        raise release.refused(
            "release_exact",
            "has no effect with public_data, which shows every output; leave it out",
        )
    measured = _metric_names(form)
    for name in release.release_exact:
        known = name == releases.ALL or releases.is_withheld_name(name)
        if not known and name not in measured:
            raise SettingError(
                f"--release_exact={name}: there is no such exact output; the process "
                f"measures {', '.join(measured) or 'nothing'}; give one of these, or "
                "leave it out"
            )
    privacy = experiment.privacy
    for name in () if privacy is None else privacy.covers:
        if not any(each.startswith(name) for each in measured):
            raise SettingError(
                f"covers={name}: no metric of the process has a name that begins so; "
                f"it has {', '.join(measured) or 'none'}"
            )


def _metric_names(form: ProcessForm) -> list[str]:
    """Returns the names of a round's measurements, from the type of the metrics."""
    from tfl_research.runtime.graphs.structures import leaf_types, pack

    names = (str(number) for number, _ in enumerate(leaf_types(form.metrics_type)))
    return round_metrics.column_names(pack(iter(names), form.metrics_type))
