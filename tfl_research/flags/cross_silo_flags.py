"""Flags of a comparison of federation with silos alone and with pooled data."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from tfl_research.flags import declare
from tfl_research.flags.algorithm_flags import ALGORITHMS
from tfl_research.flags.declare import FlagGroup
from tfl_research.flags.lists import (
    epsilon_value,
    further_arguments,
    seed_value,
    split_arguments,
    values,
)

_SWEPT = ("algorithm", "sampler")
_RECORD_SWEPT = ("record_target_epsilon", "record_noise_multiplier", "sampler")


def _algorithm(text: str) -> str:
    if text not in ALGORITHMS:
        raise ValueError(f"must be one of {', '.join(ALGORITHMS)}")
    return text


@dataclasses.dataclass(frozen=True)
class CrossSiloFlags(FlagGroup):
    """What is compared."""

    TITLE: ClassVar[str] = "Comparison"

    algorithms: str = declare.text("fed_avg", "Values of --algorithm, with commas.")
    record_epsilons: str = declare.text(
        "",
        "Also federated averaging with record-level privacy (DP-SGD in every silo): "
        "values of --record_target_epsilon, with commas.",
    )
    seeds: str = declare.text("0", "Values of --seed, with commas.")
    compared_model: str = declare.choice(
        "final",
        "Whose metrics the tables have: the final model's, or the best's by "
        "--selection_metric, which are a little too good, for the same test examples "
        "chose the round.",
        ("final", "best"),
    )
    algorithm_flags: tuple[str, ...] = declare.repeated(
        "Further flags for the runs of one algorithm, as "
        "'scaffold: --scaffold_option=1'. May be repeated.",
    )
    record_flags: tuple[str, ...] = declare.repeated(
        "Further flags for the runs with record-level privacy, as "
        "'--client_learning_rate=0.5'. May be repeated.",
    )

    def check(self) -> None:
        """See `FlagGroup.check`."""
        self.grid()
        self.further()
        _ = self.record_arguments

    def grid(self) -> tuple[list[str], list[float], list[int]]:
        """(algorithms, ε of record-level privacy, seeds)."""
        private = self.record_epsilons
        return (
            values(self, "algorithms", _algorithm),
            values(self, "record_epsilons", epsilon_value) if private else [],
            values(self, "seeds", seed_value),
        )

    @property
    def record_arguments(self) -> list[str]:
        """Further arguments of the runs with record-level privacy."""
        return [
            part
            for text in self.record_flags
            for part in split_arguments("record_flags", text, text, _RECORD_SWEPT)
        ]

    def further(self) -> dict[str, list[str]]:
        """Further arguments by algorithm."""
        known = values(self, "algorithms", _algorithm)
        return further_arguments(self, "algorithm_flags", "algorithms", known, _SWEPT)
