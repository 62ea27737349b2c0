"""Flags of a comparison of algorithms over degrees of heterogeneity."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Optional

from tfl_research.flags import declare
from tfl_research.flags.algorithm_flags import ALGORITHMS
from tfl_research.flags.declare import FlagGroup
from tfl_research.flags.lists import further_arguments, seed_value, values

NATURAL = "natural"
_SWEPT = ("algorithm", "partition", "dirichlet_alpha")


def _algorithm(text: str) -> str:
    if text not in ALGORITHMS:
        raise ValueError(f"must be one of {', '.join(ALGORITHMS)}")
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
class HeterogeneityFlags(FlagGroup):
    """The grid of algorithms and degrees of heterogeneity."""

    TITLE: ClassVar[str] = "Sweep"

    algorithms: str = declare.text(
        "fed_avg,fed_prox,scaffold,fed_dyn,fed_nova,fed_exp,mime_lite",
        "Values of --algorithm, with commas.",
    )
    alphas: str = declare.text(
        "0.1,1",
        "Values of --dirichlet_alpha (label skew; smaller is more heterogeneous), with "
        f"commas; {NATURAL} keeps the task's own clients.",
    )
    seeds: str = declare.text("0", "Values of --seed, with commas.")
    target: Optional[float] = declare.real(
        None,
        "Value of the selection metric to be reached; by default 95% of the best that "
        "any run of the same heterogeneity has reached.",
    )
    algorithm_flags: tuple[str, ...] = declare.repeated(
        "Further flags for the runs of one algorithm, as "
        "'mime_lite: --client_momentum=0.9'. May be repeated.",
    )

    def check(self) -> None:
        """See `FlagGroup.check`."""
        self.grid()
        self.further()

    def grid(self) -> tuple[list[str], list[str], list[int]]:
        """(algorithms, degrees of heterogeneity, seeds)."""
        return (
            values(self, "algorithms", _algorithm),
            values(self, "alphas", _alpha),
            values(self, "seeds", seed_value),
        )

    def further(self) -> dict[str, list[str]]:
        """Further arguments by algorithm."""
        known = values(self, "algorithms", _algorithm)
        return further_arguments(self, "algorithm_flags", "algorithms", known, _SWEPT)
