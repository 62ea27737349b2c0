"""Computes ε of different rounds and releases from privacy loss distributions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.accounting.losses import gaussian
from tfl_research.privacy.accounting.losses.mixed_gaussians import (
    GrowingCurve,
    mixed_epsilon,
)


@dataclasses.dataclass(frozen=True)
class Parts:
    """The privacy losses of pairs (event, count), by their form.

    Attributes:
      gaussians: for each kind of Gaussian: noise over sensitivity, sampling rate (1 if
        not sampled), count.
      pure: for each kind of release of pure DP: ε of a release, count.
    """

    gaussians: tuple[tuple[float, float, int], ...]
    pure: tuple[tuple[float, int], ...]

    @classmethod
    def of(cls, pairs: Sequence[tuple[Event, int]]) -> Parts | None:
        """Decomposes the pairs; returns None if an event has no loss of these forms."""
        gaussians, pure = [], []
        for event, count in pairs:
            release = event.as_pure_rounds(count)
            part = None if release is not None else _gaussian_part(event, count)
            if release is not None:
                pure.append(release)
            elif part is not None:
                gaussians.append(part)
            else:
                return None
        return cls(tuple(gaussians), tuple(pure))

    @property
    def noiseless(self) -> bool:
        """Whether a part has no noise, so that ε is infinite."""
        return any(not noise > 0 for noise, _, _ in self.gaussians)

    def joined(self) -> tuple[list[tuple[float, float, int]], float]:
        """Returns the sampled Gaussians, and the precision of all other Gaussians.

        The Gaussians that are not sampled compose to one Gaussian; its precision is
        (sensitivity over noise)².
        """
        sampled = [part for part in self.gaussians if part[1] < 1]
        return sampled, math.fsum(
            count / noise**2 for noise, rate, count in self.gaussians if rate == 1
        )


def epsilon(pairs: Sequence[tuple[Event, int]], delta: float) -> float | None:
    """Computes ε of pairs (event, count); returns None if a loss is not known.

    Args:
      pairs: see `composition.composed_epsilon`; all have one neighbouring relation.
      delta: target δ.
    """
    parts = Parts.of(pairs)
    if parts is None:
        return None
    if parts.noiseless:
        return math.inf
    sampled, precision = parts.joined()
    if not sampled and not parts.pure:
        return float(gaussian.epsilons(np.sqrt([precision]), delta)[0])
    # The noise is relative to the sensitivity, so the relation does not matter here.
    if precision:
        sampled.append((precision**-0.5, 1.0, 1))
    relation = pairs[0][0].neighbouring_relation
    found = mixed_epsilon(sampled, delta, relation, parts.pure)
    if not sampled:
        # Pure releases alone cost no more than the sum of their ε.
        found = min(found, math.fsum(count * one for one, count in parts.pure))
    return found


def growing(
    event: Event, beside: Sequence[tuple[Event, int]], delta: float
) -> GrowingCurve | None:
    """Makes the ε curve over an event's rounds, composed with further pairs.

    The result is None if the rounds are no sampled Gaussians, or have no noise.
    Gaussians that are not sampled compose in closed form.
    """
    base, part = Parts.of(beside), Parts.of([(event, 1)])
    if base is None or part is None or base.noiseless or part.noiseless:
        return None
    if not event.composes_by_round or not part.gaussians or part.gaussians[0][1] == 1:
        return None
    gaussians, precision = base.joined()
    if precision:
        gaussians.append((precision**-0.5, 1.0, 1))
    (of_round,) = part.gaussians
    relation = event.neighbouring_relation
    return GrowingCurve(of_round, gaussians, base.pure, delta, relation)


def _gaussian_part(event: Event, rounds: int) -> tuple[float, float, int] | None:
    """Returns the rounds as a part of `mixed_gaussians.mixed_epsilon`, or None."""
    if "pld" not in event.accountants:
        return None
    equal = event.as_gaussian_rounds(rounds)
    if equal is not None:
        step, count = equal
        rate = step.sampling_rate if step.amplified else 1.0
        return step.sensitivity_multiplier, rate, count
    noise = event.effective_noise_multiplier(rounds)
    return None if noise is None else (noise, 1.0, 1)
