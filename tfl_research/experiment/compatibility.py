"""Checks that the parts of an experiment fit together: one table of rules.

A part checks its own values. The class of an algorithm, mechanism or aggregator says
what the part is compatible with. This table has the rules about two parts. The module
does not import TensorFlow.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from tfl_research import attacks
from tfl_research.algorithms.personal.catalogue import SplitSettings
from tfl_research.errors import SettingError
from tfl_research.experiment import simulated_devices
from tfl_research.experiment.configs import RecordLevelPrivacy, UserLevelPrivacy
from tfl_research.experiment.description import Description
from tfl_research.experiment.private import assumptions, privacy_rules

if TYPE_CHECKING:
    from tfl_research.experiment.setup import Setup

NONE = "none"


def _algorithm(experiment: Description) -> None:
    """Checks the algorithm with weights, optimizers, aggregator and compression."""
    algorithm = experiment.chosen_algorithm
    algorithm.check_weighting(str(experiment.resolved_weighting.client_weighting))
    algorithm.check_client_step(experiment.clients)
    algorithm.check_clients(experiment.clients)
    algorithm.check_server(experiment.server)
    aggregator = experiment.chosen_aggregator
    algorithm.check_aggregator(experiment.aggregator_name)
    compression = experiment.compression
    algorithm.check_compression(
        compression.compression, error_feedback=compression.feeds_back
    )
    if compression.compression == NONE or aggregator is None:
        return
    if aggregator.NAME == "compression":
        raise compression.refused(
            "compression",
            "--aggregator=compression compresses the updates too; leave one of them "
            "out",
        )
    if compression.is_sparse:
        try:
            aggregator.check_with_sparse_updates()
        except SettingError as error:
            raise compression.refused(
                "compression",
                f"{error.for_command_line}; give quantize or low_rank, or a rule of "
                "whole updates, such as geometric_median",
            ) from error


def _aggregator(experiment: Description) -> None:
    """Checks the aggregator with weights, server optimizer and runtime."""
    aggregator = experiment.chosen_aggregator
    if aggregator is None:
        weighting = experiment.resolved_weighting.client_weighting
        if weighting != "uniform" and not experiment.takes_weights:
            raise SettingError(
                f"--client_weighting={weighting}: {experiment.aggregator_name} does "
                "not use weights; give --client_weighting=uniform, or leave it out"
            )
        return
    aggregator.check_runtime(experiment.runtime.runtime)
    aggregator.check_weights(str(experiment.resolved_weighting.client_weighting))
    aggregator.check_server(experiment.server)


def _attack(experiment: Description) -> None:
    """Checks that the aggregator and the algorithm allow to simulate the attack."""
    attack, aggregator = experiment.attack, experiment.chosen_aggregator
    if attack.is_none:
        return
    attackable = aggregator is not None and aggregator.attackable()
    if attack.kind == attacks.OMNISCIENT and not attackable:
        raise SettingError(
            f"--attack={attack.attack}: needs all updates of a round, but "
            f"--aggregator={experiment.aggregator_name} never has all of them at once; "
            "give --aggregator=mean or a robust rule, or another --attack"
        )
    algorithm = experiment.chosen_algorithm
    if not algorithm.ONLY_UPDATES_LEAVE:
        raise attack.refused(
            "attack",
            f"changes updates, and clients of {algorithm.NAME} send or keep more; give "
            "--algorithm=fed_avg or fed_prox",
        )
    if experiment.compression.compression != NONE:
        raise attack.refused(
            "attack", "is not simulated on compressed updates; leave --compression out"
        )
    if experiment.devices.devices is not None:
        raise attack.refused(
            "attack", "simulated devices are honest; leave --devices out"
        )


def _devices(experiment: Description) -> None:
    """Checks simulated devices with the settings that decide who takes part."""
    devices, algorithm = experiment.devices, experiment.chosen_algorithm
    buffering = algorithm.buffering is not None
    if devices.devices is None:
        if buffering:
            raise SettingError(
                f"--devices is missing: {algorithm.NAME} needs devices; give --devices"
            )
        return
    if buffering:
        for name in ("over_selection", "minimum_cohort", "partial_work"):
            if getattr(devices, name) != getattr(type(devices)(), name):
                raise devices.refused(
                    name,
                    f"devices of {algorithm.NAME} are not selected for rounds; leave "
                    "it out",
                )
    if isinstance(experiment.privacy, RecordLevelPrivacy):
        raise devices.refused(
            "devices", "do not go with Poisson batches; leave --devices out"
        )
    if isinstance(experiment.privacy, UserLevelPrivacy):
        simulated_devices.check_private(devices, experiment.privacy)
    if experiment.resolved_cohorts.sampler != "fixed":
        raise SettingError(
            f"--sampler={experiment.resolved_cohorts.sampler}: --devices decides who "
            "takes part; give --sampler=fixed"
        )
    if experiment.personal_evaluation:
        raise SettingError(
            "--personal_evaluation: does not go with --devices; leave one of the two "
            "out"
        )
    if _silos_come_and_go(experiment):
        raise SettingError(
            "--silo_drop_out and --minimum_clients: do not go with --devices; give "
            "--drop_out and --minimum_cohort instead"
        )
    if experiment.baseline.train_on is not None:
        raise experiment.baseline.refused(
            "train_on", "one silo trains in every round; leave --devices out"
        )
    aggregator = experiment.chosen_aggregator
    if aggregator is not None and aggregator.NEEDS_ROOT:
        raise SettingError(
            f"--aggregator={aggregator.NAME}: the server's own examples would be on a "
            "device that comes and goes; leave --devices out"
        )


def _root(experiment: Description) -> None:
    """Refuses parts that do not apply to the server's own examples."""
    aggregator = experiment.chosen_aggregator
    if aggregator is None or not aggregator.NEEDS_ROOT:
        return
    flag, algorithm = f"--aggregator={aggregator.NAME}", experiment.chosen_algorithm
    if experiment.privacy is not None:
        raise SettingError(
            f"{flag}: the server's own examples are drawn from the clients' examples, "
            "and the guarantee does not cover them; give another rule, or leave "
            "privacy out"
        )
    if not algorithm.ONLY_UPDATES_LEAVE:
        raise SettingError(
            f"{flag}: the server trains on its own examples by the clients' algorithm, "
            f"and clients of {algorithm.NAME} send or keep more than an update; give "
            "--algorithm=fed_avg or fed_prox"
        )
    if experiment.compression.compression != NONE:
        raise experiment.compression.refused(
            "compression",
            f"would code the update of the server's own examples too; leave it out, or "
            f"give another rule than {flag}",
        )


