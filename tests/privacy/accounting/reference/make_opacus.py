"""Opacus' three accountants on cases.csv. Needs opacus; writes opacus.csv.

RDP and GDP: get_epsilon of the public classes. PRV: the lower bound, estimate and
upper bound of which get_epsilon returns the upper one (errors: 0.01 in ε, δ/1000
in δ, its defaults).
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import opacus
import table
from opacus.accountants import GaussianAccountant, PRVAccountant, RDPAccountant


def composed(accountant, z, q, rounds):
    accountant.history = [(z, q, rounds)]
    return accountant


def rows():
    for case, z, q, rounds, delta in table.cases():
        found: dict[str, tuple[Any, ...]] = {}
        rdp = composed(RDPAccountant(), z, q, rounds).get_epsilon(delta)
        found["rdp"] = ("", float(rdp), "")
        gdp = composed(GaussianAccountant(), z, q, rounds).get_epsilon(delta)
        found["gdp"] = ("", float(gdp), "")
        if q < 1 and delta > 1e-10:
            accountant = composed(PRVAccountant(), z, q, rounds)
            prv = accountant._get_dprv(eps_error=0.01, delta_error=delta / 1000)
            found["prv"] = tuple(
                map(float, prv.compute_epsilon(delta, delta / 1000, 0.01))
            )
            public = accountant.get_epsilon(delta)
            assert math.isclose(public, found["prv"][2]), public
        for accountant, (lower, epsilon, upper) in found.items():
            yield {
                "tool": f"opacus {opacus.__version__}",
                "accountant": accountant,
                "case": case,
                "lower": lower,
                "epsilon": epsilon,
                "upper": upper,
            }
            print(case, accountant, lower, epsilon, upper, flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    table.write("opacus.csv", list(rows()))
