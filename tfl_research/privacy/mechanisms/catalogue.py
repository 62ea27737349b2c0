"""Every mechanism of user-level differential privacy, by name, with its papers."""

from __future__ import annotations

import dataclasses

from tfl_research.privacy.accounting.events import KINDS


@dataclasses.dataclass(frozen=True)
class Entry:
    """What a mechanism is.

    Attributes:
      name: of the mechanism, as --mechanism takes it.
      summary: what it does, in a few words.
      papers: author and year with the arXiv number, the main one first.
      event_kind: kind of the event that it is charged as, see `privacy.events`.
    """

    name: str
    summary: str
    papers: tuple[str, ...]
    event_kind: str

    def __post_init__(self) -> None:
        if self.event_kind not in KINDS:
            raise ValueError(f"event_kind must be one of {KINDS}: {self.event_kind!r}")

    @property
    def title(self) -> str:
        """Summary and papers in one line."""
        return f"{self.summary} ({'; '.join(self.papers)})"


_ENTRIES = (
    Entry(
        "gaussian",
        "fixed clip, independent Gaussian noise each round",
        ("McMahan et al. 2018, arXiv 1710.06963",),
        "gaussian",
    ),
    Entry(
        "adaptive_gaussian",
        "Gaussian noise, the clip follows a private quantile of the norms",
        ("Andrew et al. 2021, arXiv 1905.03871",),
        "gaussian",
    ),
    Entry(
        "bounded_weight",
        "Gaussian noise, clients weighed by their capped example counts, over a "
        "denominator that is fixed or bounded below",
        ("McMahan et al. 2018, arXiv 1710.06963, estimators f_f and f_c",),
        "gaussian",
    ),
    Entry(
        "tree",
        "DP-FTRL: noise correlated over rounds by binary trees, with restarts",
        (
            "Kairouz et al. 2021, arXiv 2103.00039",
            "efficient estimator: Honaker 2015",
        ),
        "tree",
    ),
    Entry(
        "banded_matrix",
        "noise correlated over rounds by an optimised banded matrix, for clients "
        "that take part several times with a minimum separation",
        ("Choquette-Choo et al. 2023, arXiv 2306.08153",),
        "banded_matrix",
    ),
    Entry(
        "discrete_gaussian",
        "distributed: clients add integer noise under a secure sum",
        ("Kairouz et al. 2021, arXiv 2102.06387",),
        "discrete_gaussian",
    ),
    Entry(
        "skellam",
        "distributed: clients add Skellam noise under a secure sum",
        ("Agarwal et al. 2021, arXiv 2110.04995",),
        "skellam",
    ),
    Entry(
        "local_gaussian",
        "local: each client noises its own update, no trust in the server",
        ("Kasiviswanathan et al. 2011, arXiv 0803.0924",),
        "local_gaussian",
    ),
)
CATALOGUE = {entry.name: entry for entry in _ENTRIES}
MECHANISMS = tuple(CATALOGUE)
