"""ε by quadrature, without any lattice of losses: the arbiter between libraries.

Needs NumPy and SciPy. Writes quadrature.csv and divergences_quadrature.csv.

One round compares densities P and Q on the line. With M(s) = ∫ P^(1+s) Q^(-s), the
moments of the privacy loss log(P/Q) under P, T rounds have

    δ(ε) = 1/(2πi) ∫ M(s)^T e^{-sε} / (s (s + 1)) ds   over Re s = θ > 0,

since E[(1 - e^{ε-L})+] is the inverse of the two-sided transform 1/(s (s + 1)).
Both integrals are trapezoidal sums of analytic functions that fall off, which
converge faster than any power of the step; θ is near the saddle point. Every ε is
found on two contours with different steps; "error" is how far they differ.
"""

from __future__ import annotations

import math

import numpy as np
import table
from scipy import integrate, optimize, special


def mixture(x, q, mean, sigma):
    """log of (1 - q) N(0, σ²) + q N(mean, σ²), but for the constant of N."""
    here = -(x**2) / (2 * sigma**2)
    if q == 0:
        return here
    there = -((x - mean) ** 2) / (2 * sigma**2)
    if q == 1:
        return there
    return np.logaddexp(math.log1p(-q) + here, math.log(q) + there)


class Pair:
    """Two densities, mixtures of Gaussians of the same σ."""

    def __init__(
        self, sigma: float, first: tuple[float, float], second: tuple[float, float]
    ) -> None:
        """first and second: (q, mean) of P and Q."""
        self.sigma, self.first, self.second = sigma, first, second

    def log_moments(self, s, nodes):
        """log M(s) for complex s `[k]`, a trapezoidal sum of `nodes` nodes.

        The integrand's peak can be as far out as the order Re s + 1 times the mean.
        """
        theta = float(np.max(np.real(s)))
        reach = 14 * self.sigma + (theta + 2) * 2
        x = np.linspace(-reach, reach, nodes)
        p = mixture(x, *self.first, self.sigma)
        loss = p - mixture(x, *self.second, self.sigma)
        base = p + theta * loss
        kept = base > base.max() - 90
        base, loss, step = base[kept], loss[kept], x[1] - x[0]
        scale = base.max()
        weights = np.exp(base - scale) * step / (self.sigma * math.sqrt(2 * math.pi))
        out = np.empty(len(s), complex)
        for start in range(0, len(s), 512):
            part = s[start : start + 512]
            out[start : start + 512] = (
                np.exp(np.multiply.outer(part - theta, loss)) @ weights
            )
        return np.log(out) + scale

    def chernoff(self, theta, rounds, log_delta):
        """The ε above which the tail bound at θ is below δ."""
        log_moment = self.log_moments(np.array([theta + 0j]), 20001)[0].real
        peak = theta * math.log(theta) - (theta + 1) * math.log1p(theta)
        return (rounds * log_moment + peak - log_delta) / theta

    def one_round(self, delta, nodes):
        """ε of one round: δ(ε) = ∫ (P - e^ε Q)+, by the trapezoidal rule from the
        point where the loss is ε."""
        sign = 1 if self.first[0] * self.first[1] >= self.second[0] else -1
        norm = self.sigma * math.sqrt(2 * math.pi)

        def loss(x):
            p, q = (mixture(x, *side, self.sigma) for side in (self.first, self.second))
            return float(p - q)

        def excess(epsilon):
            edge = optimize.brentq(lambda x: loss(x) - epsilon, -200, 200, xtol=1e-14)
            x = edge + sign * np.linspace(0, 14 * self.sigma + 2, nodes)
            p, q = (mixture(x, *side, self.sigma) for side in (self.first, self.second))
            values = np.exp(p) - np.exp(epsilon + q)
            return integrate.simpson(values, dx=abs(x[1] - x[0])) / norm - delta

        top = loss(sign * 150.0) * (1 - 1e-9)
        return optimize.brentq(excess, 1e-9, top, xtol=1e-13, rtol=1e-13)

    def epsilon(self, rounds, delta, factor=1.0, nodes=20001):
        """ε of so many rounds on one contour."""
        log_delta = math.log(delta)
        best = optimize.minimize_scalar(
            lambda u: self.chernoff(math.exp(u), rounds, log_delta),
            bounds=(-7, 6),
            method="bounded",
            options={"xatol": 1e-3},
        )
        theta, high = factor * math.exp(best.x), best.fun
        # |M(θ + iω)|^T falls off as a Gaussian of the loss' deviation does.
        h = theta * 1e-3
        logs = self.log_moments(np.array([theta - h, theta, theta + h]) + 0j, nodes)
        curvature = rounds * float((logs[0] - 2 * logs[1] + logs[2]).real) / h**2
        limit, step = 12 / math.sqrt(curvature), 0.02 / math.sqrt(curvature)
        step = min(step, theta / 40)
        while True:
            omega = np.arange(0.5, limit / step) * step
            s = theta + 1j * omega
            powers = rounds * self.log_moments(s, nodes)
            last = powers[-1].real - powers[0].real - 2 * math.log(abs(s[-1] / theta))
            if last < -33:
                break
            limit *= 1.6
        kernel = powers - np.log(s) - np.log(s + 1)

        def excess(epsilon):
            scale = kernel[0].real - theta * epsilon
            terms = np.exp(kernel - s * epsilon - scale)
            return math.log(terms.real.sum() * step / math.pi) + scale - log_delta

        low = high
        while excess(low) < 0:
            low -= max(0.5, 0.05 * abs(high))
        return optimize.brentq(excess, low, high, xtol=1e-13, rtol=1e-13)