def _exchanges(experiment: Description) -> None:
    """Checks that all exchanges of an algorithm have the same clients."""
    algorithm = experiment.chosen_algorithm
    if algorithm.EXCHANGES == 1:
        return
    if experiment.devices.devices is not None or _silos_come_and_go(experiment):
        raise SettingError(
            f"--algorithm={algorithm.NAME}: needs the same clients in "
            f"{algorithm.EXCHANGES} rounds in a row; leave --devices, --silo_drop_out "
            "and --minimum_clients out"
        )


def _silos(experiment: Description) -> None:
    """Refuses silos that can be down if every cohort must be complete."""
    if not _silos_come_and_go(experiment):
        return
    if isinstance(experiment.privacy, UserLevelPrivacy):
        raise SettingError(
            "--silo_drop_out and --minimum_clients: the accounts of user-level "
            "privacy do not cover clients that drop out; give --devices, or leave "
            "them out"
        )
    aggregator = experiment.chosen_aggregator
    if aggregator is not None and aggregator.NEEDS_ROOT:
        raise SettingError(
            f"--aggregator={aggregator.NAME}: the server's own examples are in every "
            "round; leave --silo_drop_out and --minimum_clients out"
        )


def _secure_sums(experiment: Description) -> None:
    """Refuses secure sums if the server needs single values."""
    secure, aggregator = experiment.secure_sums, experiment.chosen_aggregator
    if not secure.secure_sums:
        return
    if aggregator is not None:
        try:
            aggregator.check_with_secure_sum()
        except SettingError as error:
            raise secure.refused("secure_sums", error.for_command_line) from error
        if aggregator.stacked:
            raise secure.refused(
                "secure_sums",
                f"--aggregator={aggregator.NAME} needs every update of a round, but "
                "the server sees only their sum; give --aggregator=mean, or "
                "norm_clipping with --clip_radius alone",
            )
        if not aggregator.has_map_reduce_form:
            raise secure.refused(
                "secure_sums",
                "a round can have only one secure sum; give --weiszfeld_steps=1",
            )
    algorithm, attack = experiment.chosen_algorithm, experiment.attack
    if algorithm.KEEPS_SENT:
        for field in ("secure_sum_bits", "secure_sum_bound"):
            if getattr(secure, field) is not None:
                raise secure.refused(
                    field,
                    f"clients of {algorithm.NAME} keep what they sent, and the server "
                    "has to add up the same values, not rounded or clipped; leave it "
                    "out",
                )
    if experiment.compression.compression != NONE:
        raise experiment.compression.refused(
            "compression",
            "saves nothing under --secure_sums, which mask every coordinate; leave it "
            "out, and give --secure_sum_bits for smaller messages",
        )
    if attack.kind == attacks.OMNISCIENT:
        raise attack.refused(
            "attack",
            "needs all updates of a round, but --secure_sums hide them; leave one of "
            "them out",
        )
    if experiment.audit is not None and experiment.audit.sabotage != NONE:
        raise experiment.audit.refused(
            "sabotage", "breaks the bounds of --secure_sums; leave one of them out"
        )


