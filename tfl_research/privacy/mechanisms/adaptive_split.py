"""Splits the noise of adaptive clipping between updates and clipped count."""

from __future__ import annotations


def value_noise_multiplier(
    noise_multiplier: float, clipped_count_stddev: float
) -> float:
    """Computes the noise multiplier of the updates under adaptive clipping.

    z_Δ = (z^-2 - (2 σ_b)^-2)^(-1/2) (Andrew et al. 2021, arXiv 1905.03871, Theorem 1).

    Raises:
      ValueError: z is at least 2 σ_b, so the count alone would use all of the noise.
    """
    if noise_multiplier == 0:
        return 0.0
    if noise_multiplier >= 2 * clipped_count_stddev:
        raise ValueError(
            f"adaptive clipping cannot reach noise multiplier {noise_multiplier} with "
            f"a clipped-count stddev of {clipped_count_stddev}: expected a stddev "
            f"above {noise_multiplier / 2} (by default 0.05 x the expected cohort, so "
            f"a cohort above {10 * noise_multiplier:g} clients)"
        )
    return (noise_multiplier**-2 - (2 * clipped_count_stddev) ** -2) ** -0.5
