"""How many clients a rule needs, and which rules go with privacy; no TensorFlow."""

from __future__ import annotations

import pytest

from tfl_research.aggregators import (
    RULES,
    RobustRule,
    check_cohort,
    check_with_privacy,
    check_with_secure_sum,
    check_with_sparse_updates,
)


@pytest.mark.parametrize(
    ("rule", "needed"),
    [
        (RobustRule("krum", byzantine=4), 11),
        (RobustRule("multi_krum", byzantine=0), 3),
        (RobustRule("bulyan", byzantine=4), 19),
        (RobustRule("trimmed_mean", trim=3), 7),
        (RobustRule("trimmed_mean", byzantine=3), 7),
        (RobustRule("trimmed_mean", trim=0.4), 1),
        (RobustRule("coordinate_median"), 1),
        (RobustRule("coordinate_median", byzantine=3), 7),
        (RobustRule("geometric_median", byzantine=1), 3),
        (RobustRule("mean_around_median", byzantine=2), 5),
        (RobustRule("centered_clipping", radius=1.0, byzantine=2), 20),
        (RobustRule("centered_clipping", radius=1.0), 1),
        (RobustRule("norm_clipping", radius=1.0), 1),
        # Eleven buckets: ten full ones and one row more.
        (RobustRule("krum", byzantine=4, bucket_size=3), 31),
        (
            RobustRule("norm_clipping", radius=1.0, byzantine=2, neighbour_mixing=True),
            5,
        ),
    ],
)
def test_smallest_cohort(rule, needed):
    assert rule.smallest_cohort == needed
    check_cohort(rule, needed, needed, has_policy=False)
    with pytest.raises(ValueError, match=f"at least {needed} clients"):
        check_cohort(rule, needed - 1, needed, has_policy=False)
    check_cohort(rule, needed - 1, needed, has_policy=True)
    if needed > 1:
        with pytest.raises(ValueError, match=f"got at most {needed - 1}"):
            check_cohort(rule, needed - 1, needed - 1, has_policy=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "average"}, "must be one of .*, got 'average'"),
        ({"name": "krum"}, "krum needs byzantine"),
        ({"name": "trimmed_mean"}, "trimmed_mean needs trim"),
        ({"name": "centered_clipping"}, "needs radius"),
        ({"name": "mean", "neighbour_mixing": True}, "mixing needs byzantine"),
        ({"name": "krum", "byzantine": -1}, "byzantine must be .* at least 0, got -1"),
        ({"name": "trimmed_mean", "trim": 0.5}, r"in \[0, 0.5\), got 0.5"),
        (
            {"name": "trimmed_mean", "trim": 0.2, "bucket_size": 3},
            "times bucket_size it must be below 0.5, got 0.2 of buckets of 3",
        ),
        ({"name": "trimmed_mean", "trim": 1, "byzantine": 2}, "at least byzantine"),
        ({"name": "krum", "byzantine": 1, "trim": 1}, "parameter of trimmed_mean"),
        ({"name": "krum", "byzantine": 1, "radius": 1.0}, "parameter of norm_clipping"),
        ({"name": "norm_clipping", "radius": 0.0}, "radius must be positive"),
        ({"name": "krum", "byzantine": 1, "weighted": True}, "equal weights only"),
        ({"name": "mean", "weighted": True, "bucket_size": 2}, "equal weights only"),
        ({"name": "mean", "bucket_size": 0}, "bucket_size must be"),
        ({"name": "mean", "center_momentum": 1.0}, r"in \[0, 1\)"),
    ],
)
def test_refuses_parameters(arguments, message):
    with pytest.raises(ValueError, match=message):
        RobustRule(**arguments)


SERVER = ("gaussian", "tree", "banded_matrix")
SUMS = ("discrete_gaussian", "skellam")
CLIENT = ("record_dp_sgd", "local_gaussian")
OTHERS = ("repeated_geometric_median", "trusted_root", "bucketing", "robust")


@pytest.mark.parametrize("rule", [*RULES, *OTHERS])
def test_noise_at_the_server_goes_with_clipped_means_only(rule):
    sound = rule in ("mean", "norm_clipping")
    for mechanism in SERVER + SUMS:
        if sound:
            check_with_privacy(rule, mechanism)
        else:
            with pytest.raises(ValueError, match=f"^{rule} "):
                check_with_privacy(rule, mechanism)
    # Post-processing of what clients have noised themselves.
    for mechanism in CLIENT:
        check_with_privacy(rule, mechanism)


def test_an_unsound_pair_is_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"2C, and not by C/n; use mean or"):
        check_with_privacy("krum", "gaussian")
    with pytest.raises(ValueError, match="sees their sum only"):
        check_with_privacy("krum", "skellam")
    # A sum, but not one of bounded sensitivity.
    with pytest.raises(ValueError, match="distance from the last median"):
        check_with_privacy("repeated_geometric_median", "skellam")


def test_secure_sums_go_with_sums():
    for rule in ("mean", "norm_clipping", "sign_majority", "repeated_geometric_median"):
        check_with_secure_sum(rule)
    for rule in ("coordinate_median", "bulyan", "bucketing", "geometric_median"):
        with pytest.raises(ValueError, match="needs every client's update"):
            check_with_secure_sum(rule)


def test_rules_of_coordinates_do_not_go_with_sparse_updates():
    for rule in ("mean", "krum", "geometric_median", "centered_clipping"):
        check_with_sparse_updates(rule)
    for rule in ("coordinate_median", "trimmed_mean", "bulyan", "sign_majority"):
        with pytest.raises(ValueError, match=f"^{rule} looks at every coordinate"):
            check_with_sparse_updates(rule)


def test_a_median_of_sparse_updates_is_zero():
    """What the refusal is for: everybody sends a tenth of an update of ones."""
    import numpy as np

    from tfl_research.aggregators import rules

    rows = np.zeros((11, 40), np.float32)
    for index, row in enumerate(rows):
        row[np.random.default_rng(index).permutation(40)[:4]] = 1
    assert np.mean(rules.mean(rows) != 0) > 0.6
    for rule in (
        rules.coordinate_median,
        lambda r: rules.bulyan(r, byzantine=2),
        lambda r: rules.trimmed_mean(r, trim=4),
    ):
        assert np.mean(rule(rows) != 0) < 0.05
    # Nobody honest sent anything in the last coordinate, and two hostile clients do.
    rows[:, -1], rows[:2, -1] = 0, -1
    assert rules.sign_majority(rows)[-1] == -1


def test_unknown_words():
    with pytest.raises(ValueError, match=r"rule must be one of .* got 'average'"):
        check_with_privacy("average", "gaussian")
    with pytest.raises(ValueError, match=r"mechanism must be one of .* got 'laplace'"):
        check_with_privacy("mean", "laplace")


def test_the_sensitivity_that_is_refused_is_real():
    """One row of a clipped stack moves the median by far more than C / n."""
    import numpy as np

    from tfl_research.aggregators import rules

    n, clip = 21, 1.0
    rows = np.zeros((n, 2), np.float32)
    rows[:10, 0], rows[11:, 0] = -clip, clip
    moved = rows.copy()
    moved[10, 0] = clip
    for rule in (
        rules.coordinate_median,
        lambda r: rules.krum(r, byzantine=2),
        rules.geometric_median,
    ):
        change = np.linalg.norm(rule(moved) - rule(rows))
        assert change >= 0.99 * clip
    assert np.linalg.norm(rules.mean(moved) - rules.mean(rows)) <= 2 * clip / n
