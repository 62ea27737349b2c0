"""Finds settings of an experiment that differ from their defaults, for its report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tfl_research.aggregators import AGGREGATORS
from tfl_research.algorithms import ALGORITHMS
from tfl_research.experiment import flattening
from tfl_research.experiment.configs import TaskChoice, UserLevelPrivacy
from tfl_research.privacy import MECHANISMS
from tfl_research.settings import Settings

if TYPE_CHECKING:
    from tfl_research.experiment.description import Description

# The choices that are made if the user names none.
_CHOSEN = {
    ALGORITHMS.setting: "fed_avg",
    AGGREGATORS.setting: "mean",
    MECHANISMS.setting: "gaussian",
}
_PARTS = (
    "task",
    "algorithm",
    "aggregator",
    "client_optimizer",
    "server_optimizer",
    "privacy",
    "audit",
)


def of_parts(*parts: Any) -> dict[str, Any]:
    """Returns the defaults of these parts' settings that have another value."""
    found: dict[str, Any] = {}
    for part in parts:
        if isinstance(part, Settings):
            found.update(part.changed_from())
    return found


def changed_from(experiment: Description) -> Mapping[str, Any]:
    """Returns, by flat name, the defaults of settings that have another value.

    The task is always included, since it has no default. A value that follows from
    other settings, such as a calibrated noise multiplier, is not included.
    """
    flat = flattening.flat(experiment)
    parts = [getattr(experiment, name) for name in (*_PARTS, *experiment.PLAIN)]
    if isinstance(experiment.privacy, UserLevelPrivacy):
        parts.append(experiment.privacy.mechanism)
    found = of_parts(*parts)
    if not isinstance(experiment.task, TaskChoice):
        found["task"] = None
    for setting, default in _CHOSEN.items():
        if flat.get(setting, default) != default:
            found[setting] = default
    for setting, usual in (
        (flattening.PRIVACY_UNIT, None),
        (flattening.AUDITED, False),
        (flattening.PERSONAL, False),
    ):
        if flat[setting] != usual:
            found[setting] = usual
    return {name: found[name] for name in flat if name in found}
