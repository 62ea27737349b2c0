"""What holds of the rules whatever the updates are."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st
from padded_rules import WIDTH, ours, present_rows

from tfl_research.aggregators import rules

# f = 2 of 11 rows: enough for every rule.
N, F = 11, 2
RULES = {
    "mean": {},
    "coordinate_median": {},
    "trimmed_mean": {"trim": F},
    "krum": {"byzantine": F},
    "multi_krum": {"byzantine": F},
    "bulyan": {"byzantine": F},
    "geometric_median": {},
    "mean_around_median": {"byzantine": F},
    "centered_clipping": {"radius": 2.0, "iterations": 2},
    "norm_clipping": {"radius": 1.5},
    "sign_majority": {},
    "trusted_root": {},
}
TRANSLATED = (
    "mean",
    "coordinate_median",
    "trimmed_mean",
    "krum",
    "multi_krum",
    "bulyan",
    "geometric_median",
    "mean_around_median",
    "centered_clipping",
)
SCALED = (*(name for name in TRANSLATED if name != "centered_clipping"), "trusted_root")
few = settings(max_examples=12, deadline=None, derandomize=True)
seeds = st.integers(0, 10**6)


def _rows(seed):
    return np.random.default_rng(seed).normal(size=(N, WIDTH)).astype(np.float32)


def _apply(name, rows, center=None):
    center = np.full(WIDTH, 0.3, np.float32) if center is None else center
    return ours(name, rows, None, center, **RULES[name])


@pytest.mark.parametrize("name", RULES)
@few
@given(seed=seeds, order=st.permutations(range(N)))
def test_the_order_of_rows_does_not_matter(name, seed, order):
    rows = _rows(seed)
    np.testing.assert_allclose(
        _apply(name, rows), _apply(name, rows[order]), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("name", ["coordinate_median", "trimmed_mean", "sign_majority"])
@few
@given(
    values=st.lists(st.integers(-2, 2), min_size=N * WIDTH, max_size=N * WIDTH),
    order=st.permutations(range(N)),
)
def test_the_order_of_ties_does_not_matter(name, values, order):
    rows = np.array(values, np.float32).reshape(N, WIDTH)
    np.testing.assert_array_equal(_apply(name, rows), _apply(name, rows[order]))


@pytest.mark.parametrize("name", TRANSLATED)
@few
@given(seed=seeds, shift=st.floats(-10, 10, width=32))
def test_moves_with_the_updates(name, seed, shift):
    rows, center = _rows(seed), np.full(WIDTH, 0.3, np.float32)
    direction = np.linspace(-1, 1, WIDTH).astype(np.float32) * np.float32(shift)
    moved = _apply(name, rows + direction, center + direction)
    np.testing.assert_allclose(
        moved, _apply(name, rows, center) + direction, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("name", SCALED)
@few
@given(seed=seeds, exponent=st.integers(-10, 10))
def test_scales_with_the_updates(name, seed, exponent):
    scale = np.float32(2.0**exponent)
    rows, root = _rows(seed), np.full(WIDTH, 0.3, np.float32)
    np.testing.assert_allclose(
        _apply(name, rows * scale, root * scale),
        _apply(name, rows, root) * scale,
        # The geometric median is smoothed in the updates' unit.
        rtol=1e-5 if name != "geometric_median" else 1e-3,
        atol=1e-6 * scale,
    )


@st.composite
def attacks(draw):
    """(honest rows [N - F, WIDTH], hostile rows [F, WIDTH])."""
    honest = _rows(draw(seeds))[F:]
    kinds = st.sampled_from(["nan", "inf", "huge", "far", "copy", "near", "opposite"])
    hostile = []
    for index in range(F):
        kind = draw(kinds)
        hostile.append(
            {
                "nan": np.full(WIDTH, np.nan),
                "inf": np.where(np.arange(WIDTH) == index, np.inf, 0.0),
                "huge": np.full(WIDTH, -3e38),
                "far": np.full(WIDTH, 1e4),
                "copy": honest[index],
                "near": honest.mean(axis=0) - 1.5 * honest.std(axis=0),
                "opposite": -10 * honest.mean(axis=0),
            }[kind]
        )
    return honest, np.array(hostile, np.float32)


def _bounds(name, found, honest):
    """Whether the result is within what the rule promises of the honest rows."""
    low, high = honest.min(axis=0), honest.max(axis=0)
    spread = np.linalg.norm(honest[:, None] - honest[None], axis=-1).max()
    if name in ("coordinate_median", "trimmed_mean"):
        return np.all((found >= low - 1e-6) & (found <= high + 1e-6))
    if name in ("mean_around_median", "bulyan"):
        # Values at most as far from the median as the farthest honest one.
        reach = high - low + 1e-6
        return np.all((found >= low - reach) & (found <= high + reach))
    if name in ("krum", "multi_krum"):
        # A row is selected with at most the score of an honest one, and has an honest
        # neighbour: that one is at most the root of the score away.
        reach = np.sqrt(N - F - 2) * spread
        nearest = np.linalg.norm(honest - found, axis=1).min()
        return nearest <= reach + (spread if name == "multi_krum" else 0)
    if name == "geometric_median":
        # Lemma of Cohen et al. 2016 as in arXiv 1912.13445: 2 (1 - α) / (1 - 2α).
        centre = honest.mean(axis=0)
        radius = np.linalg.norm(honest - centre, axis=1).max()
        return np.linalg.norm(found - centre) <= 2 * (N - F) / (N - 2 * F) * radius
    if name == "centered_clipping":
        return np.linalg.norm(found - 0.3) <= 2 * 2.0 + 1e-5
    if name == "norm_clipping":
        return np.linalg.norm(found) <= 1.5 + 1e-5
    if name == "sign_majority":
        votes = np.sign(honest).sum(axis=0)
        clear = np.abs(votes) > F
        return np.all(found[clear] == np.sign(votes)[clear])
    root = np.full(WIDTH, 0.3)
    assert name == "trusted_root"
    return np.linalg.norm(found) <= np.linalg.norm(root) + 1e-6 and found @ root >= 0


@pytest.mark.parametrize("name", [name for name in RULES if name != "mean"])
@few
@given(attack=attacks())
def test_hostile_rows_move_it_within_its_promise(name, attack):
    honest, hostile = attack
    found = _apply(name, np.concatenate([hostile, honest]))
    assert np.isfinite(found).all()
    assert _bounds(name, found.astype(np.float64), honest.astype(np.float64))


def test_the_mean_promises_nothing():
    """The bounds are ones that the mean breaks."""
    honest = _rows(0)[F:]
    found = _apply("mean", np.concatenate([np.full((F, WIDTH), 1e4), honest]))
    for name in RULES:
        if name not in ("mean", "sign_majority"):
            assert not _bounds(name, found.astype(np.float64), honest)


def _mixed(rows):
    return present_rows(ours("nearest_neighbour_mixing", rows, byzantine=F), len(rows))


@tf.function(autograph=False)
def _in_buckets(rows, seed):
    return rules.bucketing(rows, bucket_size=3, seed=seed).values


def _bucketed(rows, seed=5):
    return _in_buckets(rows, tf.constant([seed, 7])).numpy()


@few
@given(seed=seeds, order=st.permutations(range(N)))
def test_mixed_rows_follow_the_order_of_rows(seed, order):
    rows = _rows(seed)
    np.testing.assert_allclose(
        _mixed(rows[order]), _mixed(rows)[order], rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("before", [_mixed, _bucketed])
@few
@given(seed=seeds, shift=st.floats(-10, 10, width=32), exponent=st.integers(-10, 10))
def test_pre_aggregations_move_and_scale_with_the_updates(
    before, seed, shift, exponent
):
    rows, scale = _rows(seed), np.float32(2.0**exponent)
    direction = np.linspace(-1, 1, WIDTH).astype(np.float32) * np.float32(shift)
    expected = before(rows)
    np.testing.assert_allclose(
        before(rows + direction), expected + direction, rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(
        before(rows * scale), expected * scale, rtol=1e-5, atol=1e-6 * scale
    )


@few
@given(seed=seeds, attack=attacks())
def test_hostile_rows_spoil_one_bucket_each(seed, attack):
    """Arbitrary rows, in place of others, leave all buckets but theirs alone."""
    honest, hostile = attack
    own = _rows(seed)[:F]
    finite = np.where(np.isfinite(hostile), hostile, 7.0).astype(np.float32)
    before = _bucketed(np.concatenate([own, honest]), seed)
    after = _bucketed(np.concatenate([finite, honest]), seed)
    assert (before != after).any(axis=1).sum() <= F
    # The mean of all is kept where buckets are equally large.
    rows = np.concatenate([own, honest])[:9]
    np.testing.assert_allclose(
        _bucketed(rows, seed).mean(axis=0), rows.mean(axis=0), rtol=1e-5, atol=1e-5
    )


def _within_lemma(sent, honest, f):
    """Lemma 1 of arXiv 2302.01772: of honest rows as sent on, from the honest mean."""
    exact, made = honest.astype(np.float64), sent.astype(np.float64)
    variance = np.square(exact - exact.mean(axis=0)).sum(axis=1).mean()
    moved = np.square(made.mean(axis=0) - exact.mean(axis=0)).sum()
    spread = np.square(made - made.mean(axis=0)).sum(axis=1).mean()
    return moved + spread <= 8 * f / len(honest) * variance + 1e-9


@few
@given(attack=attacks())
def test_mixed_honest_rows_stay_near_the_honest_mean(attack):
    honest, hostile = attack
    # One hostile row of ten, so that the lemma's factor is below 1.
    usable = hostile[:1] if np.isfinite(hostile[0]).all() else hostile[:0]
    f = len(usable)
    rows = np.concatenate([usable, honest]).astype(np.float32)
    mixed = ours("nearest_neighbour_mixing", rows, byzantine=f)
    assert _within_lemma(present_rows(mixed, len(rows))[f:], honest, f)
    # Rows as they came are not, and neither is their mean.
    assert not _within_lemma(honest, honest, f)
    far = np.concatenate([np.full((1, WIDTH), 1e4), honest]).mean(axis=0)
    assert not _within_lemma(np.tile(far, (len(honest), 1)), honest, 1)
