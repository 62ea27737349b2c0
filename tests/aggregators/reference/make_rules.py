"""Records what ByzFL and Flower make of stacked updates, in rules.npz.

Run in an environment of its own, which has both (see README.md):

  python make_rules.py
"""

import pathlib

import byzfl
import numpy as np
from flwr.server.strategy import aggregate as flower

DIMENSION = 12
# (n, f): f is the number of hostile rows that our rule is told.
CASES = [
    (5, 1),
    (9, 3),
    (11, 2),
    (15, 3),
    (23, 5),
    (30, 6),
    (44, 15),
    (49, 11),
    (50, 11),
]


def make_rows(kind: str, n: int, f: int) -> np.ndarray:
    generator = np.random.default_rng([n, f, len(kind)])
    rows = generator.normal(size=(n, DIMENSION))
    if kind == "hostile":
        rows[:f] = 40 * generator.normal(size=DIMENSION)
    if kind == "duplicates":
        # Every second row twice, and hostile ones all alike.
        rows[1::2] = rows[0 : 2 * (n // 2) : 2]
        rows[:f] = rows[0] + 3
    if kind == "rounded":
        # Few distinct values: many ties in every coordinate.
        rows = np.round(rows)
    return rows.astype(np.float32)


def flower_results(rows: np.ndarray) -> list:
    return [([row], 1) for row in rows]


def centered(center: np.ndarray) -> byzfl.CenteredClipping:
    rule = byzfl.CenteredClipping(L=3, tau=2.0)
    # Its constructor refuses every centre.
    rule.m = center
    return rule


def outcomes(rows: np.ndarray, f: int, kind: str) -> dict:
    n = len(rows)
    exact = rows.astype(np.float64)
    center = np.full(DIMENSION, 0.5)
    found = {
        "byzfl/coordinate_median": byzfl.Median()(exact),
        "byzfl/trimmed_mean": byzfl.TrMean(f=f)(exact),
        "byzfl/geometric_median": byzfl.GeometricMedian(nu=1e-6, T=3000)(exact),
        "byzfl/centered_clipping": centered(center)(exact),
        # It clips its argument in place.
        "byzfl/norm_clipping": byzfl.Clipping(c=2.0)(exact.copy()).mean(axis=0),
        "flower/coordinate_median": flower.aggregate_median(flower_results(rows))[0],
        "flower/trimmed_mean": flower.aggregate_trimmed_avg(
            flower_results(exact), 0.125
        )[0],
    }
    if kind != "rounded":
        # Of two values equally far from the median each library takes another one.
        found["byzfl/mean_around_median"] = byzfl.Meamed(f=f)(exact)
    # It also has equal Krum scores, of which each library takes another one.
    if n >= 2 * f + 3 and kind != "rounded":
        found["flower/krum"] = flower.aggregate_krum(flower_results(exact), f, 0)[0]
        found["flower/multi_krum"] = flower.aggregate_krum(
            flower_results(exact), f, n - f - 2
        )[0]
        # ByzFL counts n - f - 1 neighbours: with one hostile row more, ours.
        found["byzfl/krum"] = byzfl.Krum(f=f + 1)(exact)
        found["byzfl/multi_krum"] = byzfl.MultiKrum(f=f + 1)(exact)
    if kind in ("plain", "hostile"):
        # Means of equal distances are a matter of ties.
        found["byzfl/nearest_neighbour_mixing"] = byzfl.NNM(f=f)(exact)
    # Flower's median of an even selection is none of its values.
    if n >= 4 * f + 3 and n % 2 and kind in ("plain", "hostile"):
        found["flower/bulyan"] = flower.aggregate_bulyan(
            flower_results(exact), f, flower.aggregate_krum, to_keep=0
        )[0]
    return found


def main() -> None:
    arrays = {}
    for n, f in CASES:
        for kind in ("plain", "hostile", "duplicates", "rounded"):
            rows = make_rows(kind, n, f)
            case = f"{kind}/{n}/{f}"
            arrays[f"{case}/rows"] = rows
            for name, result in outcomes(rows, f, kind).items():
                arrays[f"{case}/{name}"] = np.asarray(result)
    path = pathlib.Path(__file__).with_name("rules.npz")
    np.savez_compressed(path, **arrays)
    print(f"{len(arrays)} arrays, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
