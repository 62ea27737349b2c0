"""Update attacks against the papers in NumPy, and what they may not touch."""

from __future__ import annotations

import numpy as np
import paper_attacks as paper
import pytest
import tensorflow as tf

from tfl_research import attacks
from tfl_research.aggregators import rules
from tfl_research.attacks import update_attacks

SEED = tf.constant([3, 5], tf.int32)
OMNISCIENT = ("alie", "inner_product", "min_max", "min_sum", "mimic")


def cohort(n, f, d=7, padding=0, spread=1.0, seed=0):
    """Updates with `f` malicious rows among n and padding after them."""
    generator = np.random.default_rng(seed)
    updates = generator.normal(0.3, spread, (n + padding, d)).astype(np.float32)
    updates[:, 0] *= 3
    malicious = np.zeros(n + padding, bool)
    malicious[generator.permutation(n)[:f]] = True
    present = np.arange(n + padding) < n
    updates[~present] = 0
    return updates, malicious, present


def attacked(name, updates, malicious, present, **arguments):
    return getattr(update_attacks, name)(
        tf.constant(updates),
        tf.constant(malicious),
        tf.constant(present),
        SEED,
        **arguments,
    ).numpy()


@pytest.mark.parametrize("name", attacks.UPDATE_ATTACKS)
@pytest.mark.parametrize("padding", [0, 3])
def test_only_malicious_rows_change(name, padding):
    updates, malicious, present = cohort(11, 3, padding=padding)
    malicious[-1] = True
    sent = attacked(name, updates, malicious, present)
    hostile = malicious & present
    np.testing.assert_array_equal(sent[~hostile], updates[~hostile])
    assert (np.abs(sent[hostile] - updates[hostile]).max(axis=1) > 1e-3).all()


@pytest.mark.parametrize("name", OMNISCIENT)
def test_what_malicious_clients_hold_does_not_matter(name):
    updates, malicious, present = cohort(9, 3)
    sent = attacked(name, updates, malicious, present)
    updates[malicious] = np.nan
    np.testing.assert_array_equal(attacked(name, updates, malicious, present), sent)
    rows = sent[malicious]
    np.testing.assert_array_equal(rows, np.broadcast_to(rows[0], rows.shape))


@pytest.mark.parametrize("name", OMNISCIENT)
def test_without_honest_clients_nothing_changes(name):
    updates, malicious, present = cohort(4, 4)
    np.testing.assert_array_equal(attacked(name, updates, malicious, present), updates)


@pytest.mark.parametrize("name", OMNISCIENT)
def test_one_honest_client(name):
    updates, malicious, present = cohort(3, 2)
    own = updates[~malicious][0]
    expected = -0.5 * own if name == "inner_product" else own
    sent = attacked(name, updates, malicious, present)
    np.testing.assert_allclose(sent[malicious], [expected, expected], rtol=1e-5)


@pytest.mark.parametrize("name", attacks.UPDATE_ATTACKS)
def test_an_empty_stack_and_equal_rows(name):
    updates, malicious, _ = cohort(4, 1)
    nobody = np.zeros(4, bool)
    np.testing.assert_array_equal(attacked(name, updates, malicious, nobody), updates)
    equal = np.tile(updates[:1], (4, 1))
    sent = attacked(name, equal, malicious, ~nobody)
    assert np.isfinite(sent).all()


def test_sign_flip_and_scaled_by_hand():
    updates = np.array([[1.0, -2.0], [3.0, 4.0]], np.float32)
    masks = np.array([True, False]), np.array([True, True])
    flipped = attacked("sign_flip", updates, *masks, scale=2.0)
    np.testing.assert_array_equal(flipped, [[-2, 4], [3, 4]])
    bigger = attacked("scaled", updates, *masks, scale=10.0)
    np.testing.assert_array_equal(bigger, [[10, -20], [3, 4]])


def test_gaussian_rows_differ_and_have_the_deviation():
    updates, malicious, present = cohort(6, 3, d=20000)
    sent = attacked("gaussian", updates, malicious, present, scale=2.5)[malicious]
    np.testing.assert_allclose(sent.std(axis=1), 2.5, rtol=0.03)
    np.testing.assert_allclose(sent.mean(axis=1), 0, atol=0.1)
    assert abs(np.corrcoef(sent)[0, 1]) < 0.05
    same = attacked("gaussian", updates, malicious, present, scale=2.5)[malicious]
    np.testing.assert_array_equal(sent, same)


@pytest.mark.parametrize(
    ("n", "f", "expected"),
    # s = 2 of 26 honest: Φ(z) = 24/26. s = 14 of 39: 25/39. s = 8 of 20: 12/20.
    [(50, 24, 1.4260769), (51, 12, 0.3612016), (25, 5, 0.2533471)],
)
def test_alie_deviations_by_the_normal_table(n, f, expected):
    found = float(update_attacks.alie_deviations(tf.constant(n), tf.constant(f)))
    assert found == pytest.approx(expected, abs=2e-5)
    assert found == pytest.approx(paper.alie_z(n, f), abs=1e-6)


def test_how_far_a_little_moves_the_rules():
    """In standard deviations of honest rows: far where attackers are almost half."""

    def moved(f, scale, rule):
        updates, malicious, present = cohort(25, f, d=4000)
        updates[:, 0] /= 3
        honest = updates[~malicious]
        sent = attacked("alie", updates, malicious, present, scale=scale)
        apart = rule(sent) - honest.mean(axis=0)
        return float(np.mean(apart / honest.std(axis=0)))

    # A mean moves by z f / n, a median to another quantile of the honest rows.
    assert moved(5, 1.5, rules.mean) == pytest.approx(-1.5 * 5 / 25, abs=1e-4)
    assert moved(5, None, rules.mean) == pytest.approx(-0.2533471 * 5 / 25, abs=1e-4)
    assert moved(11, 1.5, rules.mean) == pytest.approx(-1.5 * 11 / 25, abs=1e-4)
    for rule in (rules.coordinate_median, rules.geometric_median):
        assert -0.4 < moved(5, 1.5, rule) < -0.2
        assert -1.4 < moved(11, 1.5, rule) < -1.2
    # z_max is where the malicious rows become the median.
    assert moved(11, None, rules.coordinate_median) == pytest.approx(
        -1.0675705, abs=0.05
    )


