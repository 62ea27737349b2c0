"""Microsoft's prv_accountant on cases.csv. Needs prv_accountant (NumPy below 2);
writes prv_accountant.csv.

Lower bound, estimate and upper bound for errors of 0.01 in ε and δ/1000 in δ.
"""

from __future__ import annotations

import importlib.metadata

import table
from prv_accountant import PoissonSubsampledGaussianMechanism, PRVAccountant


def rows():
    version = importlib.metadata.version("prv_accountant")
    for case, z, q, rounds, delta in table.cases():
        if q == 1 or delta < 1e-10:  # Beyond its double precision.
            continue
        try:
            accountant = PRVAccountant(
                prvs=PoissonSubsampledGaussianMechanism(
                    noise_multiplier=z, sampling_probability=q
                ),
                max_self_compositions=rounds,
                eps_error=0.01,
                delta_error=delta / 1000,
            )
        except RuntimeError as refusal:
            print(case, "refused:", refusal, flush=True)
            continue
        lower, epsilon, upper = accountant.compute_epsilon(delta, [rounds])
        yield {
            "tool": f"prv_accountant {version}",
            "accountant": "prv",
            "case": case,
            "lower": float(lower),
            "epsilon": float(epsilon),
            "upper": float(upper),
        }
        print(case, lower, epsilon, upper, flush=True)


if __name__ == "__main__":
    table.write("prv_accountant.csv", list(rows()))
