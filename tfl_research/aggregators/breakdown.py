"""How many clients a robust rule needs, and what is said where there are too few.

Plain numbers, without TensorFlow, so that flags can be checked before it is imported.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Optional, Union


@dataclasses.dataclass(frozen=True)
class Requirement:
    """A rule keeps its promise with n >= per_byzantine · f + at_least rows.

    Attributes:
      per_byzantine: rows for every hostile row.
      at_least: rows beyond them.
      source: where the condition is from.
      weighted: whether the literature defines the rule for weighted rows.
      needs: parameters of `RobustRule` that must be given.
    """

    per_byzantine: int
    at_least: int
    source: str
    weighted: bool = False
    needs: tuple[str, ...] = ()


RULES: Mapping[str, Requirement] = {
    "mean": Requirement(0, 1, "no robust rule", True),
    "coordinate_median": Requirement(
        2, 1, "arXiv 1803.01498, Theorem 1: α < 1/2", True
    ),
    "trimmed_mean": Requirement(
        2, 1, "arXiv 1803.01498, Definition 2: β < 1/2", True, ("trim",)
    ),
    "krum": Requirement(2, 3, "arXiv 1703.02757: 2f + 2 < n", needs=("byzantine",)),
    "multi_krum": Requirement(
        2, 3, "arXiv 1703.02757: 2f + 2 < n", needs=("byzantine",)
    ),
    "bulyan": Requirement(4, 3, "arXiv 1802.07927: n >= 4f + 3", needs=("byzantine",)),
    "geometric_median": Requirement(2, 1, "arXiv 1912.13445: less than half", True),
    "centered_clipping": Requirement(
        10, 0, "arXiv 2012.10333: δ <= 0.1", needs=("radius",)
    ),
    "mean_around_median": Requirement(
        2, 1, "arXiv 1802.10116: 2q < m", needs=("byzantine",)
    ),
    "norm_clipping": Requirement(0, 1, "bounds each row's part", True, ("radius",)),
    "sign_majority": Requirement(2, 1, "arXiv 1810.05291: less than half", True),
}


@dataclasses.dataclass(frozen=True)
class RobustRule:
    """A rule of `aggregators.rules` by name, with its parameters.

    Attributes:
      name: one of `RULES`.
      byzantine: f, clients of a cohort that may be hostile; None for rules that do
        not ask for it, which then take what comes.
      trim: of `rules.trimmed_mean`, a count or a ratio; `byzantine` by default.
      select: of `rules.multi_krum`.
      radius: of `rules.norm_clipping` and `rules.centered_clipping`.
      iterations: of `rules.centered_clipping`.
      center_momentum: β in [0, 1) of the centre that centered clipping keeps between
        rounds, c <- β c + (1 - β) result; 0, the paper's, keeps the last result.
      weighted: whether client weights count beyond telling who is present. The rule
        then withstands hostile clients of less than half of the weight: with
        `byzantine` given, a round in which the heaviest f have half of it is broken.
        A trimmed mean takes off the share b / n of the weight, and no more.
      neighbour_mixing: whether rows are mixed first (`rules.nearest_neighbour_mixing`).
      bucket_size: rows in a bucket (`rules.bucketing`); 1 for none. Rows are bucketed
        before they are mixed.
      seed: of the buckets.

    Raises:
      ValueError: an unknown name, or parameters that are missing, out of their range
        or of another rule.
    """

    name: str
    byzantine: Optional[int] = None
    trim: Optional[Union[int, float]] = None
    select: Optional[int] = None
    radius: Optional[float] = None
    iterations: int = 1
    center_momentum: float = 0.0
    weighted: bool = False
    neighbour_mixing: bool = False
    bucket_size: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.name not in RULES:
            raise ValueError(
                f"a robust rule must be one of {', '.join(RULES)}, got {self.name!r}"
            )
        _check_whole("byzantine", self.byzantine, 0)
        _check_whole("select", self.select, 1)
        _check_whole("iterations", self.iterations, 1)
        _check_whole("bucket_size", self.bucket_size, 1)
        if self.name == "trimmed_mean" and self.trim is None:
            object.__setattr__(self, "trim", self.byzantine)
        needed = RULES[self.name].needs
        needed += ("byzantine",) if self.neighbour_mixing else ()
        for parameter in needed:
            if getattr(self, parameter) is None:
                what = "neighbour mixing" if self.neighbour_mixing else self.name
                raise ValueError(f"{what} needs {parameter}, got None")
        owners = {
            "trim": ("trimmed_mean",),
            "select": ("multi_krum",),
            "radius": ("norm_clipping", "centered_clipping"),
        }
        for parameter, names in owners.items():
            if getattr(self, parameter) is not None and self.name not in names:
                raise ValueError(
                    f"{parameter} is a parameter of {' and '.join(names)}, got it for "
                    f"{self.name}"
                )
        if isinstance(self.trim, float):
            if not 0 <= self.trim < 0.5:
                raise ValueError(f"a trim ratio must be in [0, 0.5), got {self.trim}")
            if self.trim * self.bucket_size >= 0.5:
                # As many buckets are spoilt as clients are hostile.
                raise ValueError(
                    "a trim ratio is one of clients: times bucket_size it must be "
                    f"below 0.5, got {self.trim:g} of buckets of {self.bucket_size}"
                )
        else:
            _check_whole("trim", self.trim, 0)
        if (
            self.trim is not None
            and self.byzantine is not None
            and not isinstance(self.trim, float)
            and self.trim < self.byzantine
        ):
            raise ValueError(
                f"trim must be at least byzantine, got {self.trim} for {self.byzantine}"
            )
        if self.radius is not None and not 0 < self.radius < math.inf:
            raise ValueError(f"radius must be positive and finite, got {self.radius}")
        if not 0 <= self.center_momentum < 1:
            raise ValueError(
                f"center_momentum must be in [0, 1), got {self.center_momentum}"
            )
        if self.weighted and not RULES[self.name].weighted:
            raise ValueError(
                f"{self.name} is defined for equal weights only; use uniform client "
                "weighting"
            )
        if self.weighted and (self.neighbour_mixing or self.bucket_size > 1):
            raise ValueError(
                "mixing and bucketing are defined for equal weights only; use uniform "
                "client weighting"
            )

    @property
    def hostile(self) -> Optional[int]:
        """f that the rule withstands: `byzantine`, or a count of `trim`; or None."""
        if self.byzantine is None and isinstance(self.trim, int):
            return self.trim
        return self.byzantine

    @property
    def per_byzantine(self) -> int:
        """Rows (after bucketing) that are needed for every hostile row."""
        if isinstance(self.trim, float):
            # A share of the cohort is always less than half of it.
            return 2 if self.byzantine else 0
        least = 2 if self.neighbour_mixing else 0
        return max(RULES[self.name].per_byzantine, least)

    @property
    def at_least(self) -> int:
        """Rows (after bucketing) that are needed beyond those."""
        return RULES[self.name].at_least

    @property
    def smallest_cohort(self) -> int:
        """The smallest cohort in which the rule keeps its promise."""
        rows = max(self.per_byzantine * (self.hostile or 0) + self.at_least, 1)
        return (rows - 1) * self.bucket_size + 1

    def describe(self) -> str:
        """The rule with what its condition depends on, in words."""
        words = [self.name]
        if self.hostile:
            words.append(f"for {self.hostile} hostile clients")
        if self.bucket_size > 1:
            words.append(f"on buckets of {self.bucket_size}")
        return " ".join(words)


def _check_whole(name: str, value: Optional[int], minimum: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ValueError(
            f"{name} must be a whole number of at least {minimum}, got {value!r}"
        )


def check_cohort(
    rule: RobustRule, smallest: int, largest: int, *, has_policy: bool
) -> None:
    """Checks a rule's condition on n against the cohorts that a sampler draws.

    Args:
      rule: with its f.
      smallest: `Sampler.minimum_cohort_size`.
      largest: `Sampler.maximum_cohort_size`.
      has_policy: whether it was said what happens in a round with fewer clients.

    Raises:
      ValueError: no cohort is large enough, or some are not and nothing was said
        about them.
    """
    needed = rule.smallest_cohort
    source = RULES[rule.name].source
    if needed > largest:
        raise ValueError(
            f"{rule.describe()} needs cohorts of at least {needed} clients ({source}), "
            f"got at most {largest}"
        )
    if needed > smallest and not has_policy:
        raise ValueError(
            f"{rule.describe()} needs cohorts of at least {needed} clients ({source}), "
            f"but a round can have as few as {smallest}: say what happens then"
        )
