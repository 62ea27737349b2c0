"""Computes lower confidence bounds on ε from guesses which canaries took part."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import special, stats


@dataclasses.dataclass(frozen=True)
class OneRunBound:
    """A lower confidence bound on ε at one δ.

    Attributes:
      epsilon: with probability `confidence` or more, the true ε is at least this
        number; 0 if there is no evidence.
      confidence: the confidence of the bound.
      delta: δ of the claim that is tested.
      canaries: number of canaries, each with a fair coin.
      guesses: number of canaries with a guess, fixed before the run.
      correct: number of right guesses.
      largest: the bound if all guesses were right, which is the largest possible bound.
    """

    epsilon: float
    confidence: float
    delta: float
    canaries: int
    guesses: int
    correct: int
    largest: float


def one_run_p_value(
    correct: int, guesses: int, canaries: int, epsilon: float, delta: float
) -> float:
    """Bounds the probability of at least this many right guesses under (ε, δ)-DP.

    Steinke, Nasr and Jagielski 2023 (arXiv 2305.08846), Theorem 5.2: up to a term in δ,
    V ~ Binomial(r, e^ε / (1 + e^ε)) dominates the number W of right guesses among r:
    P[W >= v] <= P[V >= v] + 2 m δ max_i P[v > V >= v - i] / i.
    """
    rate = special.expit(epsilon)
    tail = stats.binom.sf(correct - 1, guesses, rate)
    i = np.arange(1, correct + 1)
    below = stats.binom.sf(correct - i - 1, guesses, rate) - tail
    alpha = np.max(below / i, initial=0.0)
    return float(min(tail + 2 * canaries * delta * alpha, 1.0))


def _smallest_plausible(
    correct: int, guesses: int, canaries: int, delta: float, level: float
) -> float:
    """Finds the ε below which (ε, δ)-DP is rejected at this level."""

    def rejected(epsilon: float) -> bool:
        return one_run_p_value(correct, guesses, canaries, epsilon, delta) <= level

    if guesses == 0 or not rejected(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while rejected(high):
        low, high = high, 2 * high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if rejected(middle) else (low, middle)
    return low


def one_run_lower_bound(
    scores: np.ndarray,
    included: np.ndarray,
    *,
    delta: float,
    confidence: float = 0.95,
    guess_fraction: float = 0.5,
) -> OneRunBound:
    """Computes a lower confidence bound on ε from one run with canaries.

    This is Algorithm 1 of Steinke, Nasr and Jagielski 2023 (arXiv 2305.08846). The
    guess is that the canaries with the highest scores took part, and that equally many
    canaries with the lowest scores did not take part. There is no guess for the other
    canaries. The bound holds for every mechanism, statistic and dimension, and the
    scores need not be independent. The bound needs a fair, independent coin for each
    canary, and scores that depend on the coins only through the mechanism's releases.
    Neighbours are a population with and without a client.

    Args:
      scores: float `[canaries]`; a larger score makes participation more likely.
      included: bool `[canaries]`, the coins.
      delta: δ in [0, 1).
      confidence: confidence of the bound, in (0, 1).
      guess_fraction: share of canaries with a guess, in (0, 1]; must not depend on the
        scores.

    Raises:
      ValueError: an argument is out of range, the arrays do not match, or a score is
        NaN.
    """
    scores, included = np.asarray(scores, np.float64), np.asarray(included, bool)
    if scores.ndim != 1 or scores.shape != included.shape or np.isnan(scores).any():
        raise ValueError(
            f"expected one score without NaN and one coin for each canary, got shapes "
            f"{scores.shape} and {included.shape}"
        )
    if not 0 <= delta < 1:
        raise ValueError(f"delta must be in [0, 1), got {delta}")
    for name, value, most in (
        ("confidence", confidence, 1 - 1e-12),
        ("guess_fraction", guess_fraction, 1.0),
    ):
        if not 0 < value <= most:
            raise ValueError(f"{name} must be in (0, 1), got {value}")
    each = int(len(scores) * guess_fraction / 2)
    # Ties are broken by index, which does not depend on the coins.
    order = np.argsort(scores, kind="stable")
    lowest, highest = order[:each], order[len(order) - each :]
    correct = int(included[highest].sum() + (~included[lowest]).sum())
    level, total = 1 - confidence, len(scores)
    return OneRunBound(
        epsilon=_smallest_plausible(correct, 2 * each, total, delta, level),
        confidence=confidence,
        delta=delta,
        canaries=total,
        guesses=2 * each,
        correct=correct,
        largest=_smallest_plausible(2 * each, 2 * each, total, delta, level),
    )


def clopper_pearson_lower_bound(
    true_positives: int,
    positives: int,
    false_positives: int,
    negatives: int,
    *,
    delta: float,
    confidence: float = 0.95,
) -> float:
    """Computes a lower bound on ε from one threshold's error rates.

    Jagielski, Ullman and Oprea 2020 (arXiv 2006.07709): (ε, δ)-DP gives TPR <= e^ε
    FPR + δ, and TNR <= e^ε FNR + δ. Clopper and Pearson's one-sided intervals bound the
    rates, each at half of the allowed error. The canaries must be independent; the
    canaries of one run are approximately independent in a large dimension. The
    threshold must not be chosen from these scores.

    Args:
      true_positives: canaries above the threshold that took part.
      positives: canaries that took part.
      false_positives: canaries above the threshold that did not take part.
      negatives: canaries that did not take part.
      delta: δ in [0, 1).
      confidence: confidence of the bound, in (0, 1).

    Returns:
      The larger bound of the two inequalities, at least 0. Both use the same two
      intervals.

    Raises:
      ValueError: an argument is out of range.
    """
    if not (0 <= true_positives <= positives and 0 <= false_positives <= negatives):
        raise ValueError(
            f"counts must be within their totals, got {true_positives} of {positives} "
            f"and {false_positives} of {negatives}"
        )
    if not (0 <= delta < 1 and 0 < confidence < 1):
        raise ValueError(
            f"delta must be in [0, 1) and confidence in (0, 1), got {delta} and "
            f"{confidence}"
        )
    level = (1 - confidence) / 2

    def lower(count: int, total: int) -> float:
        return stats.beta.ppf(level, count, total - count + 1) if count else 0.0

    least_true = lower(true_positives, positives)
    least_true_negative = lower(negatives - false_positives, negatives)
    bounds = [0.0]
    for rate, error_rate in (
        (least_true, 1 - least_true_negative),
        (least_true_negative, 1 - least_true),
    ):
        if rate > delta:
            bounds.append(float(np.log(rate - delta) - np.log(error_rate)))
    return max(bounds)
