"""Every rule against NumPy written from its paper, and at its edges."""

from __future__ import annotations

import functools

import numpy as np
import paper_rules
import pytest
import tensorflow as tf
from padded_rules import WIDTH, ours, padded, present_rows

from tfl_research.aggregators import rules

SEED = tf.constant([3, 4])


def make_rows(kind, n, seed=0):
    generator = np.random.default_rng([n, seed])
    rows = generator.normal(size=(n, WIDTH))
    if kind == "ties":
        rows = np.round(rows)
    if kind == "duplicates":
        rows[n // 2 :] = rows[: n - n // 2]
    if kind == "far":
        rows[: min(2, n // 5)] = 1e6 * generator.normal(size=WIDTH)
    return rows.astype(np.float32)


CASES = [
    (kind, n)
    for n in (5, 6, 11, 23, 36, 50)
    for kind in ("plain", "ties", "duplicates", "far")
]
# name -> (least n, ours, the paper's); f = 2 and 1 throughout, so that few programs
# are traced.
RULES = {
    "coordinate_median": (
        1,
        lambda r: ours("coordinate_median", r),
        paper_rules.coordinate_median,
    ),
    "trimmed_mean": (
        5,
        lambda r: ours("trimmed_mean", r, trim=2),
        lambda r: paper_rules.trimmed_mean(r, 2),
    ),
    "krum": (
        7,
        lambda r: ours("krum", r, byzantine=2),
        lambda r: paper_rules.krum(r, 2),
    ),
    "multi_krum": (
        7,
        lambda r: ours("multi_krum", r, byzantine=2),
        lambda r: paper_rules.multi_krum(r, 2, len(r) - 4),
    ),
    "multi_krum of 3": (
        7,
        lambda r: ours("multi_krum", r, byzantine=2, select=3),
        lambda r: paper_rules.multi_krum(r, 2, 3),
    ),
    "bulyan": (
        11,
        lambda r: ours("bulyan", r, byzantine=2),
        lambda r: paper_rules.bulyan(r, 2),
    ),
    "mean_around_median": (
        5,
        lambda r: ours("mean_around_median", r, byzantine=2),
        lambda r: paper_rules.mean_around_median(r, 2),
    ),
    "centered_clipping": (
        1,
        lambda r: ours(
            "centered_clipping", r, None, np.ones(WIDTH), radius=2.0, iterations=3
        ),
        lambda r: paper_rules.centered_clipping(r, np.ones(WIDTH), 2.0, 3),
    ),
    "norm_clipping": (
        1,
        lambda r: ours("norm_clipping", r, radius=1.5),
        lambda r: paper_rules.norm_clipping(r, np.ones(len(r)), 1.5),
    ),
    "sign_majority": (
        1,
        lambda r: ours("sign_majority", r),
        paper_rules.sign_majority,
    ),
    "trusted_root": (
        1,
        lambda r: ours("trusted_root", r, None, r[-1]),
        lambda r: paper_rules.trusted_root(r, r[-1]),
    ),
    "nearest_neighbour_mixing": (
        5,
        lambda r: present_rows(
            ours("nearest_neighbour_mixing", r, byzantine=2), len(r)
        ),
        lambda r: paper_rules.nearest_neighbour_mixing(r, 2),
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_is_the_papers(name):
    least, mine, papers = RULES[name]
    for kind, n in CASES:
        if n < least:
            continue
        rows = make_rows(kind, n)
        expected = papers(rows.astype(np.float64))
        scale = np.maximum(1.0, np.abs(expected))
        error = np.abs(mine(rows) - expected) / scale
        assert error.max() < 1e-6, (kind, n)


def _weights(n):
    return np.random.default_rng(n).integers(1, 6, n).astype(np.float32)


@pytest.mark.parametrize("n", [1, 2, 5, 12, 50])
def test_weighted_rules(n):
    rows, weights = make_rows("ties", n), _weights(n)
    exact, w = rows.astype(np.float64), weights.astype(np.float64)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6)
    close(
        ours("coordinate_median", rows, weights), paper_rules.weighted_median(exact, w)
    )
    close(
        ours("trimmed_mean", rows, weights, trim=0.2),
        paper_rules.weighted_trimmed_mean(exact, w, (0.2 * n + 1e-6) / n),
    )
    close(ours("mean", rows, weights), w @ exact / w.sum())
    close(
        ours("norm_clipping", rows, weights, radius=1.5),
        paper_rules.norm_clipping(exact, w, 1.5),
    )
    close(ours("sign_majority", rows, weights), paper_rules.sign_majority(exact, w))


@pytest.mark.parametrize("name", ["coordinate_median", "trimmed_mean"])
def test_equal_weights_give_the_rule_without(name):
    parameters = {} if name == "coordinate_median" else {"trim": 2}
    for kind, n in CASES:
        rows = make_rows(kind, n)
        np.testing.assert_allclose(
            ours(name, rows, np.full(n, 7, np.float32), **parameters),
            ours(name, rows, **parameters),
            rtol=1e-6,
            atol=1e-6,
        )


@pytest.mark.parametrize("kind", ["plain", "far", "duplicates"])
@pytest.mark.parametrize("n", [5, 12, 50])
def test_geometric_median_is_the_minimiser(kind, n):
    rows = make_rows(kind, n)
    weights = _weights(n)
    for given in (None, weights):
        found = ours("geometric_median", rows, given)
        exact = rows.astype(np.float64)
        w = None if given is None else given.astype(np.float64)
        expected = paper_rules.geometric_median(exact, w)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_geometric_median_of_a_line_by_hand():
    rows = np.zeros((5, WIDTH), np.float32)
    rows[:, 2] = [0, 1, 2, 50, 1000]
    np.testing.assert_allclose(ours("geometric_median", rows)[2], 2, atol=1e-5)
    # With weights the middle of the weight: 4 of 8 at most before, 3 after.
    weights = np.array([1, 3, 1, 1, 2], np.float32)
    weights[1] = 4
    found = ours("geometric_median", rows, weights)[2]
    np.testing.assert_allclose(found, 1, atol=1e-5)


def test_krum_by_hand():
    # Two clusters; f = 1, 5 rows: 2 neighbours each.
    rows = np.zeros((5, WIDTH), np.float32)
    rows[:, 0] = [0.0, 1.0, 1.5, 9.0, 30.0]
    # Scores 1 + 2.25, 1 + 0.25, 0.25 + 2.25, ...
    np.testing.assert_array_equal(ours("krum", rows, byzantine=1), rows[1])


def test_between_equal_scores_the_order_of_rows_does_not_decide():
    rows = np.zeros((6, WIDTH), np.float32)
    # Mirror images: exact distances agree, sums of products do not have to.
    rows[:3] = np.random.default_rng(0).normal(size=(3, WIDTH))
    rows[3:] = -rows[:3]
    expected = paper_rules.krum(rows.astype(np.float64), 1).astype(np.float32)
    for order in ([0, 1, 2, 3, 4, 5], [3, 4, 5, 0, 1, 2]):
        np.testing.assert_array_equal(ours("krum", rows[order], byzantine=1), expected)


@pytest.mark.parametrize(
    ("n", "f"), [(44, 15), (10, 3), (50, 7), (29, 14), (100, 29), (41, 20)]
)
def test_a_trim_ratio_of_f_over_n_trims_f(n, f):
    rows = np.random.default_rng(n).normal(size=(n, 2)).astype(np.float32)
    np.testing.assert_array_equal(
        rules.trimmed_mean(rows, trim=f / n), rules.trimmed_mean(rows, trim=f)
    )


def test_a_trim_ratio_takes_the_whole_part():
    rows = np.arange(10, dtype=np.float32)[:, None] ** 2
    np.testing.assert_allclose(
        rules.trimmed_mean(rows, trim=0.19), rules.trimmed_mean(rows, trim=1)
    )


ALL = {
    "mean": {},
    "coordinate_median": {},
    "trimmed_mean": {"trim": 2},
    "krum": {"byzantine": 2},
    "multi_krum": {"byzantine": 2},
    "bulyan": {"byzantine": 2},
    "geometric_median": {},
    "mean_around_median": {"byzantine": 2},
    "centered_clipping": {"radius": 2.0},
    "norm_clipping": {"radius": 1.5},
    "sign_majority": {},
    "trusted_root": {},
    "nearest_neighbour_mixing": {"byzantine": 2},
}


@pytest.mark.parametrize("name", ALL)
def test_few_rows(name):
    """No row gives zeros, one row of norm below 1 (or its sign, or nothing) itself."""
    nothing = ours(name, np.zeros((0, WIDTH)), **ALL[name])
    np.testing.assert_array_equal(nothing, np.zeros_like(nothing))
    row = np.full((1, WIDTH), 0.25, np.float32)
    found = ours(name, row, None, row[0], **ALL[name])
    found = present_rows(found, 1)[0] if found.ndim == 2 else found
    expected = np.sign(row[0]) if name == "sign_majority" else row[0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_padding_is_exact(name):
    rows = make_rows("plain", 23)
    root = rows[3]
    given = dict(ALL[name])
    if name == "trusted_root":
        given["root"] = root
    alone = getattr(rules, name)(rows, **given)
    alone = alone.values if isinstance(alone, rules.Rows) else alone
    stacked = ours(name, rows, None, root, **ALL[name])
    if name == "centered_clipping":
        alone = rules.centered_clipping(rows, center=root, **ALL[name])
    stacked = present_rows(stacked, 23) if stacked.ndim == 2 else stacked
    np.testing.assert_array_equal(stacked, alone)


@pytest.mark.parametrize("name", ALL)
def test_hostile_rows_are_excluded_and_use_up_the_hostile_rows(name):
    rows = make_rows("plain", 23)
    bad = rows[:2].copy()
    bad[0, 1], bad[1, 7] = np.nan, -np.inf
    parameters = dict(ALL[name])
    clean = {k: 0 if k in ("trim", "byzantine") else v for k, v in parameters.items()}
    both = ours(name, np.concatenate([bad, rows]), None, rows[5], **parameters)
    alone = ours(name, rows, None, rows[5], **clean)
    if both.ndim == 2:
        # The excluded rows' places are empty.
        both, alone = both[np.any(both != 0, axis=1)], alone[np.any(alone != 0, axis=1)]
    np.testing.assert_array_equal(both, alone)


@pytest.mark.parametrize("weight", [np.nan, np.inf, -1.0])
def test_hostile_weights_are_excluded(weight):
    rows = rules.screen(np.ones((3, 2), np.float32), [1.0, weight, 0.0])
    assert int(rows.excluded) == 1
    assert int(rows.offered) == 2
    assert int(rows.count) == 1
    np.testing.assert_array_equal(rows.values, [[1, 1], [0, 0], [0, 0]])


@pytest.mark.parametrize("name", ALL)
def test_magnitudes_that_overflow_squares_do_no_harm(name):
    rows = make_rows("plain", 23)
    huge = np.full((2, WIDTH), 3e38, np.float32)
    huge[1] *= -1
    found = ours(name, np.concatenate([huge, rows]), None, rows[5], **ALL[name])
    assert np.isfinite(found).all()
    if name not in ("mean", "nearest_neighbour_mixing"):
        assert np.abs(found).max() < 10


@pytest.mark.parametrize("name", ["krum", "bulyan", "geometric_median"])
def test_a_huge_row_leaves_the_others_distances_intact(name):
    rows = make_rows("plain", 22)
    huge = np.full((1, WIDTH), 1e30, np.float32)
    found = ours(name, np.concatenate([rows, huge]), **ALL[name])
    huge /= 1e20
    far = ours(name, np.concatenate([rows, huge]), **ALL[name])
    np.testing.assert_allclose(found, far, atol=1e-6)


def test_buckets_are_a_random_partition():
    rows = np.eye(WIDTH, dtype=np.float32)[:7]
    stack = tf.constant(padded(rows)[0])
    held = padded(rows)[1]
    made = rules.bucketing(rules.screen(stack, held), bucket_size=3, seed=SEED)
    means = made.values.numpy()[made.present.numpy()]
    assert int(made.count) == 3
    sizes = np.sort((means > 0).sum(axis=1))
    np.testing.assert_array_equal(sizes, [1, 3, 3])
    # Every row is in exactly one bucket, with the weight of a mean.
    np.testing.assert_allclose(
        (means * (means > 0).sum(1, keepdims=True)).sum(0)[:7], 1
    )
    again = rules.bucketing(rules.screen(stack, held), bucket_size=3, seed=SEED)
    np.testing.assert_array_equal(made.values, again.values)
    other = rules.bucketing(rules.screen(stack, held), bucket_size=3, seed=SEED + 1)
    assert not np.array_equal(made.values, other.values)


def test_buckets_of_one_are_the_rows_in_another_order():
    rows = make_rows("plain", 9)
    made = rules.bucketing(rows, bucket_size=1, seed=SEED)
    order = np.lexsort(made.values.numpy().T)
    expected = rows[np.lexsort(rows.T)]
    np.testing.assert_array_equal(made.values.numpy()[order], expected)


@pytest.mark.parametrize(
    "name", ["coordinate_median", "trimmed_mean", "krum", "mean_around_median"]
)
def test_wide_stacks_go_by_blocks(name):
    """Blocks of columns and the sorting network against a narrow stack's sort."""
    width = 4 * 16384 + 77
    generator = np.random.default_rng(1)
    rows = np.round(generator.normal(size=(7, width)), 1).astype(np.float32)
    wide = tf.function(
        lambda r: getattr(rules, name)(r, **{**ALL[name]}), autograph=False
    )(rows).numpy()
    exact = rows.astype(np.float64)
    papers = {
        "coordinate_median": lambda: np.median(exact, axis=0),
        "trimmed_mean": lambda: paper_rules.trimmed_mean(exact, 2),
        "krum": lambda: paper_rules.krum(exact, 2),
        "mean_around_median": lambda: np.concatenate(
            [
                rules.mean_around_median(rows[:, i : i + 9000], byzantine=2).numpy()
                for i in range(0, width, 9000)
            ]
        ),
    }
    np.testing.assert_allclose(wide, papers[name](), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["coordinate_median", "bulyan", "geometric_median"])
def test_compiles_under_xla(name):
    rows = make_rows("plain", 23)
    values, held = padded(rows)

    @tf.function(jit_compile=True, autograph=False)
    def compiled(values, held):
        screened = rules.screen(values, held)
        return getattr(rules, name)(screened, **ALL[name])

    given = None if name == "bulyan" else held[held > 0]
    plain = ours(name, rows, given, **ALL[name])
    np.testing.assert_allclose(compiled(values, held), plain, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: rules.krum(r, byzantine=-1), "byzantine must be a whole number"),
        (lambda r: rules.krum(r, byzantine=1.5), "got 1.5"),
        (lambda r: rules.trimmed_mean(r, trim=0.5), r"in \[0, 0.5\), got 0.5"),
        (lambda r: rules.trimmed_mean(r, trim=-1), "at least 0, got -1"),
        (lambda r: rules.multi_krum(r, byzantine=1, select=0), "at least 1, got 0"),
        (lambda r: rules.norm_clipping(r, radius=0.0), "radius must be positive"),
        (lambda r: rules.centered_clipping(r, radius=np.nan), "radius"),
        (lambda r: rules.geometric_median(r, smoothing=0.0), "smoothing"),
        (lambda r: rules.bucketing(r, bucket_size=0, seed=SEED), "bucket_size"),
        (lambda r: rules.coordinate_median(r[0]), r"float32 \[n, d\]"),
        (lambda r: rules.mean(rules.screen(r), np.ones(4)), "already have weights"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.ones((4, 2), np.float32))
