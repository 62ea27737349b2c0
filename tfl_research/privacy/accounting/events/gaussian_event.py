"""One round of the Gaussian mechanism over a sampled cohort."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tfl_research.privacy.accounting import events
from tfl_research.privacy.accounting.losses import gaussian, poisson_renyi, renyi
from tfl_research.privacy.accounting.losses.sampled_gaussian import SampledGaussianCurve
from tfl_research.sampling import Amplification

if TYPE_CHECKING:
    import dp_accounting

_SAMPLINGS = ("poisson", "fixed_size", "none")
# Amplification by sampling is not counted if noise over sensitivity is below this.
_LEAST_AMPLIFIED = 0.01


@dataclasses.dataclass(frozen=True)
class GaussianEvent(events.NoisedEvent):
    """One round: a Gaussian mechanism over a sampled cohort.

    Attributes:
      sampling: how the cohort was sampled: "poisson", "fixed_size" or "none".
      noise_multiplier: standard deviation of the noise over the l2 norm clip. If a
        round has several noised values, this is the noise multiplier of the single
        Gaussian with the same privacy. 0 means no privacy (ε = inf).
      sampling_rate: a client's probability of taking part.
      population: number of clients that could be sampled.
      cohort_size: expected size of the cohort.
      neighbouring_relation: "add_or_remove_one", "zero_out" or "replace_one"; under
        "replace_one" the sensitivity is twice the clip.

    Raises:
      ValueError: the noise multiplier is negative or not finite, the sampling needs
        another event, or `sampling.Amplification` refuses the values.
    """

    kind: ClassVar[str] = "gaussian"
    composes_by_round: ClassVar[bool] = True

    sampling: str
    noise_multiplier: float
    sampling_rate: float
    population: int
    cohort_size: float
    neighbouring_relation: str

    def __post_init__(self) -> None:
        events.check_noise_multiplier(self.noise_multiplier)
        if self.sampling not in _SAMPLINGS:
            raise ValueError(
                f"sampling must be one of {_SAMPLINGS} for independent noise, got "
                f"{self.sampling!r}: use a matrix mechanism (one band is independent "
                "noise) or a Poisson sampler"
            )
        Amplification(
            self.sampling,
            self.sampling_rate,
            self.population,
            self.cohort_size,
            self.neighbouring_relation,
        )

    @classmethod
    def of(cls, noise_multiplier: float, amplification: Amplification) -> GaussianEvent:
        """Makes the event of a mechanism's noise and a sampler's cohorts."""
        return cls(
            amplification.kind,
            float(noise_multiplier),
            float(amplification.sampling_rate),
            int(amplification.population),
            float(amplification.cohort_size),
            amplification.neighbouring_relation,
        )

    @classmethod
    def poisson(cls, noise_multiplier: float, sampling_rate: float) -> GaussianEvent:
        """Makes the event of Poisson sampling at a rate, for any population.

        Raises:
          ValueError: the rate is outside (0, 1], or the noise multiplier is refused.
        """
        if not 0 < sampling_rate <= 1:
            raise ValueError(f"sampling_rate must be in (0, 1], got {sampling_rate}")
        size = max(1, round(1 / sampling_rate))
        return cls(
            "poisson",
            float(noise_multiplier),
            float(sampling_rate),
            size,
            min(size * sampling_rate, size),
            "add_or_remove_one",
        )

    @property
    def num_clients(self) -> int:
        return self.population

    @property
    def rate(self) -> float:
        return self.sampling_rate

    @property
    def sensitivity_multiplier(self) -> float:
        """Noise over sensitivity: half the noise multiplier under replace-one."""
        return self.noise_multiplier / (
            2 if self.neighbouring_relation == "replace_one" else 1
        )

    @property
    def amplified(self) -> bool:
        """Whether ε counts amplification by sampling.

        With hardly any noise, a round costs an ε of thousands, and amplification is not
        counted: the Gaussian without sampling is a bound that is quick to compute.
        """
        noisy = self.sensitivity_multiplier >= _LEAST_AMPLIFIED
        return self.sampling != "none" and self.sampling_rate < 1 and noisy

    @property
    def accountants(self) -> tuple[str, ...]:
        return ("pld", "rdp")

    def to_dp_event(self) -> dp_accounting.DpEvent:
        """Returns dp-accounting's event of a round, with noise over sensitivity."""
        import dp_accounting  # Takes a second, and is not always needed.

        if self.noise_multiplier == 0:
            return dp_accounting.NonPrivateDpEvent()
        noise = dp_accounting.GaussianDpEvent(self.sensitivity_multiplier)
        if not self.amplified:
            return noise
        if self.sampling == "poisson":
            return dp_accounting.PoissonSampledDpEvent(self.sampling_rate, noise)
        return dp_accounting.SampledWithoutReplacementDpEvent(
            self.population, round(self.cohort_size), noise
        )

    def rdp(self, rounds: int, orders: np.ndarray) -> np.ndarray:
        """Computes Rényi divergences by order: those of one round times `rounds`.

        Divergences under Poisson sampling are by Mironov et al. 2019 (arXiv
        1908.10530), and under sampling without replacement by
        `renyi.replaced_in_subset`.
        """
        if self.noise_multiplier == 0:
            return np.full(len(orders), np.inf)
        return rounds * _round_rdp(self, tuple(map(float, orders)))

    def sampled_curve(self, delta: float) -> SampledGaussianCurve:
        """Returns the PLD accountant's ε curve, for rounds that sampling amplifies."""
        return SampledGaussianCurve(*self._sampled(delta))

    @property
    def _has_own_curve(self) -> bool:
        """Whether a subclass overrides `sampled_curve`."""
        return type(self).sampled_curve is not GaussianEvent.sampled_curve

    def _sampled(self, delta: float) -> tuple[float, float, float, str]:
        """Returns everything on which `sampled_curve` depends."""
        return (
            self.sensitivity_multiplier,
            self.sampling_rate,
            float(delta),
            self.neighbouring_relation,
        )

    def epsilon_curve(self, rounds: int, delta: float, accountant: str) -> np.ndarray:
        """Computes ε after 1, ..., `rounds` rounds; "pld" is exact without sampling."""
        events.check_delta(delta)
        events.check_accountant(self, accountant)
        numbers = np.arange(1, rounds + 1)
        if self.noise_multiplier == 0:
            return np.full(rounds, np.inf)
        if accountant == "rdp":
            orders = renyi.default_orders()
            divergences = np.multiply.outer(numbers, self.rdp(1, orders))
            return renyi.rdp_epsilons(orders, divergences, delta)
        if not self.amplified:
            mu = np.sqrt(numbers) / self.sensitivity_multiplier
            return gaussian.epsilons(mu, delta)
        if self._has_own_curve:
            return _values(self.sampled_curve(delta), rounds)
        return _kept_values(*self._sampled(delta), int(rounds)).copy()

    def epsilon(self, rounds: int, delta: float, accountant: str) -> float:
        """Returns the last value of `epsilon_curve`; the last digits can differ."""
        events.check_delta(delta)
        events.check_accountant(self, accountant)
        if self.noise_multiplier == 0:
            return math.inf
        if accountant == "rdp":
            orders = renyi.default_orders()
            divergences = self.rdp(rounds, orders)[np.newaxis]
            return float(renyi.rdp_epsilons(orders, divergences, delta)[0])
        if self.amplified:
            if self._has_own_curve:
                return self.sampled_curve(delta).epsilon(rounds)
            return _kept_epsilon(*self._sampled(delta), int(rounds))
        mu = np.sqrt([float(rounds)]) / self.sensitivity_multiplier
        return float(gaussian.epsilons(mu, delta)[0])

    def as_gaussian_rounds(self, rounds: int) -> tuple[GaussianEvent, int]:
        """Returns the event itself and `rounds`."""
        return self, rounds

    def zcdp(self, rounds: int) -> float:
        """Computes ρ = T/(2z²) of T rounds.

        z is noise over sensitivity. Amplification by sampling is left out (Bun and
        Steinke 2016, arXiv 1605.02065, Lemma 2.4).
        """
        if self.noise_multiplier == 0:
            return math.inf
        return rounds / (2 * self.sensitivity_multiplier**2)

    def description(self) -> list[str]:
        change = "adding or removing one client"
        if self.neighbouring_relation == "zero_out":
            change = "replacing one client's update by zero"
        return [
            "Each client's update is clipped in l2 norm; what a round releases gets "
            f"Gaussian noise of effective noise multiplier {self.noise_multiplier:g}: "
            f"the noise's standard deviation divided by the l2 sensitivity to {change} "
            "(McMahan et al. 2018, arXiv 1710.06963).",
            f"Sampling: {self._sampling_words()}.",
        ]

    def _sampling_words(self) -> str:
        secret = (
            "nobody must learn which clients took part (keep the sampler's seed secret)"
        )
        if self.sampling != "none" and self.sampling_rate >= 1:
            return (
                f"all of {self.population} clients take part in every round, so that "
                "nothing is amplified"
            )
        if self.sampling == "poisson":
            return (
                f"each of {self.population} clients joins a round independently with "
                f"probability {self.sampling_rate:g}; {secret}"
            )
        if self.sampling == "fixed_size":
            return (
                f"exactly {self.cohort_size:g} of {self.population} clients, drawn "
                f"uniformly each round; {secret}"
            )
        return (
            f"no amplification: all of {self.population} clients are charged for "
            "every round"
        )


