"""The event of a hyperparameter search that releases only the best run.

Papernot and Steinke 2022 (arXiv 2110.03620): if the number of runs is drawn at random
beforehand, each run takes a random candidate, and only the best run is released, then
the search costs as much as a few runs, however many runs there were.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Union

import numpy as np

from tfl_research.privacy.accounting import events
from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.accounting.losses import renyi

DISTRIBUTIONS = ("truncated_negative_binomial", "poisson")
_PAPER = "Papernot and Steinke 2022, arXiv 2110.03620"


@dataclasses.dataclass(frozen=True)
class HyperparameterSearchEvent(Event):
    """A search: K runs of the same number of rounds; only the best run is released.

    Attributes:
      base: the event of a round of each run. All runs have the same noise, sampling and
        number of rounds. They may differ in everything that is not in `base`, such as
        learning rates. The score that ranks the runs must come from public data, or
        from noised values that `base` accounts for.
      mean: E[K], the expected number of runs, above 1.
      shape: η of the truncated negative binomial, above -1: 1 is the geometric, 0
        the logarithmic distribution; 0 with "poisson".
      distribution: the distribution of K: "truncated_negative_binomial" (Definition 1),
        or "poisson". With "poisson", K can be 0; then the release must not depend on
        the data.

    Raises:
      ValueError: a value is outside its range.
    """

    kind: ClassVar[str] = "hyperparameter_search"
    # One search over runs of 2n rounds does not cost the same as two searches over runs
    # of n rounds.
    composes_by_round: ClassVar[bool] = False
    is_search: ClassVar[bool] = True

    base: Event
    mean: float
    shape: float = 1.0
    distribution: str = "truncated_negative_binomial"

    def __post_init__(self) -> None:
        base: Union[Event, Mapping[str, Any]] = self.base
        if isinstance(base, Mapping):
            object.__setattr__(self, "base", events.event_from_dict(base))
        if self.distribution not in DISTRIBUTIONS:
            raise ValueError(
                f"distribution must be one of {DISTRIBUTIONS}, got "
                f"{self.distribution!r}"
            )
        if not (self.mean > 1 and math.isfinite(self.mean)):
            raise ValueError(f"mean must be above 1 and finite, got {self.mean}")
        if self.distribution == "poisson" and self.shape != 0:
            raise ValueError(f"shape must be 0 with 'poisson', got {self.shape}")
        if not (self.shape > -1 and math.isfinite(self.shape)):
            raise ValueError(f"shape must be above -1 and finite, got {self.shape}")

    @property
    def unit(self) -> str:
        return self.base.unit

    @property
    def neighbouring_relation(self) -> str:
        """The neighbouring relation: which data sets the guarantee compares."""
        return self.base.neighbouring_relation

    @property
    def num_clients(self) -> int | None:
        """The number of clients of the runs' event."""
        return self.base.num_clients

    @property
    def kinds(self) -> tuple[str, ...]:
        return (self.kind, *self.base.kinds)

    def with_noise(self, noise_multiplier: float) -> HyperparameterSearchEvent:
        """Returns the search over runs with another noise multiplier."""
        return dataclasses.replace(self, base=self.base.with_noise(noise_multiplier))

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "base": self.base.to_dict(),
            "mean": self.mean,
            "shape": self.shape,
            "distribution": self.distribution,
        }

    @property
    def gamma(self) -> float:
        """γ of the truncated negative binomial with this mean and shape.

        Raises:
          ValueError: the distribution is Poisson.
        """
        if self.distribution == "poisson":
            raise ValueError("a Poisson distribution has no γ")
        return _gamma(self.mean, self.shape)

    def rdp(self, rounds: int, orders: np.ndarray) -> np.ndarray:
        """Computes Rényi divergences of the search over runs of `rounds` rounds.

        Theorem 2 for the truncated negative binomial, Theorem 6 for Poisson. The search
        for λ̂ of Theorem 2, and for the order behind δ̂ of Theorem 6, covers `orders` and
        the default orders. Rényi divergence does not decrease in the order, so each
        order gets the least bound at this and all higher orders.
        """
        requested = np.asarray(orders, np.float64)
        grid = np.union1d(requested, renyi.default_orders())
        runs = np.asarray(self.base.rdp(rounds, grid), np.float64)
        log_mean = math.log(self.mean)
        if self.distribution == "poisson":
            delta = _delta(np.log1p(1 / (grid - 1)), grid, runs)
            bounds = runs + self.mean * delta + log_mean / (grid - 1)
        else:
            log_gamma = math.log(self.gamma)
            constant = min(
                -log_gamma, float(np.min((1 - 1 / grid) * runs - log_gamma / grid))
            )
            bounds = runs + (1 + self.shape) * constant + log_mean / (grid - 1)
        bounds = np.minimum.accumulate(bounds[::-1])[::-1]
        return np.asarray(bounds[np.searchsorted(grid, requested)])

    def epsilon(self, rounds: int, delta: float, accountant: str) -> float:
        """Returns the last value of `epsilon_curve`."""
        events.check_delta(delta)
        events.check_accountant(self, accountant)
        orders = renyi.default_orders()
        divergences = self.rdp(rounds, orders)[np.newaxis]
        return float(renyi.rdp_epsilons(orders, divergences, delta)[0])

    def epsilon_curve(self, rounds: int, delta: float, accountant: str) -> np.ndarray:
        events.check_delta(delta)
        events.check_accountant(self, accountant)
        orders = renyi.default_orders()
        divergences = [self.rdp(number, orders) for number in range(1, rounds + 1)]
        table = np.reshape(divergences, [rounds, len(orders)])
        return renyi.rdp_epsilons(orders, table, delta)

    def probabilities(self, most: int) -> np.ndarray:
        """Computes P[K = 0], P[K = 1], ..., P[K = most], float64 `[most + 1]`."""
        numbers = np.arange(1, most + 1, dtype=np.float64)
        if self.distribution == "poisson":
            p_zero, ratios = math.exp(-self.mean), self.mean / numbers
            return np.concatenate([[p_zero], p_zero * np.cumprod(ratios)])
        gamma, shape = self.gamma, self.shape
        if shape == 0:
            p_one = (1 - gamma) / -math.log(gamma)
        else:
            p_one = (1 - gamma) * shape / math.expm1(-shape * math.log(gamma))
        # P[K = k + 1] / P[K = k] = (1 - γ)(k + η)/(k + 1).
        ratios = (1 - gamma) * (numbers[:-1] + shape) / numbers[1:]
        return np.concatenate([[0.0], [p_one], p_one * np.cumprod(ratios)])[: most + 1]

    def draw_repetitions(self, generator: np.random.Generator) -> int:
        """Draws K, the number of runs, before the first run; K must stay secret."""
        uniform, most = generator.random(), 64
        while True:
            below = np.cumsum(self.probabilities(most))
            if uniform < below[-1] or most >= 1 << 24:
                return int(np.searchsorted(below, uniform, side="right"))
            most *= 4

    def description(self) -> list[str]:
        if self.distribution == "poisson":
            distribution = f"a Poisson distribution of mean {self.mean:g}"
            theorem = "Theorem 6"
        else:
            names = {0.0: "logarithmic", 1.0: "geometric"}
            name = names.get(self.shape, "truncated negative binomial")
            distribution = (
                f"the {name} distribution of mean {self.mean:g} and η {self.shape:g}"
            )
            theorem = "Theorem 2"
        return [
            "Hyperparameters were searched: the number of runs was drawn from "
            f"{distribution} before the first of them, each run took a candidate at "
            f"random, and nothing is released but the best run ({_PAPER}, {theorem}).",
            "The score by which the best run is chosen comes from public data or is "
            "covered by the mechanism.",
            *(f"Each run: {line}" for line in self.base.description()),
        ]