def solve(pair, rounds, delta):
    if rounds == 1:
        first, second = (pair.one_round(delta, nodes) for nodes in (20001, 40001))
        return first, abs(first - second)
    first = pair.epsilon(rounds, delta)
    second = pair.epsilon(rounds, delta, factor=0.8, nodes=30001)
    return first, abs(first - second)


def poisson_rows():
    for case, z, q, rounds, delta in table.cases():
        removed, error = solve(Pair(z, (q, 1.0), (0, 0.0)), rounds, delta)
        added, other = solve(Pair(z, (0, 0.0), (q, 1.0)), rounds, delta)
        yield {
            "mechanism": "poisson",
            "case": case,
            "noise_multiplier": z,
            "sampling_rate": q,
            "rounds": rounds,
            "delta": delta,
            "epsilon": max(removed, added),
            "epsilon_removed": removed,
            "epsilon_added": added,
            "error": max(error, other),
        }
        print(case, removed, added, error, other, flush=True)


# Fixed-size cohorts of m of n clients, replacing one client whose update is +clip by
# one whose update is -clip, all others being 0: that pair's ε is a lower bound.
REPLACED = [
    ("replace-one-facts", 1.0, 10 / 1000, 1000, 1e-5),
    ("replace-one-half", 2.0, 0.5, 50, 1e-6),
    ("replace-one-nine-tenths", 4.0, 9 / 10, 20, 1e-5),
    ("andrew-0.669", 0.669, 2231 / 1e6, 4000, 1e6**-1.1),
    ("andrew-1.396", 1.396, 13958 / 1e6, 1500, 1e6**-1.1),
]


def replaced_rows():
    for case, z, q, rounds, delta in REPLACED:
        epsilon, error = solve(Pair(z, (q, 1.0), (q, -1.0)), rounds, delta)
        yield {
            "mechanism": "replaced_pair",
            "case": case,
            "noise_multiplier": z,
            "sampling_rate": q,
            "rounds": rounds,
            "delta": delta,
            "epsilon": epsilon,
            "epsilon_removed": "",
            "epsilon_added": "",
            "error": error,
        }
        print(case, epsilon, error, flush=True)


def small_moment(z, q, order, nodes):
    """log E_Q[(P/Q)^α] where it is near 0: log1p of an integral without the 1."""
    x = np.linspace(-14 * z, 14 * z + 2 * order, nodes)
    loss = mixture(x, q, 1.0, z) - mixture(x, 0, 0.0, z)
    # E_Q[P/Q - 1] = 0.
    excess = np.expm1(order * loss) - order * np.expm1(loss)
    density = np.exp(-(x**2) / (2 * z**2)) / (z * math.sqrt(2 * math.pi))
    return math.log1p(float(np.sum(excess * density) * (x[1] - x[0])))


def divergence_rows():
    """Rényi divergence of (P, Q): log M(α - 1) / (α - 1)."""
    for z, q in [(1.0, 0.01), (0.6, 0.1), (2.0, 0.3), (4.0, 0.001), (1.1, 256 / 60000)]:
        pair = Pair(z, (q, 1.0), (0, 0.0))
        for order in (1.25, 1.5, 2.5, 4.5, 8.3, 2, 3, 8, 32, 64):
            values = [
                pair.log_moments(np.array([order - 1 + 0j]), nodes)[0].real
                for nodes in (40001, 80001)
            ]
            if values[1] < 0.1:
                values = [small_moment(z, q, order, nodes) for nodes in (40001, 80001)]
            yield {
                "sampling": "poisson",
                "noise_multiplier": z,
                "sampling_rate": q,
                "order": order,
                "divergence": values[1] / (order - 1),
                "error": abs(values[1] - values[0]) / (order - 1),
            }


def gaussian_check():
    """The arbiter itself against the closed form of Balle and Wang 2018."""
    mu = math.sqrt(1000) / 20
    epsilon, _ = solve(Pair(20.0, (1, 1.0), (0, 0.0)), 1000, 1e-6)
    log_delta = special.log_ndtr(mu / 2 - epsilon / mu)
    second = epsilon + special.log_ndtr(-mu / 2 - epsilon / mu)
    closed = log_delta + math.log(-math.expm1(second - log_delta))
    assert abs(closed - math.log(1e-6)) < 1e-8, closed


if __name__ == "__main__":
    gaussian_check()
    table.write("divergences_quadrature.csv", divergence_rows())
    table.write("quadrature.csv", [*poisson_rows(), *replaced_rows()])
