"""The attacks by name: what they see, where they are from, how strong by default.

Plain data, without TensorFlow, so that settings are checked before it is imported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Optional

# Attackers change their data, or their own update, or know the honest updates.
DATA, LOCAL, OMNISCIENT = "data", "local", "omniscient"
# Ways in which min-max and min-sum deviate from the honest mean.
PERTURBATIONS = ("unit", "std", "sign")
LABEL_FLIPS = ("reverse", "pairwise")


@dataclasses.dataclass(frozen=True)
class Attack:
    """What is known of an attack.

    Attributes:
      kind: "data" (changes its clients' examples only), "local" (changes its clients'
        updates, knowing nothing else) or "omniscient" (sees the honest updates of the
        round, which only a simulation grants).
      source: the paper.
      scale: what --attack_scale is; empty where there is none.
      default_scale: None where it follows from the cohort, or there is none.
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
# Attacks by `attacks.UpdateAttack`.
UPDATE_ATTACKS = tuple(n for n, a in ATTACKS.items() if a.kind != DATA)