@pytest.mark.parametrize(("n", "f"), [(10, 1), (10, 0), (2, 1), (4, 4), (5, 4), (0, 0)])
def test_alie_deviations_at_the_edges(n, f):
    """No quantile below the median's, none of 1 or more."""
    found = float(update_attacks.alie_deviations(tf.constant(n), tf.constant(f)))
    assert np.isfinite(found)
    assert found >= 0


@pytest.mark.parametrize("exponent", [-100, -66, 66, 120])
@pytest.mark.parametrize("name", OMNISCIENT)
def test_magnitudes_whose_squares_are_no_float32_numbers(name, exponent):
    """As with rows of usual size, to the last bit: a power of two is exact."""
    updates, malicious, present = cohort(9, 3, padding=2)
    factor = np.float32(2.0**exponent)
    kinds = attacks.PERTURBATIONS if name in ("min_max", "min_sum") else (None,)
    for kind in kinds:
        arguments = {} if kind is None else {"perturbation": kind}
        usual = attacked(name, updates, malicious, present, **arguments)
        sent = attacked(name, factor * updates, malicious, present, **arguments)
        np.testing.assert_array_equal(sent, factor * usual)
        mean = updates[present & ~malicious].mean(axis=0)
        assert np.abs(sent[malicious] / factor - mean).max() > 0.1


@pytest.mark.parametrize(("n", "f"), [(5, 1), (12, 4), (50, 24)])
class TestAgainstThePapers:
    def test_alie(self, n, f):
        updates, malicious, present = cohort(n, f, padding=2)
        honest = updates[present & ~malicious].astype(np.float64)
        for scale in (None, 1.5):
            sent = attacked("alie", updates, malicious, present, scale=scale)
            expected = paper.alie(honest, n, f, scale)
            np.testing.assert_allclose(sent[malicious][0], expected, atol=1e-5)

    def test_inner_product(self, n, f):
        updates, malicious, present = cohort(n, f)
        honest = updates[~malicious].astype(np.float64)
        sent = attacked("inner_product", updates, malicious, present, scale=1.2)
        expected = paper.inner_product(honest, 1.2)
        np.testing.assert_allclose(sent[malicious][0], expected, atol=1e-5)

    @pytest.mark.parametrize("kind", attacks.PERTURBATIONS)
    @pytest.mark.parametrize("name", ["min_max", "min_sum"])
    def test_distances(self, n, f, name, kind):
        updates, malicious, present = cohort(n, f, padding=1)
        honest = updates[present & ~malicious].astype(np.float64)
        allowed = {"min_max": paper.is_allowed_max, "min_sum": paper.is_allowed_sum}
        sent = attacked(name, updates, malicious, present, perturbation=kind)
        row = sent[malicious][0].astype(np.float64)
        expected = paper.farthest(honest, kind, allowed[name])
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-4)
        mean = honest.mean(axis=0)
        assert allowed[name](mean + (row - mean) * (1 - 1e-4), honest)
        assert not allowed[name](mean + (row - mean) * (1 + 1e-4), honest)

    def test_mimic(self, n, f):
        updates, malicious, present = cohort(n, f, padding=2)
        honest = updates[present & ~malicious]
        sent = attacked("mimic", updates, malicious, present)
        np.testing.assert_array_equal(sent[malicious][0], paper.mimic(honest))


@pytest.mark.parametrize("name", ["gaussian", "alie", "min_max", "mimic"])
def test_the_same_under_xla(name):
    updates, malicious, present = cohort(9, 3, padding=2)
    compiled = tf.function(getattr(update_attacks, name), jit_compile=True)
    found = compiled(tf.constant(updates), tf.constant(malicious), present, SEED)
    expected = attacked(name, updates, malicious, present)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


class TestUpdateAttack:
    def test_passes_its_parameters_on(self):
        updates, malicious, present = cohort(5, 2)
        found = attacks.UpdateAttack("min_max", perturbation="sign")(
            tf.constant(updates), tf.constant(malicious), tf.constant(present), SEED
        )
        expected = attacked("min_max", updates, malicious, present, perturbation="sign")
        np.testing.assert_array_equal(found, expected)
        assert attacks.UpdateAttack("mimic").is_omniscient
        assert not attacks.UpdateAttack("gaussian", 2.0).is_omniscient

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"name": "label_flip"}, "must be one of gaussian"),
            ({"name": "min_max", "scale": 1.0}, "min_max has no scale"),
            ({"name": "alie", "scale": -1.0}, "at least 0 and finite"),
            ({"name": "alie", "scale": float("inf")}, "at least 0 and finite"),
            ({"name": "alie", "perturbation": "std"}, "alie has no perturbation"),
            ({"name": "min_sum", "perturbation": "x"}, "must be one of unit"),
        ],
    )
    def test_what_is_refused(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            attacks.UpdateAttack(**arguments)

    def test_an_unknown_direction(self):
        updates, malicious, present = cohort(5, 2)
        with pytest.raises(ValueError, match="perturbation must be one of"):
            attacked("min_sum", updates, malicious, present, perturbation="x")
