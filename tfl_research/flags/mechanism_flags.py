"""Flags of the mechanism of user-level differential privacy, and what fits it."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, Optional

from tfl_research.flags import declare
from tfl_research.flags.cohort_flags import SAMPLERS, SamplerFlags, WeightingFlags
from tfl_research.flags.declare import FlagError, FlagGroup
from tfl_research.privacy.mechanisms.catalogue import CATALOGUE, MECHANISMS, Entry


@dataclasses.dataclass(frozen=True)
class _Fit:
    """What goes with a mechanism.

    Attributes:
      fields: flags of `MechanismFlags` that belong to it.
      samplers: values of --sampler whose cohorts its account covers.
      weightings: values of --client_weighting that keep its sensitivity.
    """

    fields: tuple[str, ...] = ()
    samplers: tuple[str, ...] = ()
    weightings: tuple[str, ...] = ("uniform", "capped")


_INDEPENDENT = tuple(name for name in SAMPLERS if name != "cyclic_poisson")
_WHOLE = ("fixed", "shuffled", "full", "min_separation")
_DISTRIBUTED = ("modulus_bits", "minimum_cohort_size")
_FITS = {
    "gaussian": _Fit((), _INDEPENDENT, ("uniform",)),
    "adaptive_gaussian": _Fit(
        ("target_unclipped_quantile", "clip_learning_rate", "clipped_count_stddev"),
        _INDEPENDENT,
    ),
    "bounded_weight": _Fit(
        ("expected_client_weight", "clipped_denominator"), _INDEPENDENT, ("capped",)
    ),
    "tree": _Fit(
        ("restart_every", "tree_efficient"), ("min_separation", "shuffled", "full")
    ),
    "banded_matrix": _Fit(("bands",), ("min_separation", "cyclic_poisson")),
    "discrete_gaussian": _Fit(_DISTRIBUTED, _WHOLE, ("uniform",)),
    "skellam": _Fit(_DISTRIBUTED, _WHOLE, ("uniform",)),
    "local_gaussian": _Fit((), SAMPLERS),
}


def _help() -> str:
    lines = ["How updates are bounded and noised."]
    return "\n".join([*lines, *(f"{e.name}: {e.title}" for e in CATALOGUE.values())])


@dataclasses.dataclass(frozen=True)
class MechanismFlags(FlagGroup):
    """How updates are clipped, weighed and noised."""

    TITLE: ClassVar[str] = "Mechanism"

    mechanism: str = declare.choice("gaussian", _help(), MECHANISMS)
    l2_norm_clip: float = declare.real(
        1.0,
        "Largest l2 norm of an update; adaptive_gaussian starts there.",
        above=0,
    )
    target_unclipped_quantile: Optional[float] = declare.real(
        None,
        "adaptive_gaussian: share of updates that stay unclipped; 0.5.",
        minimum=0,
        maximum=1,
    )
    clip_learning_rate: Optional[float] = declare.real(
        None, "adaptive_gaussian: learning rate of the clip; 0.2.", above=0
    )
    clipped_count_stddev: Optional[float] = declare.real(
        None,
        "adaptive_gaussian: standard deviation of the noise on the clipped count; a "
        "twentieth of the cohort size.",
        above=0,
    )
    expected_client_weight: Optional[float] = declare.real(
        None,
        "bounded_weight: mean of min(n/cap, 1) over clients, which makes the "
        "denominator together with the cohort size; 1. Must not come from private "
        "data.",
        above=0,
        maximum=1,
    )
    clipped_denominator: Optional[bool] = declare.switch(
        None,
        "bounded_weight: divide by the cohort's weights, at least the denominator "
        "above (estimator f_c), at twice the noise.",
    )
    restart_every: Optional[int] = declare.integer(
        None, "tree: rounds of one tree; all --rounds when not given.", minimum=1
    )
    tree_efficient: Optional[bool] = declare.switch(
        None, "tree: Honaker's estimator, less noise at the same ε; on."
    )
    bands: Optional[int] = declare.integer(
        None,
        "banded_matrix: bands of the matrix, at most the sampler's separation; that "
        "when not given. 1 is independent noise.",
        minimum=1,
    )
    modulus_bits: Optional[int] = declare.integer(
        None,
        "discrete_gaussian, skellam: bits of a coordinate of the secure sum; 20.",
        minimum=2,
        maximum=30,
    )
    minimum_cohort_size: Optional[int] = declare.integer(
        None,
        "discrete_gaussian, skellam: clients whose noise shares make the noise; a "
        "round with fewer releases nothing; the cohort size.",
        minimum=1,
    )

    def check(self) -> None:
        """See `FlagGroup.check`."""
        own = _FITS[self.mechanism].fields
        for name, fit in _FITS.items():
            for field in fit.fields:
                if getattr(self, field) is not None and field not in own:
                    raise self.refused(
                        field, f"goes with --mechanism={name}, not {self.mechanism}"
                    )

    def check_with(self, sampler: SamplerFlags, weighting: WeightingFlags) -> None:
        """Checks what sampler and weights mean for the mechanism.

        Raises:
          FlagError: weights without a bound or that the mechanism does not take, or a
            sampler that its account does not cover.
        """
        fit = _FITS[self.mechanism]
        if weighting.client_weighting == "examples":
            raise FlagError(
                "--client_weighting=examples: example counts are unbounded, which "
                "breaks the guarantee; give --client_weighting=uniform, or "
                "--mechanism=bounded_weight --client_weighting=capped with --weight_cap"
            )
        if weighting.client_weighting not in fit.weightings:
            hint = f"--client_weighting={fit.weightings[0]}"
            if self.mechanism == "gaussian":
                hint += ", or --mechanism=bounded_weight"
            raise self.refused(
                "mechanism",
                f"does not take --client_weighting={weighting.client_weighting}; give "
                f"{hint}",
            )
        if sampler.sampler not in fit.samplers:
            raise self.refused(
                "mechanism",
                f"its account does not cover --sampler={sampler.sampler}; give "
                f"--sampler={' or '.join(fit.samplers)}",
            )
        if self.clipped_denominator and sampler.sampler != "poisson":
            raise self.refused(
                "clipped_denominator", "is analysed for --sampler=poisson; give that"
            )

    @property
    def entry(self) -> Entry:
        """What the mechanism is."""
        return CATALOGUE[self.mechanism]

    @property
    def distributed(self) -> bool:
        """Whether clients add the noise, so that it depends on the model's size."""
        return _FITS[self.mechanism].fields == _DISTRIBUTED

    def count_stddev_for(self, cohort_size: float) -> float:
        """Noise on adaptive clipping's count: as given, else 0.05 · cohort size."""
        if self.clipped_count_stddev is not None:
            return self.clipped_count_stddev
        return 0.05 * cohort_size

    def check_adaptive(self, noise_multiplier: float, cohort_size: float) -> None:
        """Checks that the noise can be split between updates and clipped count.

        The updates get z_Δ = (z^-2 - (2σ_b)^-2)^(-1/2) (Andrew et al. 2021, arXiv
        1905.03871, theorem 1), which needs z < 2σ_b.

        Raises:
          FlagError: it cannot.
        """
        stddev = self.count_stddev_for(cohort_size)
        if self.mechanism != "adaptive_gaussian" or noise_multiplier < 2 * stddev:
            return
        if self.clipped_count_stddev is not None:
            raise self.refused(
                "clipped_count_stddev",
                f"must be above half the noise multiplier, {noise_multiplier / 2:g}",
            )
        smallest = math.floor(10 * noise_multiplier) + 1
        raise FlagError(
            f"--mechanism=adaptive_gaussian: a noise multiplier of "
            f"{noise_multiplier:g} cannot be split for a cohort of {cohort_size:g}; "
            f"give --cohort_size={smallest} or more, or --clipped_count_stddev above "
            f"{noise_multiplier / 2:g}"
        )
