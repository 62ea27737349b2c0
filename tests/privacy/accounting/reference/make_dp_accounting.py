"""dp-accounting on cases.csv, a release other than the one that is installed.

Needs dp-accounting 0.6.0; writes dp_accounting.csv and
divergences_dp_accounting.csv (Rényi divergence of one round at fractional orders,
where its releases from 0.5.0 on differ from 0.4.3). "pld": PLDAccountant with its
default value discretisation interval of 1e-4, pessimistic Connect-the-Dots, of
which the error grows with the rounds. "rdp": RdpAccountant with default orders.
"""

from __future__ import annotations

import importlib.metadata

import dp_accounting
import table
from dp_accounting import pld, rdp


def rows():
    version = importlib.metadata.version("dp-accounting")
    for case, z, q, rounds, delta in table.cases():
        event = dp_accounting.GaussianDpEvent(z)
        if q < 1:
            event = dp_accounting.PoissonSampledDpEvent(q, event)
        for name, build in (("pld", pld.PLDAccountant), ("rdp", rdp.RdpAccountant)):
            accountant = build()
            accountant.compose(event, rounds)
            epsilon = float(accountant.get_epsilon(delta))
            yield {
                "tool": f"dp-accounting {version}",
                "accountant": name,
                "case": case,
                "lower": "",
                "epsilon": epsilon,
                "upper": "",
            }
            print(case, name, epsilon, flush=True)


def divergence_rows():
    version = importlib.metadata.version("dp-accounting")
    for row in table.read("divergences_quadrature.csv"):
        z, q, order = (
            float(row[name]) for name in ("noise_multiplier", "sampling_rate", "order")
        )
        accountant = rdp.RdpAccountant(orders=[order])
        accountant.compose(
            dp_accounting.PoissonSampledDpEvent(q, dp_accounting.GaussianDpEvent(z))
        )
        yield {
            "tool": f"dp-accounting {version}",
            "sampling": "poisson",
            "noise_multiplier": z,
            "sampling_rate": q,
            "order": order,
            "divergence": float(accountant.rdp[0]),
        }


if __name__ == "__main__":
    table.write("divergences_dp_accounting.csv", divergence_rows())
    table.write("dp_accounting.csv", list(rows()))
