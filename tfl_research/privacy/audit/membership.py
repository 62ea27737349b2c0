"""Membership inference, which guesses whether an example was trained on."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import stats

from tfl_research.data import derived_generator


@dataclasses.dataclass(frozen=True)
class MembershipResult:
    """Says how well a threshold on the loss tells members from non-members.

    A member is an example that was trained on. A client holds many examples, and a
    guarantee for clients is stronger than a guarantee for examples. So the result does
    not show how tight a guarantee for clients is.

    Attributes:
      auc: area under the ROC curve; 0.5 is guessing.
      auc_low, auc_high: DeLong's interval of the area.
      advantage: max |TPR - FPR| over thresholds; 0 is guessing. Since this is a
        maximum, it is above 0 even for unrelated scores.
      advantage_low, advantage_high: percentile interval of a bootstrap.
      confidence: the confidence of the intervals.
      members, non_members: examples of each kind.
    """

    auc: float
    auc_low: float
    auc_high: float
    advantage: float
    advantage_low: float
    advantage_high: float
    confidence: float
    members: int
    non_members: int


def _placements(sample: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Returns which share of `reference` is above each value; ties count half."""
    ordered = np.sort(reference)
    smaller = np.searchsorted(ordered, sample, side="left")
    not_larger = np.searchsorted(ordered, sample, side="right")
    return 1 - (smaller + not_larger) / (2 * len(ordered))


def _advantage(members: np.ndarray, non_members: np.ndarray) -> float:
    thresholds = np.concatenate([members, non_members])
    rates = [
        np.searchsorted(np.sort(losses), thresholds, side="right") / len(losses)
        for losses in (members, non_members)
    ]
    return float(np.max(np.abs(rates[0] - rates[1])))


def loss_threshold_attack(
    member_losses: np.ndarray,
    non_member_losses: np.ndarray,
    *,
    confidence: float = 0.95,
    resamples: int = 200,
    seed: int = 0,
) -> MembershipResult:
    """Measures an attack that calls examples with a loss below a threshold members.

    This is Yeom et al. 2018 (arXiv 1709.01604), Adversary 1, at every threshold. The
    variance of the area is by DeLong, DeLong and Clarke-Pearson (1988). A loss that is
    not finite counts as the largest loss.

    Args:
      member_losses: float `[members]`, at least 2.
      non_member_losses: float `[non-members]`, at least 2.
      confidence: the confidence of the intervals, in (0, 1).
      resamples: the number of resamples of the bootstrap of the advantage, at least 1.
      seed: the seed of the bootstrap.

    Raises:
      ValueError: there are fewer than two examples of a kind, or an argument is out of
        its range.
    """
    members, non_members = (
        np.nan_to_num(np.asarray(a, np.float64).ravel(), nan=np.inf, posinf=np.inf)
        for a in (member_losses, non_member_losses)
    )
    if len(members) < 2 or len(non_members) < 2:
        raise ValueError(
            f"expected at least 2 members and 2 non-members, got {len(members)} and "
            f"{len(non_members)}"
        )
    if not 0 < confidence < 1 or resamples < 1:
        raise ValueError(
            "confidence must be in (0, 1) and resamples at least 1, got "
            f"{confidence} and {resamples}"
        )
    member_placements = _placements(members, non_members)
    non_member_placements = 1 - _placements(non_members, members)
    auc = float(member_placements.mean())
    variance = member_placements.var(ddof=1) / len(members)
    variance += non_member_placements.var(ddof=1) / len(non_members)
    margin = float(stats.norm.isf((1 - confidence) / 2) * np.sqrt(variance))
    generator = derived_generator("membership bootstrap", seed)
    advantages = [
        _advantage(
            members[generator.integers(len(members), size=len(members))],
            non_members[generator.integers(len(non_members), size=len(non_members))],
        )
        for _ in range(resamples)
    ]
    tail = (1 - confidence) / 2
    low, high = np.quantile(advantages, [tail, 1 - tail])
    return MembershipResult(
        auc=auc,
        auc_low=max(auc - margin, 0.0),
        auc_high=min(auc + margin, 1.0),
        advantage=_advantage(members, non_members),
        advantage_low=float(low),
        advantage_high=float(high),
        confidence=confidence,
        members=len(members),
        non_members=len(non_members),
    )
