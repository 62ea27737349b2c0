"""Puts an experiment under attack: roles, data, client work and aggregator.

TensorFlow is imported by the functions that build client work and aggregators.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from tfl_research import attacks
from tfl_research.data.arrays import structures
from tfl_research.errors import SettingError
from tfl_research.experiment.configs import Attack
from tfl_research.experiment.configs.attack import BACKDOOR_SPLIT
from tfl_research.tasks import Task

if TYPE_CHECKING:
    from tfl_research.clients import ClientWork
    from tfl_research.experiment.setup import Setup


def with_attack(setup: Setup) -> Setup:
    """Adds roles for malicious clients to a setup, and changes these clients' data.

    Under a backdoor, the task also gets the split that measures the backdoor.

    Raises:
      SettingError: no client would be malicious, or the attack cannot change the data.
    """
    settings, seed = setup.experiment.attack, setup.experiment.training.seed
    if settings.is_none:
        return setup
    task = setup.task
    ids = tuple(task.train.client_ids)
    malicious = attacks.malicious_clients(ids, settings.fraction, seed)
    if not malicious:
        raise SettingError(
            f"--malicious_fraction={settings.fraction:g}: makes none of the "
            f"{len(ids)} clients malicious; give at least {0.5 / len(ids):.3g}"
        )
    try:
        if settings.attack == "label_flip":
            task = _with_flipped_labels(settings, task, malicious)
        elif settings.attack == "backdoor":
            task = _with_backdoor(settings, task, malicious, seed)
    except SettingError:
        raise
    except ValueError as error:
        raise SettingError(f"--attack={settings.attack}: {error}") from error
    roles = dict.fromkeys(malicious, attacks.MALICIOUS)
    task = dataclasses.replace(task, train=task.train.with_roles(roles))
    return dataclasses.replace(setup, task=task, malicious=malicious)


def client_work(setup: Setup, honest: ClientWork) -> ClientWork:
    """Builds the client work; malicious clients compute a local attack or backdoor."""
    from tfl_research.attacks import simulation

    settings = setup.experiment.attack
    if settings.attack == "backdoor":
        attack = simulation.UpdateAttack("scaled", _scale(setup))
    elif settings.kind == attacks.LOCAL:
        attack = simulation.UpdateAttack(settings.attack, settings.attack_scale)
    else:
        return honest
    return simulation.AttackedClientWork(honest, attack)


def aggregator(setup: Setup, stacked: Any) -> Any:
    """Builds an aggregation factory under an attack that sees the honest updates.

    Args:
      setup: the setup of the run.
      stacked: the factory that stacks the updates of a cohort.
    """
    from tfl_research import aggregators
    from tfl_research.attacks import simulation

    settings = setup.experiment.attack
    return aggregators.AttackedFactory(
        stacked,
        simulation.UpdateAttack(
            settings.attack, settings.attack_scale, settings.attack_perturbation
        ),
        malicious_role=attacks.MALICIOUS,
        seed=setup.experiment.training.seed,
    )


def _scale(setup: Setup) -> float:
    """Returns a backdoor's factor of updates, by default that of model replacement."""
    given = setup.experiment.attack.attack_scale
    if given is not None:
        return given
    return len(setup.asked.client_ids) / len(setup.malicious)


def _with_flipped_labels(
    settings: Attack, task: Task, malicious: tuple[str, ...]
) -> Task:
    poison = attacks.label_flipping(
        attacks.class_count(task.train), settings.label_flip or "reverse"
    )
    return dataclasses.replace(
        task, train=attacks.poisoned(task.train, malicious, poison)
    )


def _with_backdoor(
    settings: Attack, task: Task, malicious: tuple[str, ...], seed: int
) -> Task:
    classes = attacks.class_count(task.train)
    if settings.target >= classes:
        raise settings.refused(
            "backdoor_target", f"the task has classes 0 to {classes - 1}"
        )
    trigger = attacks.Trigger.for_examples(
        structures.single(task.train.specs, "x", "a backdoor").shape,
        settings.backdoor_trigger,
        value=settings.backdoor_value,
        size=settings.backdoor_patch_size or 3,
        feature=settings.backdoor_feature or 0,
    )
    share = 0.5 if settings.backdoor_share is None else settings.backdoor_share
    poison = attacks.backdooring(trigger, settings.target, share, seed)
    return dataclasses.replace(
        task,
        train=attacks.poisoned(task.train, malicious, poison),
        further_splits={
            **task.further_splits,
            BACKDOOR_SPLIT: attacks.triggered(task.test, trigger, settings.target),
        },
    )
