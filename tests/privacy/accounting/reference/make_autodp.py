"""autodp's Rényi accountants. Needs autodp; writes autodp.csv, divergences_autodp.csv.

ε on cases.csv: NoisySGD_Mechanism (Poisson sampling), converted from Rényi DP over
all real orders (Balle et al. 2020, arXiv 1905.09982, Theorem 21). Between integer
orders autodp interpolates the moments linearly, which is an upper bound.

Divergences at integer orders of one round: Poisson sampling (Zhu and Wang 2019, with
the improved bound for Gaussians), and fixed-size sampling without replacement
(Wang, Balle and Kasiviswanathan 2018, arXiv 1808.00087, Theorem 27) of a Gaussian of
noise multiplier z/2: replacing a client moves the sum by twice the clip.
"""

from __future__ import annotations

import importlib.metadata

import table
from autodp import mechanism_zoo, rdp_acct, rdp_bank

TOOL = f"autodp {importlib.metadata.version('autodp')}"
ORDERS = (2, 3, 5, 8, 16, 32, 64)
POISSON = [(1.0, 0.01), (0.6, 0.1), (2.0, 0.3), (4.0, 0.001), (1.1, 256 / 60000)]
# (z, n, m)
FIXED_SIZE = [
    (1.0, 1000, 10),
    (4.0, 100, 10),
    (8.0, 1000, 10),
    (2.0, 1000000, 2231),
    (16.0, 20, 10),
]


def epsilon_rows():
    for case, z, q, rounds, delta in table.cases():
        if q == 1:
            mechanism = mechanism_zoo.ExactGaussianMechanism(z / rounds**0.5)
            accountant = "closed_form"
        else:
            mechanism = mechanism_zoo.NoisySGD_Mechanism(q, z, rounds)
            accountant = "rdp"
        epsilon = float(mechanism.get_approxDP(delta))
        print(case, epsilon, flush=True)
        yield {
            "tool": TOOL,
            "accountant": accountant,
            "case": case,
            "lower": "",
            "epsilon": epsilon,
            "upper": "",
        }


def gaussian(sigma):
    return lambda order: rdp_bank.RDP_gaussian({"sigma": sigma}, order)


def divergence_rows():
    for z, q in POISSON:
        accountant = rdp_acct.anaRDPacct()
        accountant.compose_poisson_subsampled_mechanisms(gaussian(z), q)
        accountant.build_zeroth_oracle()
        for order in ORDERS:
            yield row("poisson", z, q, "", "", order, accountant)
    for z, population, cohort in FIXED_SIZE:
        accountant = rdp_acct.anaRDPacct()
        accountant.compose_subsampled_mechanism(
            gaussian(z / 2), cohort / population, improved_bound_flag=True
        )
        accountant.build_zeroth_oracle()
        for order in ORDERS:
            yield row(
                "fixed_size",
                z,
                cohort / population,
                population,
                cohort,
                order,
                accountant,
            )


def row(sampling, z, q, population, cohort, order, accountant):
    return {
        "tool": TOOL,
        "sampling": sampling,
        "noise_multiplier": z,
        "sampling_rate": q,
        "population": population,
        "cohort": cohort,
        "order": order,
        "divergence": float(accountant.evalRDP(float(order))),
    }


if __name__ == "__main__":
    table.write("divergences_autodp.csv", divergence_rows())
    table.write("autodp.csv", epsilon_rows())
