"""Squared sensitivity of DP-FTRL's trees, twice, and the ρ of zCDP that it gives.

Writes tree.csv. Needs NumPy, and for the second kind of rows dp-accounting and a
copy of tensorflow-privacy 0.9.0's tree_aggregation_accountant.py, whose path is the
only argument (the module alone: it needs no TensorFlow).

enumeration: the matrix with one row for each complete node of the trees and one
column for each round; all ways to take part are tried.
tensorflow-privacy: `_max_tree_sensitivity_square_sum` for one tree, and the node
count of `compute_rdp_tree_restart` for a client that takes part once in each tree.

min_separation counts from round to round: rounds 1 and 4 are 3 apart (Appendix D of
arXiv 2103.00039 counts the 2 rounds between).
"""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import table

# (rounds, rounds of a tree, separation, most participations)
ENUMERATED = [
    (1, 1, 1, 1),
    (8, 8, 8, 1),
    (7, 8, 7, 1),
    (8, 8, 1, 8),
    (11, 16, 1, 11),
    (12, 16, 3, 4),
    (12, 4, 3, 4),
    (16, 16, 5, 3),
    (16, 5, 4, 4),
    (20, 32, 6, 4),
    (20, 8, 20, 1),
    (20, 8, 8, 3),
    (24, 32, 3, 8),
    (24, 6, 8, 3),
]
# The last is Gboard's Spanish model: six minutes.
SINGLE_TREE = [
    (9, 16, 4, 3),
    (11, 16, 2, 2),
    (100, 128, 25, 4),
    (200, 256, 40, 5),
    (400, 512, 100, 4),
    (400, 512, 64, 6),
    (2000, 2048, 314, 6),
]
# The second is 1600 rounds of Stack Overflow, each client once.
RESTARTED = [
    (1024, 1024, 1024, 1),
    (1600, 1600, 1600, 1),
    (1600, 400, 400, 4),
    (1600, 800, 800, 2),
    (2048, 256, 256, 8),
]


def nodes(rounds: int, restart_every: int) -> np.ndarray:
    """One row for each complete node: 1 in the rounds under it."""
    rows = []
    for start in range(0, rounds, restart_every):
        leaves = min(restart_every, rounds - start)
        size = 1
        while size <= leaves:
            for first in range(0, leaves - size + 1, size):
                row = np.zeros(rounds, int)
                row[start + first : start + first + size] = 1
                rows.append(row)
            size *= 2
    return np.array(rows)


def enumerate_all(rounds, restart_every, separation, most) -> int:
    tree, best = nodes(rounds, restart_every), 0

    def extend(counts, left, first):
        nonlocal best
        best = max(best, int(counts @ counts))
        if left:
            for number in range(first, rounds):
                extend(counts + tree[:, number], left - 1, number + separation)

    extend(np.zeros(len(tree), int), most, 0)
    return best


def rows(module):
    def row(source, shape, found):
        names = ("rounds", "restart_every", "min_separation", "participations")
        print(source, *shape, found, flush=True)
        return {
            "source": source,
            **dict(zip(names, shape)),
            "squared_sensitivity": int(found),
        }

    for shape in ENUMERATED:
        yield row("enumeration", shape, enumerate_all(*shape))
    for shape in RESTARTED:
        rounds, restart_every, _, most = shape
        # Order 2 of a Gaussian of noise multiplier 1 is the squared sensitivity.
        found = module.compute_rdp_tree_restart(1.0, [restart_every] * most, 2.0)
        yield row("tensorflow-privacy 0.9.0", shape, round(found))
    for shape in SINGLE_TREE:
        rounds, _, separation, most = shape
        found = module._max_tree_sensitivity_square_sum(most, separation - 1, rounds)
        yield row("tensorflow-privacy 0.9.0", shape, found)


if __name__ == "__main__":
    spec = importlib.util.spec_from_file_location("tree_accountant", sys.argv[1])
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    table.write("tree.csv", rows(loaded))