# All rules, in the order in which they are checked.
RULES: tuple[Callable[[Description], None], ...] = (
    _devices,
    _exchanges,
    _silos,
    _root,
    _algorithm,
    privacy_rules.audit,
    privacy_rules.user_level,
    privacy_rules.record_level,
    privacy_rules.beside_privacy,
    _attack,
    _aggregator,
    _secure_sums,
)


def check(experiment: Description) -> None:
    """Refuses parts that do not fit together.

    Raises:
      SettingError: two parts do not fit together; the message names the settings, the
        reason and the fix.
    """
    for rule in RULES:
        rule(experiment)


def check_setup(setup: Setup) -> None:
    """Refuses settings that the data, the cohort sizes or the model do not allow.

    TensorFlow is imported only for algorithms that divide models into parts.

    Raises:
      SettingError: a setting is not allowed; the message says the reason and the fix.
    """
    experiment, reporting = setup.experiment, setup.reporting
    assumptions.check(setup)
    # Raises an error if the bits do not hold the sums of the largest cohort.
    setup.sum_formats()
    aggregator = experiment.chosen_aggregator
    if aggregator is not None:
        aggregator.check_cohort(
            reporting.minimum_cohort_size, reporting.maximum_cohort_size
        )

    algorithm = experiment.chosen_algorithm
    if algorithm.looks_at_model():
        try:
            model = setup.task.functional_model()
            algorithm.check_model(model.weight_specs)
        except SettingError:
            raise
        except ValueError as error:
            raise SettingError(f"--algorithm={algorithm.NAME}: {error}") from error
        if isinstance(algorithm, SplitSettings):
            labels = [n for n in setup.task.train.specs if n.startswith("y/")]
            line = algorithm.division(model.weight_names, len(labels))
            if line is not None:
                warnings.warn(line, stacklevel=2)


def _silos_come_and_go(experiment: Description) -> bool:
    silos = experiment.silos
    return bool(silos.silo_drop_out) or silos.minimum_clients > 1
