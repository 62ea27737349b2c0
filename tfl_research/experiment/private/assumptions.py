"""Refuses values that affect a private run without clip and noise, or states them.

The guarantee covers the noised sums of clipped updates. But values that a task computed
from pooled rows change the model and the examples before any update is clipped. A run
with such values is refused, unless the data are public or the user declares the values
public knowledge; the run's statement then says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tfl_research import tasks
from tfl_research.errors import SettingError
from tfl_research.experiment.configs import TaskChoice, UserLevelPrivacy
from tfl_research.experiment.description import Description

if TYPE_CHECKING:
    from tfl_research.experiment.setup import Setup

_OTHER = {"client": "other clients", "record": "other records"}


def check(setup: Setup) -> None:
    """Refuses a private run that uses values computed from pooled rows.

    Raises:
      SettingError: the run uses such values; the message says which values, from which
        data, and how to declare them. Or --public_schema is given although there is no
        value to declare.
    """
    experiment, task = setup.experiment, setup.task
    release = experiment.release
    if experiment.privacy is None:
        if release.public_schema:
            raise release.refused(
                "public_schema", "has no effect without privacy; leave it out"
            )
        return
    parts = _pooled(setup)
    if release.public_schema and (task.card.public_data or not parts):
        why = (
            "its data are public"
            if task.card.public_data
            else "it computes nothing from pooled rows"
        )
        raise release.refused(
            "public_schema",
            f"has no effect for task {task.name}: {why}; leave it out",
        )
    if not parts or release.public_schema or task.card.public_data:
        return
    computed = " and ".join(f"{part.what} from {part.source}" for part in parts)
    # A remedy that fits several values is printed once.
    remedies = dict.fromkeys(part.remedy for part in parts if part.remedy)
    fixes = [*remedies, "give --public_schema if this is public knowledge"]
    raise SettingError(
        f"--task={task.name}: computes {computed}, which no ε covers; "
        f"{', or '.join(fixes)}"
    )


def assumption_lines(setup: Setup) -> list[str]:
    """Writes sentences about the values that a private run assumes to be public.

    Args:
      setup: the setup of the run.

    Returns:
      A sentence for each assumption; the guarantee covers none of them.
    """
    task, unit = setup.task, _unit(setup)
    lines = []
    if unit == "record":
        lines.append(
            "Which clients there are, and how many records each trains on, is public "
            "knowledge: the guarantee is about what the records say. Where a task "
            "draws test examples by a hash of each record and its seed, that number "
            "also tells how many records the hash leaves for training."
        )
    if task.card.public_knowledge:
        known = "; ".join(task.card.public_knowledge)
        lines.append(f"Public knowledge, and not read off the clients' rows: {known}.")
    reason = (
        "the task's data being public"
        if task.card.public_data
        else "declared by --public_schema"
    )
    lines += [
        f"Public knowledge ({reason}): {part.what}, computed from {part.source}. One "
        f"{unit} more or less can change this and with it what {_OTHER[unit]} "
        "contribute, which no ε covers."
        for part in _pooled(setup)
    ]
    if not task.card.public_data or _is_own(setup.experiment):
        lines.append(
            "Whatever was computed from clients' rows before the toolkit read them, "
            "such as a scale, a vocabulary or a choice of columns, is not covered."
        )
    return lines


def _unit(setup: Setup) -> str:
    user_level = isinstance(setup.experiment.privacy, UserLevelPrivacy)
    return "client" if user_level else "record"


def _pooled(setup: Setup) -> list[tasks.Pooled]:
    """Returns the pooled values that adding or removing one unit can change."""
    unit = _unit(setup)
    return [part for part in setup.task.pooled if part.concerns(unit)]


def _is_own(experiment: Description) -> bool:
    """Whether the task is not one of the toolkit's, or has other data."""
    task = experiment.task
    if isinstance(task, TaskChoice):
        return tasks.origin(str(task.task)) is not None
    if not isinstance(task, tasks.Task) or task.recipe is None:
        return True
    return task.has_foreign_data or tasks.origin(task.recipe.name) is not None
