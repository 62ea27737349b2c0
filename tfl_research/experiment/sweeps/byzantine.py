"""Grids of attacks, robust rules and malicious fractions."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Optional

from tfl_research import attacks
from tfl_research.aggregators import AGGREGATORS, RuleSettings
from tfl_research.errors import SettingError
from tfl_research.experiment import setup
from tfl_research.experiment.configs.attack import BACKDOOR_SPLIT, NONE
from tfl_research.experiment.experiment import Experiment
from tfl_research.experiment.sweeps.grids import Further, check_base, own_settings
from tfl_research.experiment.sweeps.point import Point
from tfl_research.settings import declared

# The column of results.csv with the backdoor's success rate.
BACKDOOR = f"{BACKDOOR_SPLIT}_accuracy"
# The end of a rule's name if neighbour mixing comes before the rule.
MIXED = "+mixing"


def expected_byzantine(ready: setup.Setup, fraction: float) -> int:
    """Returns f for rules: 99% of the cohorts have at most f malicious clients.

    Args:
      ready: the setup of the base experiment.
      fraction: the share of malicious clients.
    """
    clients = len(ready.asked.client_ids)
    sampler = str(ready.experiment.resolved_cohorts.sampler)
    return attacks.malicious_in_cohort(
        clients,
        attacks.malicious_count(clients, fraction),
        ready.asked.expected_cohort_size,
        independent=sampler.endswith("poisson"),
    )


def rule_settings(
    rule: str, byzantine: int, largest: int, given: Mapping[str, Any]
) -> tuple[dict[str, Any], Optional[str]]:
    """Returns the settings of a rule of the grid, or why the rule cannot be used.

    Rules that need f get f. Other rules get f if a cohort of `largest` is enough.

    Args:
      rule: name of an aggregator, or NAME+mixing.
      byzantine: f.
      largest: `Sampler.maximum_cohort_size`.
      given: further settings of the rule.

    Returns:
      The settings, and None or the reason for which no cohort is large enough.
    """
    name = rule[: -len(MIXED)] if rule.endswith(MIXED) else rule
    chosen = AGGREGATORS.get(name)
    settings: dict[str, Any] = {"aggregator": name}
    if not issubclass(chosen, RuleSettings):
        return {**settings, **given}, None
    per_byzantine, needs = chosen.PER_BYZANTINE, chosen.NEEDS_BYZANTINE
    # By default, a trimmed mean cuts off as many values as there are hostile clients.
    needs |= "trim" in {field.name for field in declared(chosen)}
    if name != rule:
        settings["neighbour_mixing"] = True
        per_byzantine, needs = max(per_byzantine, 2), True
    needed = max(per_byzantine * byzantine + chosen.AT_LEAST, 1)
    if needs and needed > largest:
        return {**settings, **given}, (
            f"needs cohorts of at least {needed} clients where {byzantine} are "
            f"malicious ({chosen.SOURCE}), but a cohort has at most {largest}"
        )
    if needed <= largest:
        settings["byzantine"] = byzantine
    return {**settings, "on_breakdown": "skip", **given}, None


def byzantine_grid(
    base: Experiment,
    *,
    names: Sequence[str],
    rules: Sequence[str],
    fractions: Sequence[float],
    seeds: Sequence[int],
    hostile: Optional[int] = None,
    by_rule: Optional[Further] = None,
    by_attack: Optional[Further] = None,
) -> tuple[list[Point], list[str]]:
    """Makes a grid of attacks, rules and malicious fractions.

    Args:
      base: an experiment whose attack and aggregator the grid sets.
      names: names of attacks, or "none".
      rules: names of aggregators, or NAME+mixing.
      fractions: shares of malicious clients.
      seeds: seeds of the runs.
      hostile: f for every rule; `expected_byzantine` by default.
      by_rule: further settings by rule.
      by_attack: further settings by attack.

    Returns:
      The points, and a text for each rule that is left out, with the reason.

    Raises:
      SettingError: a value is refused, or no point is left.

    Example:
      >>> from tfl_research.experiment import sweeps
      >>> points, left_out = sweeps.byzantine_grid(
      ...     tfl.Experiment("mnist", weighting=tfl.Weighting("uniform")),
      ...     names=["none", "sign_flip"],
      ...     rules=["mean", "coordinate_median", "bulyan"],
      ...     fractions=[0.2],
      ...     seeds=[0],
      ... )
      >>> [point.name for point in points][:2]
      ['none-mean-0.2-0', 'sign_flip-mean-0.2-0']
      >>> left_out
      ['bulyan at 0.2: needs cohorts of at least ...']
    """
    check_base(base)
    ready = setup.prepare(base)
    points: list[Point] = []
    left_out: list[str] = []
    for fraction, rule in itertools.product(fractions, rules):
        count = expected_byzantine(ready, fraction) if hostile is None else hostile
        given = own_settings((by_rule or {}).get(rule), "aggregator")
        settings, why = rule_settings(
            rule, count, ready.asked.maximum_cohort_size, given
        )
        if why is not None:
            left_out.append(f"{rule} at {fraction:g}: {why}")
            continue
        for attack, seed in itertools.product(names, seeds):
            given = own_settings(
                (by_attack or {}).get(attack), "attack", "malicious_fraction"
            )
            own = {**settings, "attack": attack, **given}
            if attack != NONE:
                own["malicious_fraction"] = fraction
            labels = {
                "attack": attack,
                "rule": rule,
                "fraction": fraction,
                "byzantine": count,
                "seed": seed,
            }
            points.append(
                Point.changed(
                    f"{attack}-{rule}-{fraction:g}-{seed}",
                    base,
                    labels,
                    seed=seed,
                    **own,
                )
            )
    if not points:
        raise SettingError(f"--rules={','.join(rules)}: {'; '.join(left_out)}")
    return points, left_out


def with_places(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Adds a column "attacked by" to rows of results.csv: attack and fraction."""
    one = len({row["fraction"] for row in rows}) == 1
    return [
        {
            **row,
            "attacked by": row["attack"]
            if one
            else f"{row['attack']} {row['fraction']:g}",
        }
        for row in rows
    ]
