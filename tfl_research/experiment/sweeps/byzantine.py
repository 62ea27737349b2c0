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

# Column of results.csv that has the backdoor's success rate.
BACKDOOR = f"{BACKDOOR_SPLIT}_accuracy"
# Ends a rule that neighbour mixing goes before.
MIXED = "+mixing"


def expected_byzantine(ready: setup.Setup, fraction: float) -> int:
    """f that rules are told: what 99% of the cohorts have at most.

    Args:
      ready: of the base experiment.
      fraction: of malicious clients.
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
    """The settings that a rule of the grid stands for, and why it cannot be.

    f is given to rules that need it, and to others where a cohort of `largest` is
    enough for it.

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
    # A trimmed mean takes off as many as are hostile where no count is given.
    needs |= "trim" in {field.name for field in declared(chosen)}
    if name != rule:
        settings["neighbour_mixing"] = True
        per_byzantine, needs = max(per_byzantine, 2), True
    needed = max(per_byzantine * byzantine + chosen.AT_LEAST, 1)
    if needs and needed > largest:
        return {**settings, **given}, (
            f"needs cohorts of at least {needed} clients where {byzantine} are "
            f"malicious ({chosen.SOURCE}), has at most {largest}"
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
    """Attacks, rules and malicious fractions, and which rules are left out and why.

    Args:
      base: an experiment whose attack and aggregator the grid sets.
      names: attacks, or "none".
      rules: aggregators, or NAME+mixing.
      fractions: malicious shares of the clients.
      seeds: of the runs.
      hostile: f that every rule is told; `expected_byzantine` by default.
      by_rule: further settings by rule.
      by_attack: further settings by attack.

    Raises:
      SettingError: a value that is refused, or nothing is left to run.

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
    """Rows of results.csv with a column "attacked by": the attack and its fraction."""
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
