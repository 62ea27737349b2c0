"""The attacks by name, with their knowledge, papers and default scales.

Nothing here imports TensorFlow, so that settings are checked before the import.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Optional

# Attackers change their data, change their own update, or know the honest updates.
DATA, LOCAL, OMNISCIENT = "data", "local", "omniscient"
# Directions in which min-max and min-sum leave the honest mean.
PERTURBATIONS = ("unit", "std", "sign")
LABEL_FLIPS = ("reverse", "pairwise")


@dataclasses.dataclass(frozen=True)
class Attack:
    """The properties of an attack.

    Attributes:
      kind: "data" (changes the examples of malicious clients), "local" (changes the
        updates of malicious clients, and knows no other updates) or "omniscient" (knows
        the honest updates of the round, which is only possible in a simulation).
      source: the paper.
      scale: the meaning of --attack_scale; empty for an attack without a scale.
      default_scale: the default scale; None if the cohort determines the scale, or
        there is no scale.
    """

    kind: str
    source: str
    scale: str = ""
    default_scale: Optional[float] = None


ATTACKS: Mapping[str, Attack] = {
    "label_flip": Attack(DATA, "Tolpegin et al. 2020, arXiv 2007.08432"),
    "backdoor": Attack(
        DATA,
        "Bagdasaryan et al. 2018, arXiv 1807.00459",
        "factor of the malicious updates (model replacement)",
    ),
    "gaussian": Attack(
        LOCAL,
        "Blanchard et al. 2017, arXiv 1703.02757",
        "standard deviation of every entry",
        1.0,
    ),
    "sign_flip": Attack(
        LOCAL,
        "Li et al. 2019, arXiv 1811.03761",
        "factor beside the sign",
        4.0,
    ),
    "scaled": Attack(
        LOCAL, "Bagdasaryan et al. 2018, arXiv 1807.00459", "factor", 10.0
    ),
    "alie": Attack(
        OMNISCIENT, "Baruch et al. 2019, arXiv 1902.06156", "standard deviations z"
    ),
    "inner_product": Attack(
        OMNISCIENT, "Xie et al. 2019, arXiv 1903.03936", "factor of the mean", 0.5
    ),
    "min_max": Attack(OMNISCIENT, "Shejwalkar and Houmansadr, NDSS 2021"),
    "min_sum": Attack(OMNISCIENT, "Shejwalkar and Houmansadr, NDSS 2021"),
    "mimic": Attack(OMNISCIENT, "Karimireddy et al. 2020, arXiv 2006.09365"),
}
# The attacks that `attacks.UpdateAttack` carries out.
UPDATE_ATTACKS = tuple(n for n, a in ATTACKS.items() if a.kind != DATA)