@functools.lru_cache(maxsize=64)
def _gamma(mean: float, shape: float) -> float:
    """Computes γ in (0, 1) of the distribution with this mean, rounded down."""

    def excess(log_gamma: float) -> float:
        return _log_mean(log_gamma, shape) - math.log(mean)

    from scipy import optimize  # Takes a tenth of a second, and is seldom used.

    low = -1.0
    while excess(low) < 0:
        low *= 2
    root = optimize.brentq(excess, low, -1e-15, xtol=1e-14, rtol=1e-14)
    # γ is rounded down, because a smaller γ gives a larger bound.
    return math.exp(root) * (1 - 1e-12)


def _log_mean(log_gamma: float, shape: float) -> float:
    """Computes log E[K]: E[K] = η(1 - γ)/(γ(1 - γ^η)), or (1/γ - 1)/log(1/γ)."""
    inverse_odds = math.expm1(-log_gamma)
    if shape == 0:
        return math.log(inverse_odds / -log_gamma)
    return math.log(inverse_odds * shape / -math.expm1(shape * log_gamma))


def _delta(epsilons: np.ndarray, orders: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Computes δ at each ε from Rényi divergences at `orders`, float64 `[n]`.

    Canonne, Kamath and Steinke 2020 (arXiv 2004.00010), Proposition 12:
    δ = e^{(α-1)(R - ε)} (1 - 1/α)^α / (α - 1); at most the total variation distance,
    which is at most √(1 - e^{-KL}) (Bretagnolle and Huber), KL <= R.
    """
    column = epsilons[:, np.newaxis]
    logs = (
        (orders - 1) * (runs - column)
        + orders * np.log1p(-1 / orders)
        - np.log(orders - 1)
    )
    distance = math.sqrt(-math.expm1(-float(runs.min())))
    return np.minimum(np.exp(np.minimum(logs.min(axis=1), 0.0)), distance)
