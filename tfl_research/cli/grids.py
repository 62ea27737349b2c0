"""Flags of sweeps: what a grid runs over."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Optional

from tfl_research.attacks.catalogue import ATTACKS
from tfl_research.flags import declare
from tfl_research.flags.aggregator_flags import AGGREGATORS, STACKED
from tfl_research.flags.declare import FlagGroup
from tfl_research.flags.lists import (
    epsilon_value,
    further_arguments,
    seed_value,
    values,
)
from tfl_research.privacy.mechanisms.catalogue import MECHANISMS

# Ends a rule that --neighbour_mixing goes before.
MIXED = "+mixing"


def _mechanism(text: str) -> str:
    if text not in MECHANISMS:
        raise ValueError(f"must be one of {', '.join(MECHANISMS)}")
    return text


@dataclasses.dataclass(frozen=True)
class PrivacyUtilityFlags(FlagGroup):
    """The grid of a privacy-utility curve."""

    TITLE: ClassVar[str] = "Sweep"

    epsilons: str = declare.text("0.5,1,2,4,8", "Target ε of the runs, with commas.")
    mechanisms: str = declare.text("gaussian", "Values of --mechanism, with commas.")
    seeds: str = declare.text("0", "Values of --seed, with commas.")
    mechanism_flags: tuple[str, ...] = declare.repeated(
        "Further flags for the runs of one mechanism, as "
        "'tree: --sampler=shuffled --restart_every=5'. May be repeated.",
    )

    def check(self) -> None:
        """See `FlagGroup.check`."""
        self.grid()
        self.further()

    def grid(self) -> tuple[list[str], list[float], list[int]]:
        """(mechanisms, ε, seeds)."""
        return (
            values(self, "mechanisms", _mechanism),
            values(self, "epsilons", epsilon_value),
            values(self, "seeds", seed_value),
        )

    def further(self) -> dict[str, list[str]]:
        """Further arguments by mechanism."""
        known = values(self, "mechanisms", _mechanism)
        return further_arguments(
            self,
            "mechanism_flags",
            "mechanisms",
            known,
            ("mechanism", "target_epsilon"),
        )


# Of the arguments of a rule and of an attack.
_SWEPT = {
    "rule_flags": ("aggregator",),
    "attack_flags": ("attack", "malicious_fraction"),
}


def _attack(text: str) -> str:
    known = ("none", *ATTACKS)
    if text not in known:
        raise ValueError(f"must be one of {', '.join(known)}")
    return text


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value <= 1:
        raise ValueError("must be a number above 0 and at most 1")
    return value


def _rule(text: str) -> str:
    name = text[: -len(MIXED)] if text.endswith(MIXED) else text
    if name not in (AGGREGATORS if name == text else STACKED):
        raise ValueError(
            f"must be one of {', '.join(AGGREGATORS)}, or a robust rule and {MIXED}"
        )
    return text


@dataclasses.dataclass(frozen=True)
class ByzantineGridFlags(FlagGroup):
    """The grid of attacks, rules and fractions of malicious clients."""

    TITLE: ClassVar[str] = "Sweep"

    attacks: str = declare.text(
        "none,sign_flip,alie,label_flip", "Values of --attack, with commas."
    )
    rules: str = declare.text(
        "mean,coordinate_median,trimmed_mean,krum,multi_krum,geometric_median",
        "Values of --aggregator, with commas; NAME+mixing is a rule with "
        "--neighbour_mixing.",
    )
    fractions: str = declare.text("0.2", "Values of --malicious_fraction, with commas.")
    seeds: str = declare.text("0", "Values of --seed, with commas.")
    byzantine: Optional[int] = declare.integer(
        None,
        "f that every rule is told; by default, for each fraction, the malicious "
        "clients that 99% of the cohorts have at most. Rules that need larger cohorts "
        "for it are left out.",
        minimum=0,
    )
    rule_flags: tuple[str, ...] = declare.repeated(
        "Further flags for the runs of one rule, as "
        "'centered_clipping: --clip_radius=1'. May be repeated.",
    )
    attack_flags: tuple[str, ...] = declare.repeated(
        "Further flags for the runs of one attack, as 'alie: --attack_scale=1.5'. May "
        "be repeated.",
    )

    def check(self) -> None:
        """See `FlagGroup.check`."""
        self.grid()
        self.further("rule_flags")
        self.further("attack_flags")

    def grid(self) -> tuple[list[str], list[str], list[float], list[int]]:
        """(attacks, rules, fractions, seeds)."""
        return (
            values(self, "attacks", _attack),
            values(self, "rules", _rule),
            values(self, "fractions", _fraction),
            values(self, "seeds", seed_value),
        )

    def further(self, field: str) -> dict[str, list[str]]:
        """Further arguments by rule (`rule_flags`) or by attack (`attack_flags`)."""
        owner, convert = {
            "rule_flags": ("rules", _rule),
            "attack_flags": ("attacks", _attack),
        }[field]
        known, swept = values(self, owner, convert), _SWEPT[field]
        return further_arguments(self, field, owner, known, swept)
