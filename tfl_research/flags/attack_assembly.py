"""What an attack's flags make of an experiment: its task, client work and aggregator.

TensorFlow is imported by the functions that need it, once all flags are checked.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from tfl_research import aggregators, attacks
from tfl_research.flags.aggregator_flags import ATTACKABLE, ROOTED, AggregatorFlags
from tfl_research.flags.assembly import Setup
from tfl_research.flags.attack_flags import BACKDOOR_SPLIT, AttackFlags
from tfl_research.flags.declare import FlagError
from tfl_research.tasks import Task

if TYPE_CHECKING:
    from tfl_research import clients
    from tfl_research.processes.fed_avg import Aggregator


@dataclasses.dataclass(frozen=True)
class Simulation:
    """An attack on an experiment.

    Attributes:
      flags: the attack's.
      parts: the experiment's, with clients who know their role, data as the malicious
        ones have changed them and, under a backdoor, the split that judges it.
      malicious: ids of the malicious clients; none without an attack.
    """

    flags: AttackFlags
    parts: Setup
    malicious: tuple[str, ...]

    @property
    def resolved(self) -> dict[str, Any]:
        """What hparams.json records of the attack beside its flags."""
        return {"malicious_clients": list(self.malicious)}

    @property
    def scale(self) -> float:
        """Factor of a backdoor's updates: by default that of model replacement."""
        given = self.flags.attack_scale
        if given is not None:
            return given
        return len(self.parts.task.train) / len(self.malicious)

    def client_work(self, honest: clients.ClientWork) -> clients.ClientWork:
        """What clients compute, the malicious ones for a local attack or a backdoor."""
        from tfl_research.attacks import simulation

        if self.flags.attack == "backdoor":
            attack = simulation.UpdateAttack("scaled", self.scale)
        elif self.flags.kind == attacks.LOCAL:
            attack = simulation.UpdateAttack(self.flags.attack, self.flags.attack_scale)
        else:
            return honest
        return simulation.AttackedClientWork(honest, attack)

    def aggregator(self, aggregation: AggregatorFlags) -> Aggregator:
        """The aggregation factory, under an attack that sees the honest updates."""
        from tfl_research.attacks import simulation
        from tfl_research.flags import builders

        flags, parts = self.flags, self.parts
        if flags.kind != attacks.OMNISCIENT:
            return builders.aggregator(aggregation, parts)
        inner: Any
        if aggregation.is_stacked or aggregation.aggregator == ROOTED:
            inner = builders.aggregator(aggregation, parts)
        else:
            # A mean, of clipped updates or as they are, over a stack: the attack needs
            # them together.
            weighted = parts.weighting.client_weighting != "uniform"
            inner = aggregators.StackingFactory(
                aggregators.RobustRule(
                    aggregation.aggregator,
                    radius=aggregation.clip_radius,
                    weighted=weighted,
                ),
                capacity=parts.sampler.maximum_cohort_size,
                on_breakdown="skip",
            )
        return aggregators.AttackedFactory(
            inner,
            simulation.UpdateAttack(
                flags.attack, flags.attack_scale, flags.attack_perturbation
            ),
            malicious_role=attacks.MALICIOUS,
            seed=parts.run.seed,
        )


def simulate(
    flags: AttackFlags, parts: Setup, aggregation: AggregatorFlags
) -> Simulation:
    """The experiment under attack; no TensorFlow.

    Raises:
      FlagError: no client would be malicious, an aggregator under which the attack
        cannot see the honest updates, or data that it cannot change.
    """
    if flags.is_none:
        return Simulation(flags, parts, ())
    if flags.kind == attacks.OMNISCIENT and aggregation.aggregator not in ATTACKABLE:
        raise FlagError(
            f"--attack={flags.attack}: sees the updates of the round, which "
            f"--aggregator={aggregation.aggregator} never holds together; give "
            "--aggregator=mean or a robust rule, or another --attack"
        )
    task, seed = parts.task, parts.run.seed
    ids = tuple(task.train.client_ids)
    malicious = attacks.malicious_clients(ids, flags.fraction, seed)
    if not malicious:
        raise FlagError(
            f"--malicious_fraction={flags.fraction:g}: of {len(ids)} clients that is "
            f"none; give at least {0.5 / len(ids):.3g}"
        )
    try:
        if flags.attack == "label_flip":
            task = _with_flipped_labels(flags, task, malicious)
        elif flags.attack == "backdoor":
            task = _with_backdoor(flags, task, malicious, seed)
    except ValueError as error:
        raise FlagError(f"--attack={flags.attack}: {error}") from error
    roles = dict.fromkeys(malicious, attacks.MALICIOUS)
    task = dataclasses.replace(task, train=task.train.with_roles(roles))
    return Simulation(flags, dataclasses.replace(parts, task=task), malicious)


def _with_flipped_labels(
    flags: AttackFlags, task: Task, malicious: tuple[str, ...]
) -> Task:
    poison = attacks.label_flipping(
        attacks.class_count(task.train), flags.label_flip or "reverse"
    )
    return dataclasses.replace(
        task, train=attacks.poisoned(task.train, malicious, poison)
    )


def _with_backdoor(
    flags: AttackFlags, task: Task, malicious: tuple[str, ...], seed: int
) -> Task:
    classes = attacks.class_count(task.train)
    if flags.target >= classes:
        raise flags.refused(
            "backdoor_target", f"the task has classes 0 to {classes - 1}"
        )
    trigger = attacks.Trigger.for_examples(
        task.train.specs["x"].shape,
        flags.backdoor_trigger,
        value=flags.backdoor_value,
        size=flags.backdoor_patch_size or 3,
        feature=flags.backdoor_feature or 0,
    )
    share = 0.5 if flags.backdoor_share is None else flags.backdoor_share
    poison = attacks.backdooring(trigger, flags.target, share, seed)
    return dataclasses.replace(
        task,
        train=attacks.poisoned(task.train, malicious, poison),
        further_splits={
            **task.further_splits,
            BACKDOOR_SPLIT: attacks.triggered(task.test, trigger, flags.target),
        },
    )
