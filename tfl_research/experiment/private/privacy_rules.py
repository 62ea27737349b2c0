"""Rules of `compatibility.RULES` about parts that are compatible with privacy."""

from __future__ import annotations

from typing import Union

from tfl_research.errors import SettingError
from tfl_research.experiment.configs import RecordLevelPrivacy, UserLevelPrivacy
from tfl_research.experiment.description import Description
from tfl_research.experiment.private import run_seed
from tfl_research.privacy import MECHANISMS, MechanismSettings

NONE = "none"


def user_level(experiment: Description) -> None:
    """Checks user-level privacy with the parts that a mechanism must cover."""
    privacy = experiment.privacy
    if not isinstance(privacy, UserLevelPrivacy):
        return
    mechanism, algorithm = privacy.chosen, experiment.chosen_algorithm
    mechanism.check_cohorts(
        str(experiment.resolved_cohorts.sampler),
        str(experiment.resolved_weighting.client_weighting),
    )
    run_seed.check_not_shared(experiment.training.run_seed, "ledger", privacy.ledger)
    if not algorithm.ONLY_UPDATES_LEAVE:
        raise SettingError(
            f"--algorithm={algorithm.NAME}: a mechanism covers only the clients' "
            "updates, but this algorithm's clients send or keep more; give "
            "--algorithm=fed_avg or fed_prox, or leave user-level privacy out"
        )
    if algorithm.EXCHANGES != 1 or algorithm.buffering is not None:
        raise SettingError(
            f"--algorithm={algorithm.NAME}: its rounds do not have one cohort each, "
            "as the accounts of user-level privacy assume; give --algorithm=fed_avg "
            "or fed_prox, or leave user-level privacy out"
        )
    _aggregator_under_noise(experiment, privacy)


def _aggregator_under_noise(experiment: Description, privacy: UserLevelPrivacy) -> None:
    mechanism, aggregator = privacy.chosen, experiment.chosen_aggregator
    weights = str(experiment.resolved_weighting.client_weighting)
    if aggregator is None and not mechanism.noised_at_clients:
        raise SettingError(
            f"--aggregator={experiment.aggregator_name}: no bound is known for how far "
            f"one client can move its result, and {mechanism.NAME} adds noise to a "
            "sum; give --mechanism=local_gaussian, whose clients add noise to their "
            "own updates, or register a mechanism that builds the factory and says "
            "what it costs"
        )
    if aggregator is not None:
        if aggregator.NAME == "mean":
            return
        aggregator.check_with_privacy(mechanism.NOISED_AT, mechanism.NAME)
    if mechanism.noised_at_clients:
        if weights != "uniform":
            raise SettingError(
                f"--client_weighting={weights}: only updates get noise, so a rule that "
                "uses weights would see private weights; give "
                "--client_weighting=uniform"
            )
    elif aggregator is not None and aggregator.stacked:
        raise SettingError(
            f"--aggregator={aggregator.NAME}: {mechanism.NAME} adds noise to a sum, "
            "for which no updates are stacked; leave --byzantine, --bucket_size, "
            "--neighbour_mixing and --on_breakdown out"
        )


def record_level(experiment: Description) -> None:
    """Checks record-level privacy with the settings of the local steps."""
    privacy = experiment.privacy
    if not isinstance(privacy, RecordLevelPrivacy):
        return
    algorithm, aggregator = experiment.chosen_algorithm, experiment.chosen_aggregator
    batches, client = experiment.batches, experiment.clients
    run_seed.check_not_shared(
        experiment.training.run_seed, "record_ledgers", privacy.record_ledgers
    )
    if algorithm.NAME != "fed_avg":
        raise SettingError(
            f"--algorithm={algorithm.NAME}: clients with record-level privacy train by "
            "DP-SGD; give --algorithm=fed_avg"
        )
    if aggregator is not None and aggregator.NAME != "mean":
        aggregator.check_with_privacy("client", "record_dp_sgd")
    if batches.client_epochs is not None:
        raise batches.refused(
            "client_epochs",
            "steps that are drawn at random have no epochs; give --client_steps",
        )
    if batches.batch_size is not None:
        raise batches.refused(
            "batch_size",
            "batches are drawn at random; give their expected size with "
            "--record_batch_size",
        )
    if batches.max_examples_per_client is not None:
        raise batches.refused(
            "max_examples_per_client",
            "every record is sampled with the same probability; leave it out and "
            "lower --record_batch_size or --client_steps",
        )
    if client.gradient_clip is not None:
        raise client.refused(
            "gradient_clip",
            "gradients are clipped by --record_l2_norm_clip; leave it out",
        )


def beside_privacy(experiment: Description) -> None:
    """Refuses settings that exclude privacy, and settings that need privacy."""
    if experiment.privacy is None:
        experiment.release.check_without_privacy()
        return
    if experiment.personal_evaluation:
        raise SettingError(
            "--personal_evaluation: personal models are outside of the guarantee; "
            "leave it out, or leave privacy out"
        )
    if experiment.compression.compression != NONE:
        raise experiment.compression.refused(
            "compression",
            "does not go with privacy; leave one of them out",
        )
    if not experiment.attack.is_none:
        raise experiment.attack.refused(
            "attack", "does not go with privacy; leave one of them out"
        )
    if experiment.baseline.train_on is not None:
        raise experiment.baseline.refused(
            "train_on", "does not go with privacy; leave one of them out"
        )


def audit(experiment: Description) -> None:
    """Checks that canaries can test the mechanism."""
    audit, privacy = experiment.audit, experiment.privacy
    if audit is None:
        return
    if not isinstance(privacy, UserLevelPrivacy):
        raise SettingError(
            "--audit: canaries test a mechanism of user-level privacy; give one, or "
            "leave the audit out"
        )
    if experiment.aggregator_name != "mean":
        raise SettingError(
            f"--aggregator={experiment.aggregator_name}: canaries examine the mean "
            "that a mechanism releases; give --aggregator=mean"
        )
    if experiment.devices.devices is not None:
        raise experiment.devices.refused(
            "devices", "do not go with an audit; leave one of them out"
        )
    if audit.sabotage == NONE:
        return
    if not _can_be_sabotaged(privacy.chosen):
        fitting = [n for n, chosen in MECHANISMS.items() if _can_be_sabotaged(chosen)]
        raise audit.refused(
            "sabotage",
            f"does not go with --mechanism={privacy.chosen.NAME}; give one of "
            f"{', '.join(fitting)}",
        )
    if privacy.ledger is not None:
        raise audit.refused(
            "sabotage", "would put false charges into --ledger; leave --ledger out"
        )


def _can_be_sabotaged(
    mechanism: Union[MechanismSettings, type[MechanismSettings]],
) -> bool:
    """Whether the toolkit's own code adds its noise to a clipped sum at the server."""
    ours = MECHANISMS.origin(mechanism.NAME) is None
    return ours and mechanism.NOISED_AT == "server"