# A run needs the same values for its plan, its statements and its report. Each value
# takes a tenth of a second. The cache is typed, since numbers of another type can give
# other last digits.
@functools.lru_cache(maxsize=256, typed=True)
def _kept_epsilon(
    sigma: float, rate: float, delta: float, relation: str, rounds: int
) -> float:
    """Caches ε after some rounds, see `SampledGaussianCurve.epsilon`."""
    return SampledGaussianCurve(sigma, rate, delta, relation).epsilon(rounds)


@functools.lru_cache(maxsize=16, typed=True)
def _kept_values(
    sigma: float, rate: float, delta: float, relation: str, rounds: int
) -> np.ndarray:
    """Caches ε after 1, ..., `rounds` rounds, float64 `[rounds]`; do not change it."""
    return _values(SampledGaussianCurve(sigma, rate, delta, relation), rounds)


def _values(solver: SampledGaussianCurve, rounds: int) -> np.ndarray:
    """Computes ε after 1, 2, ..., `rounds` rounds, float64 `[rounds]`."""
    pieces, length = [np.zeros(1)], 1
    while length <= rounds:
        pieces.append(solver.block(length))
        length += len(pieces[-1])
    return np.concatenate(pieces)[1 : rounds + 1]


@functools.lru_cache(maxsize=16)
def _round_rdp(event: GaussianEvent, orders: tuple[float, ...]) -> np.ndarray:
    values = np.array(orders)
    if not event.amplified:
        divergences = values / (2 * event.sensitivity_multiplier**2)
    elif event.sampling == "fixed_size":
        divergences = renyi.replaced_in_subset(
            event.sensitivity_multiplier, event.sampling_rate, values
        )
    else:
        divergences = _poisson_rdp(event, values)
    divergences.flags.writeable = False
    return divergences


def _poisson_rdp(event: GaussianEvent, orders: np.ndarray) -> np.ndarray:
    """Computes a Poisson-sampled round's divergences; by dp-accounting if ours fail."""
    try:
        return poisson_renyi.poisson_sampled(
            event.sensitivity_multiplier, event.sampling_rate, orders
        )
    except ArithmeticError:
        from dp_accounting import rdp  # Takes a second, and is not always needed.

        accountant = rdp.RdpAccountant(orders=tuple(map(float, orders)))
        accountant.compose(event.to_dp_event())
        return np.asarray(accountant.rdp, np.float64)
