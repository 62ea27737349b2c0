"""Flags of sweeps: the values of a grid, and the points that they stand for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar, Optional

from tfl_research import settings
from tfl_research.aggregators import AGGREGATORS
from tfl_research.algorithms import ALGORITHMS
from tfl_research.attacks.catalogue import ATTACKS
from tfl_research.cli.flag_values.lists import (
    epsilon_value,
    fraction_value,
    further_settings,
    seed_value,
    split_settings,
)
from tfl_research.cli.preset import Preset
from tfl_research.experiment import Experiment, sweeps
from tfl_research.experiment.sweeps.byzantine import MIXED
from tfl_research.experiment.sweeps.grids import NATURAL
from tfl_research.privacy import MECHANISMS
from tfl_research.registry import SettingsRegistry
from tfl_research.settings import Settings, comma_separated

_FURTHER = "May be repeated."


def _one_of(choices: SettingsRegistry) -> Callable[[str], str]:
    def convert(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices.names())}")
        return text

    return convert


def _attack(text: str) -> str:
    known = ("none", *ATTACKS)
    if text not in known:
        raise ValueError(f"must be one of {', '.join(known)}")
    return text


def _rule(text: str) -> str:
    name = text[: -len(MIXED)] if text.endswith(MIXED) else text
    mixes = name in AGGREGATORS and "neighbour_mixing" in {
        field.name for field in settings.declared(AGGREGATORS.get(name))
    }
    if name not in AGGREGATORS or (name != text and not mixes):
        raise ValueError(
            f"must be one of {', '.join(AGGREGATORS.names())}, or a robust rule and "
            f"{MIXED}"
        )
    return text


def _alpha(text: str) -> str:
    if text == NATURAL:
        return text
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise ValueError(f"must be a number above 0, or {NATURAL}")
    return f"{value:g}"


@dataclasses.dataclass(frozen=True)
class _Grid(Settings):
    """The settings of every sweep."""

    parallel: int = settings.integer(
        1,
        "Number of points that run at a time, each in a process of its own. The sweep "
        "runs fewer at a time, and says so in a line, if memory is too small. The "
        "results are the same.",
        minimum=1,
    )


@dataclasses.dataclass(frozen=True)
class PrivacyUtilityGrid(_Grid):
    """The grid of a privacy-utility curve."""

    TITLE: ClassVar[str] = "Sweep"

    epsilons: str = settings.text(
        "0.5,1,2,4,8", "Target ε of the runs, separated by commas."
    )
    mechanisms: str = settings.text(
        "gaussian", "Values of --mechanism, separated by commas."
    )
    seeds: str = settings.text("0", "Values of --seed, separated by commas.")
    mechanism_flags: tuple[str, ...] = settings.repeated(
        "Further flags for the runs of one mechanism, as "
        f"'tree: --sampler=shuffled --restart_every=5'. {_FURTHER}",
    )

    @property
    def targets(self) -> list[float]:
        """The values of --epsilons.

        Raises:
          SettingError: a value is refused.
        """
        return comma_separated(self, "epsilons", epsilon_value)

    def points(self, base: Experiment, preset: Preset) -> list[sweeps.Point]:
        """Makes the runs of the sweep: each mechanism with each ε and seed.

        Args:
          base: the experiment that all runs share.
          preset: the flags that --mechanism_flags may set.

        Raises:
          SettingError: a value of a flag is refused.
        """
        mechanisms = comma_separated(self, "mechanisms", _one_of(MECHANISMS))
        further = further_settings(
            preset,
            self,
            "mechanism_flags",
            "mechanisms",
            mechanisms,
            ("mechanism", "target_epsilon", "noise_multiplier"),
        )
        return sweeps.privacy_utility(
            base,
            mechanisms=mechanisms,
            epsilons=self.targets,
            seeds=comma_separated(self, "seeds", seed_value),
            further=further,
        )


@dataclasses.dataclass(frozen=True)
class ByzantineGrid(_Grid):
    """The grid of attacks, rules and fractions of malicious clients."""

    TITLE: ClassVar[str] = "Sweep"

    attacks: str = settings.text(
        "none,sign_flip,alie,label_flip", "Values of --attack, separated by commas."
    )
    rules: str = settings.text(
        "mean,coordinate_median,trimmed_mean,krum,multi_krum,geometric_median",
        "Values of --aggregator, separated by commas; NAME+mixing is a rule with "
        "--neighbour_mixing.",
    )
    fractions: str = settings.text(
        "0.2", "Values of --malicious_fraction, separated by commas."
    )
    seeds: str = settings.text("0", "Values of --seed, separated by commas.")
    byzantine: Optional[int] = settings.integer(
        None,
        "f that every rule expects. By default f is, for each fraction, the number of "
        "malicious clients that 99% of the cohorts do not exceed. Rules that need "
        "larger cohorts for this f are left out.",
        minimum=0,
    )
    rule_flags: tuple[str, ...] = settings.repeated(
        "Further flags for the runs of one rule, as "
        f"'centered_clipping: --clip_radius=1'. {_FURTHER}",
    )
    attack_flags: tuple[str, ...] = settings.repeated(
        "Further flags for the runs of one attack, as 'alie: --attack_scale=1.5'. "
        f"{_FURTHER}",
    )

    def points(
        self, base: Experiment, preset: Preset
    ) -> tuple[list[sweeps.Point], list[str]]:
        """Makes the runs of the sweep: each rule with each attack, fraction and seed.

        Args:
          base: the experiment that all runs share.
          preset: the flags that --rule_flags and --attack_flags may set.

        Returns:
          The runs, and a line for each combination that is left out.

        Raises:
          SettingError: a value of a flag is refused.
        """
        names = comma_separated(self, "attacks", _attack)
        rules = comma_separated(self, "rules", _rule)
        return sweeps.byzantine_grid(
            base,
            names=names,
            rules=rules,
            fractions=comma_separated(self, "fractions", fraction_value),
            seeds=comma_separated(self, "seeds", seed_value),
            hostile=self.byzantine,
            by_rule=further_settings(
                preset, self, "rule_flags", "rules", rules, ("aggregator",)
            ),
            by_attack=further_settings(
                preset,
                self,
                "attack_flags",
                "attacks",
                names,
                ("attack", "malicious_fraction"),
            ),
        )


@dataclasses.dataclass(frozen=True)
class HeterogeneityGrid(_Grid):
    """The grid of algorithms and degrees of heterogeneity."""

    TITLE: ClassVar[str] = "Sweep"

    algorithms: str = settings.text(
        "fed_avg,fed_prox,scaffold,fed_dyn,fed_nova,fed_exp,mime_lite",
        "Values of --algorithm, separated by commas.",
    )
    alphas: str = settings.text(
        "0.1,1",
        "Values of --dirichlet_alpha (label skew; smaller is more heterogeneous), "
        f"separated by commas; {NATURAL} keeps the task's own clients.",
    )
    seeds: str = settings.text("0", "Values of --seed, separated by commas.")
    target: Optional[float] = settings.real(
        None,
        "Value of the selection metric that a run must reach. By default 95% of the "
        "best value that any run of the same heterogeneity has reached.",
    )
    algorithm_flags: tuple[str, ...] = settings.repeated(
        "Further flags for the runs of one algorithm, as "
        f"'mime_lite: --client_momentum=0.9'. {_FURTHER}",
    )

    def points(self, base: Experiment, preset: Preset) -> list[sweeps.Point]:
        """Makes the runs of the sweep: each algorithm with each alpha and seed.

        Args:
          base: the experiment that all runs share.
          preset: the flags that --algorithm_flags may set.

        Raises:
          SettingError: a value of a flag is refused.
        """
        algorithms = comma_separated(self, "algorithms", _one_of(ALGORITHMS))
        return sweeps.heterogeneity(
            base,
            algorithms=algorithms,
            alphas=comma_separated(self, "alphas", _alpha),
            seeds=comma_separated(self, "seeds", seed_value),
            further=further_settings(
                preset,
                self,
                "algorithm_flags",
                "algorithms",
                algorithms,
                ("algorithm", "partition", "dirichlet_alpha"),
            ),
        )


@dataclasses.dataclass(frozen=True)
class CrossSiloGrid(_Grid):
    """The settings of a comparison: the compared runs, and which model is compared."""

    TITLE: ClassVar[str] = "Comparison"

    algorithms: str = settings.text(
        "fed_avg", "Values of --algorithm, separated by commas."
    )
    record_epsilons: str = settings.text(
        "",
        "Also run federated averaging with record-level privacy (DP-SGD in every "
        "silo): values of --record_target_epsilon, separated by commas.",
    )
    seeds: str = settings.text("0", "Values of --seed, separated by commas.")
    compared_model: str = settings.choice(
        "final",
        "The model whose metrics the tables show: the final model, or the best model "
        "by --selection_metric. The best model's metrics are a little too good, since "
        "the same test examples chose the round.",
        ("final", "best"),
    )
    algorithm_flags: tuple[str, ...] = settings.repeated(
        "Further flags for the runs of one algorithm, as "
        f"'scaffold: --scaffold_option=1'. {_FURTHER}",
    )
    record_flags: tuple[str, ...] = settings.repeated(
        "Further flags for the runs with record-level privacy, as "
        f"'--client_learning_rate=0.5'. {_FURTHER}",
    )

    def points(
        self, base: Experiment, federated: Preset, private: Preset
    ) -> list[sweeps.Point]:
        """Makes the runs of the comparison: each algorithm, ε of records, and seed.

        Args:
          base: the experiment that all runs share.
          federated: the flags that --algorithm_flags may set.
          private: the flags that --record_flags may set.

        Raises:
          SettingError: a value of a flag is refused.
        """
        algorithms = comma_separated(self, "algorithms", _one_of(ALGORITHMS))
        swept = ("record_target_epsilon", "record_noise_multiplier", "sampler")
        record: dict[str, object] = {}
        for text in self.record_flags:
            record.update(split_settings(private, "record_flags", text, text, swept))
        epsilons = self.record_epsilons
        return sweeps.cross_silo(
            base,
            algorithms=algorithms,
            record_epsilons=(
                comma_separated(self, "record_epsilons", epsilon_value)
                if epsilons
                else []
            ),
            seeds=comma_separated(self, "seeds", seed_value),
            further=further_settings(
                federated,
                self,
                "algorithm_flags",
                "algorithms",
                algorithms,
                ("algorithm", "sampler"),
            ),
            record_further=record,
        )
