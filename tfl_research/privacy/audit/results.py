"""The result of an audit: estimates and lower bounds beside the accountant's ε."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any, Optional

import numpy as np
from scipy import stats

from tfl_research.data import derived_generator
from tfl_research.privacy.accounting.rounding import rounded_up
from tfl_research.privacy.audit.gaussian_fit import GaussianEstimate, estimate_epsilon
from tfl_research.privacy.audit.membership import MembershipResult
from tfl_research.privacy.audit.one_run import (
    OneRunBound,
    clopper_pearson_lower_bound,
    one_run_lower_bound,
)

# The threshold of the Clopper-Pearson bound leaves this share of the canaries that did
# not take part above the threshold.
_FALSE_POSITIVE_RATE = 0.01


@dataclasses.dataclass(frozen=True)
class AuditResult:
    """An audit of one run.

    Attributes:
      statistic: the statistic of the bounds; declared before the run.
      rounds: number of audited rounds.
      dimension: d, number of scalars in the model.
      epsilon: ε of the accountant, at `bound.delta`.
      estimates: the estimates by statistic, without statistics for which all scores are
        equal.
      bound: the lower confidence bound on ε that is compared with the accountant's ε.
      independent_bound: the bound of Clopper and Pearson, which needs independent
        scores.
      sabotage: the part that was broken on purpose, or "none".
      membership: the membership inference of the exported model, or None.
    """

    statistic: str
    rounds: int
    dimension: int
    epsilon: float
    estimates: Mapping[str, GaussianEstimate]
    bound: OneRunBound
    independent_bound: float
    sabotage: str = "none"
    membership: Optional[MembershipResult] = None

    @classmethod
    def of(
        cls,
        cosines: Mapping[str, np.ndarray],
        included: np.ndarray,
        *,
        statistic: str,
        rounds: int,
        dimension: int,
        epsilon: float,
        delta: float,
        confidence: float = 0.95,
        seed: int = 0,
        **further: Any,
    ) -> AuditResult:
        """Computes estimates and bounds.

        Args:
          cosines: float `[canaries]` by statistic, see `observer.observed`.
          included: bool `[canaries]`, whether a canary took part.
          statistic: the statistic of the bounds; declared before the run.
          rounds: number of audited rounds, at least 1.
          dimension: number of scalars in the model.
          epsilon: ε of the accountant.
          delta: δ of the accountant.
          confidence: the confidence of intervals and bounds.
          seed: the seed of bootstraps, and of the order that breaks ties.
          **further: `sabotage` and `membership`.

        Raises:
          ValueError: the cosines do not have the statistic, or `estimate_epsilon` or
            `one_run_lower_bound` refuses the arguments.
        """
        if statistic not in cosines:
            raise ValueError(f"no {statistic!r} among {', '.join(cosines)}")
        included = np.asarray(included, bool)
        estimates = {}
        for name, scores in cosines.items():
            mean, std = 0.0, dimension**-0.5
            if name == "max":
                # The distribution of a maximum is taken from the excluded canaries.
                excluded_scores = scores[~included]
                if len(excluded_scores) < 2 or not excluded_scores.std() > 0:
                    continue
                mean, std = excluded_scores.mean(), excluded_scores.std(ddof=1)
            included_scores = scores[included]
            if len(included_scores) >= 2 and included_scores.std() > 0:
                estimates[name] = estimate_epsilon(
                    included_scores,
                    null_mean=mean,
                    null_std=std,
                    delta=delta,
                    confidence=confidence,
                    seed=seed,
                )
        scores = cosines[statistic]
        # Ties, such as those of an empty first round, are broken at random, since the
        # order of the canaries' numbers could depend on anything.
        order = derived_generator("audit ties", seed).permutation(len(scores))
        trials = rounds if statistic == "max" else 1
        threshold = stats.norm.ppf((1 - _FALSE_POSITIVE_RATE) ** (1 / trials))
        above = scores > threshold * dimension**-0.5
        return cls(
            statistic=statistic,
            rounds=rounds,
            dimension=dimension,
            epsilon=float(epsilon),
            estimates=estimates,
            bound=one_run_lower_bound(
                scores[order], included[order], delta=delta, confidence=confidence
            ),
            independent_bound=clopper_pearson_lower_bound(
                int(above[included].sum()),
                int(included.sum()),
                int(above[~included].sum()),
                int((~included).sum()),
                delta=delta,
                confidence=confidence,
            ),
            **further,
        )

    @property
    def contradicts(self) -> bool:
        """Whether the lower bound is above the accountant's ε."""
        return self.bound.epsilon > self.epsilon

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields for audit.json."""
        return {**dataclasses.asdict(self), "contradicts": self.contradicts}

    def to_json(self) -> str:
        """Returns `to_dict` as strict JSON; infinities and NaN are strings."""

        def plain(value: Any) -> Any:
            if isinstance(value, dict):
                return {key: plain(item) for key, item in value.items()}
            if isinstance(value, float) and not math.isfinite(value):
                return str(value)
            return value

        return json.dumps(plain(self.to_dict()), indent=2) + "\n"

    def lines(self) -> list[str]:
        """Returns the result as lines of text for people."""
        bound, percent = self.bound, f"{100 * self.bound.confidence:g}%"
        lines = [
            f"accountant: ε = {rounded_up(self.epsilon)} at δ = "
            f"{rounded_up(bound.delta)} after "
            f"{self.rounds} rounds",
            f"lower bound: ε >= {bound.epsilon:.4g} with {percent} confidence "
            f"({bound.correct} of {bound.guesses} guesses right about {bound.canaries} "
            f"canaries by their {self.statistic} cosine; Steinke et al. 2023, arXiv "
            "2305.08846)",
            f"lower bound if canaries are independent: ε >= "
            f"{self.independent_bound:.4g} with {percent} confidence (Clopper-Pearson; "
            "Jagielski et al. 2020, arXiv 2006.07709)",
        ]
        for name, estimate in self.estimates.items():
            lines.append(
                f"estimate, {name} cosine: ε ≈ {estimate.epsilon:.4g}, bootstrap "
                f"{percent} interval [{estimate.low:.4g}, {estimate.high:.4g}] (no "
                "bound; Gaussian fit of Andrew et al. 2023, arXiv 2302.03098)"
            )
        if self.membership is not None:
            attack = self.membership
            lines.append(
                f"membership inference by loss: AUC {attack.auc:.3f} "
                f"[{attack.auc_low:.3f}, {attack.auc_high:.3f}], advantage "
                f"{attack.advantage:.3f} [{attack.advantage_low:.3f}, "
                f"{attack.advantage_high:.3f}] over {attack.members} trained and "
                f"{attack.non_members} other examples (this attack is on examples; ε "
                "protects clients)"
            )
        lines.append(self._verdict())
        return lines

    def _verdict(self) -> str:
        if self.contradicts:
            return (
                f"CONTRADICTION: the lower bound {self.bound.epsilon:.4g} is above the "
                f"accountant's ε {self.epsilon:.4g}; the run is not as private as it "
                "says"
            )
        if self.bound.largest <= self.epsilon:
            return (
                f"no contradiction, and none was possible: {self.bound.guesses} "
                f"guesses show at most ε >= {self.bound.largest:.4g}; audit with more "
                "--canaries or a smaller ε"
            )
        return "no contradiction: the lower bound is below the accountant's ε"
