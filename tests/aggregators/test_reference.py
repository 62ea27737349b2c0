"""The rules against what ByzFL and Flower made of recorded updates."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from tfl_research.aggregators import rules

RECORDED = np.load(pathlib.Path(__file__).parent / "reference" / "rules.npz")


@tf.function(autograph=False)
def _converged(rows):
    return rules.geometric_median(rows, iterations=3000)


# (rows, f, library) -> our result, with the libraries' parameters; see README.md.
OURS = {
    "coordinate_median": lambda r, f, lib: rules.coordinate_median(r),
    "trimmed_mean": lambda r, f, lib: rules.trimmed_mean(
        r, trim=f if lib == "byzfl" else 0.125
    ),
    "mean_around_median": lambda r, f, lib: rules.mean_around_median(r, byzantine=f),
    "geometric_median": lambda r, f, lib: _converged(r),
    "centered_clipping": lambda r, f, lib: rules.centered_clipping(
        r, center=np.full(12, 0.5, np.float32), radius=2.0, iterations=3
    ),
    "norm_clipping": lambda r, f, lib: rules.norm_clipping(r, radius=2.0),
    "krum": lambda r, f, lib: rules.krum(r, byzantine=f),
    "multi_krum": lambda r, f, lib: rules.multi_krum(
        r, byzantine=f, select=len(r) - f - (2 if lib == "flower" else 1)
    ),
    "bulyan": lambda r, f, lib: rules.bulyan(r, byzantine=f),
    "nearest_neighbour_mixing": lambda r, f, lib: (
        rules.nearest_neighbour_mixing(r, byzantine=f).values
    ),
}
RESULTS = [key for key in RECORDED if not key.endswith("/rows")]


@pytest.mark.parametrize("rule", OURS)
def test_agrees_on_every_recorded_case(rule):
    keys = [key for key in RESULTS if key.endswith(f"/{rule}")]
    assert keys
    for key in keys:
        kind, n, f, library, _ = key.split("/")
        rows = RECORDED[f"{kind}/{n}/{f}/rows"]
        # What is excluded uses up f, so that hostile NaN rows change nothing.
        found = OURS[rule](rows, int(f), library)
        np.testing.assert_allclose(
            found, RECORDED[key], rtol=1e-6, atol=1e-6, err_msg=key
        )


def _cases():
    """(rule, number of rows) -> recorded results, all that tell of hostile rows."""
    found = {}
    for key in RESULTS:
        _, n, _, library, rule = key.split("/")
        # Flower's trim is a ratio: it would be one of three rows more.
        if (library, rule) != ("flower", "trimmed_mean"):
            found.setdefault((rule, n), []).append(key)
    return found


def test_every_rule_is_recorded():
    for n in ("11", "23", "49"):
        assert {rule for rule, rows in _cases() if rows == n} == set(OURS)


@pytest.mark.parametrize(("rule", "n"), _cases())
def test_rows_that_are_not_finite_change_nothing(rule, n):
    for key in _cases()[rule, n]:
        kind, n, f, library, _ = key.split("/")
        rows = RECORDED[f"{kind}/{n}/{f}/rows"]
        bad = np.full((3, rows.shape[1]), 1.0, np.float32)
        bad[0, 3], bad[1, 0], bad[2, 11] = np.nan, np.inf, -np.inf
        with_bad = np.concatenate([bad[:1], rows[:3], bad[1:], rows[3:]])
        # Three hostile rows more in all, of which three are excluded.
        found = OURS[rule](with_bad, int(f) + 3, library)
        if rule == "nearest_neighbour_mixing":
            found = np.delete(found, [0, 4, 5], axis=0)
        np.testing.assert_allclose(
            found, RECORDED[key], rtol=1e-6, atol=1e-6, err_msg=key
        )
