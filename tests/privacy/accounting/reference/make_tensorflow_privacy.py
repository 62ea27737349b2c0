"""tensorflow-privacy's membership inference on losses; writes membership.csv.

Needs tensorflow-privacy 0.8.11, the last release whose wheel has the attacks (0.9.0,
which TFF pins, has modules that import a package it lacks). The losses are a function
of the row's seed, see `losses`.
"""

from __future__ import annotations

import importlib.metadata

import numpy as np
import table

# seed, members, non-members, how much lower members' losses are, decimals kept.
CASES = [
    (1, 300, 300, 0.0, 6),
    (2, 400, 150, 0.3, 6),
    (3, 150, 400, 1.0, 1),
    (4, 500, 500, -0.4, 2),
    (5, 40, 60, 3.0, 0),
]


def losses(seed, members, others, shift, decimals):
    """Of members and of non-members: float64 `[members]` and `[others]`."""
    generator = np.random.default_rng(seed)
    drawn = generator.gamma(2.0, 1.0, members + others)
    drawn[members:] += shift
    rounded = np.round(np.maximum(drawn, 0.0), decimals)
    return rounded[:members], rounded[members:]


def rows():
    from tensorflow_privacy.privacy.privacy_tests.membership_inference_attack import (
        membership_inference_attack as attack,
    )
    from tensorflow_privacy.privacy.privacy_tests.membership_inference_attack.data_structures import (  # noqa: E501
        AttackInputData,
        AttackType,
    )

    version = importlib.metadata.version("tensorflow-privacy")
    for case in CASES:
        train, test = losses(*case)
        results = attack.run_attacks(
            AttackInputData(loss_train=train, loss_test=test),
            attack_types=[AttackType.THRESHOLD_ATTACK],
        )
        [result] = results.single_attack_results
        names = ("seed", "members", "others", "shift", "decimals")
        yield {
            "tool": f"tensorflow-privacy {version}",
            **dict(zip(names, case)),
            "auc": float(result.get_auc()),
            "advantage": float(result.get_attacker_advantage()),
        }


if __name__ == "__main__":
    table.write("membership.csv", rows())
