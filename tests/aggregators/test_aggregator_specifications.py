"""Which parameters, cohorts, weights and mechanisms an aggregator's class takes."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from tfl_research import aggregators, models
from tfl_research.aggregators import (
    AGGREGATORS,
    Bulyan,
    CenteredClipping,
    CoordinateMedian,
    GeometricMedian,
    Krum,
    Mean,
    MeanAroundMedian,
    MeanRule,
    MultiKrum,
    NormClipping,
    RepeatedGeometricMedian,
    RuleSettings,
    SignMajority,
    TrimmedMean,
    TrustedRoot,
)
from tfl_research.errors import SettingError

# Parameters that a class cannot do without.
NEEDED = {
    "trimmed_mean": {"byzantine": 1},
    "norm_clipping": {"clip_radius": 1.0},
    "centered_clipping": {"clip_radius": 1.0},
    "trusted_root": {"root_examples": 5},
    "krum": {"byzantine": 1},
    "multi_krum": {"byzantine": 1},
    "bulyan": {"byzantine": 1},
    "mean_around_median": {"byzantine": 1},
}


def chosen(name, **given):
    return AGGREGATORS.get(name)(**{**NEEDED.get(name, {}), **given})


@pytest.mark.parametrize(
    ("rule", "needed"),
    [
        (Krum(byzantine=4), 11),
        (MultiKrum(byzantine=0), 3),
        (Bulyan(byzantine=4), 19),
        (TrimmedMean(trim=3), 7),
        (TrimmedMean(byzantine=3), 7),
        (TrimmedMean(trim=0.4), 1),
        (TrimmedMean(trim=0.4, byzantine=2), 5),
        (CoordinateMedian(), 1),
        (CoordinateMedian(byzantine=3), 7),
        (GeometricMedian(byzantine=1), 3),
        (SignMajority(byzantine=1), 3),
        (MeanAroundMedian(byzantine=2), 5),
        (CenteredClipping(clip_radius=1.0, byzantine=2), 20),
        (CenteredClipping(clip_radius=1.0), 1),
        (NormClipping(clip_radius=1.0), 1),
        (MeanRule(), 1),
        # Eleven buckets: ten full ones and one row more.
        (Krum(byzantine=4, bucket_size=3), 31),
        (NormClipping(clip_radius=1.0, byzantine=2, neighbour_mixing=True), 5),
    ],
)
def test_smallest_cohort(rule, needed):
    assert rule.smallest_cohort == needed
    rule.check_stack(needed, needed)
    with pytest.raises(ValueError, match=f"at least {needed} clients"):
        rule.check_stack(needed - 1, needed)
    careful = dataclasses.replace(rule, on_breakdown="skip")
    careful.check_stack(needed - 1, needed)
    if needed > 1:
        with pytest.raises(ValueError, match=f"got at most {needed - 1}"):
            careful.check_stack(needed - 1, needed - 1)


def test_cohorts_are_checked_with_what_to_do():
    with pytest.raises(SettingError, match=r"raise cohort_size or lower byzantine$"):
        Krum(byzantine=4).check_cohort(9, 10)
    with pytest.raises(
        SettingError,
        match=r"which says what happens in such a round, or sampler=fixed$",
    ):
        Krum(byzantine=4).check_cohort(9, 11)
    # There is no stack that could be too small.
    NormClipping(clip_radius=1.0).check_cohort(0, 1)
    Mean().check_cohort(0, 1)
    with pytest.raises(SettingError, match="of 2 needs cohorts of at least 1"):
        NormClipping(clip_radius=1.0, bucket_size=2).check_cohort(0, 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"aggregator": "average"},
            "--aggregator=average: must be one of mean, ",
        ),
        ({"aggregator": "krum"}, "--aggregator=krum: needs --byzantine too"),
        (
            {"aggregator": "trimmed_mean"},
            "--aggregator=trimmed_mean: needs --trim or --byzantine too",
        ),
        (
            {"aggregator": "centered_clipping"},
            "--aggregator=centered_clipping: needs --clip_radius too",
        ),
        (
            {"aggregator": "norm_clipping"},
            "--aggregator=norm_clipping: needs --clip_radius too",
        ),
        (
            {"aggregator": "trusted_root"},
            "--aggregator=trusted_root: needs --root_examples too",
        ),
        (
            {"aggregator": "coordinate_median", "neighbour_mixing": True},
            "--neighbour_mixing: needs --byzantine too",
        ),
        (
            {"aggregator": "coordinate_median", "on_breakdown": "trimmed_mean"},
            "--on_breakdown=trimmed_mean: needs --byzantine, the number of values "
            "that it trims at either end; give --byzantine too",
        ),
        (
            {"aggregator": "coordinate_median", "on_breakdown": "krum"},
            "--on_breakdown=krum: must be one of skip, mean, coordinate_median, "
            "trimmed_mean, geometric_median",
        ),
        (
            {"aggregator": "krum", "byzantine": -1},
            "--byzantine=-1: must be a whole number, at least 0",
        ),
        (
            {"aggregator": "trimmed_mean", "trim": 0.5},
            "--trim=0.5: must be below 0.5, or a whole number",
        ),
        (
            {"aggregator": "trimmed_mean", "trim": 2.5},
            "--trim=2.5: must be below 0.5, or a whole number",
        ),
        (
            {"aggregator": "trimmed_mean", "trim": 0.2, "bucket_size": 3},
            "--aggregator=trimmed_mean: the trim ratio is a share of the clients, so "
            "trim x bucket_size must be below 0.5, got 0.2 with bucket_size=3",
        ),
        (
            {"aggregator": "trimmed_mean", "trim": 1, "byzantine": 2},
            "--aggregator=trimmed_mean: trim must be at least byzantine, got trim=1 "
            "and byzantine=2",
        ),
        (
            {"aggregator": "krum", "byzantine": 1, "trim": 1},
            "--trim=1: goes with --aggregator=trimmed_mean, not with krum; leave it",
        ),
        (
            {"aggregator": "krum", "byzantine": 1, "clip_radius": 1.0},
            "--clip_radius=1: goes with --aggregator=",
        ),
        (
            {"aggregator": "norm_clipping", "clip_radius": 0.0},
            "--clip_radius=0: must be a number, above 0",
        ),
        (
            {"aggregator": "coordinate_median", "bucket_size": 0},
            "--bucket_size=0: must be",
        ),
        (
            {
                "aggregator": "centered_clipping",
                "clip_radius": 1.0,
                "clip_momentum": 1.0,
            },
            "--clip_momentum=1: must be a number, at least 0 and below 1",
        ),
    ],
)
def test_refuses_parameters(given, message):
    with pytest.raises(SettingError) as refused:
        AGGREGATORS.from_flat(given)
    assert refused.value.for_command_line.startswith(message)


@pytest.mark.parametrize(
    ("given", "cut", "hostile", "share"),
    [
        ({"byzantine": 2}, 2, 2, None),
        ({"trim": 3}, 3, 3, None),
        ({"trim": 3, "byzantine": 2}, 3, 2, None),
        ({"trim": 0}, 0, 0, None),
        ({"trim": 0.25}, 0.25, None, 0.25),
        ({"trim": 0.25, "byzantine": 1}, 0.25, 1, 0.25),
    ],
)
def test_a_trim_is_a_count_or_a_share(given, cut, hostile, share):
    rule = TrimmedMean(**given)
    assert (rule.cut, rule.hostile, rule.hostile_share) == (cut, hostile, share)
    assert isinstance(rule.cut, type(cut))


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        (
            "krum",
            {},
            "--client_weighting=examples: krum is defined for equal weights only; give "
            "--client_weighting=uniform",
        ),
        (
            "trusted_root",
            {},
            "--client_weighting=examples: trusted_root is defined for equal weights "
            "only; give --client_weighting=uniform",
        ),
        (
            "coordinate_median",
            {"bucket_size": 2},
            "--aggregator=coordinate_median: mixing and bucketing are defined for "
            "equal weights only; use uniform client weighting",
        ),
        (
            "coordinate_median",
            {"byzantine": 1, "neighbour_mixing": True},
            "--aggregator=coordinate_median: mixing and bucketing are defined for "
            "equal weights only; use uniform client weighting",
        ),
    ],
)
def test_weights_that_an_aggregator_does_not_take(name, given, message):
    settings = chosen(name, **given)
    with pytest.raises(SettingError) as refused:
        settings.check_weights("examples")
    assert refused.value.for_command_line == message
    settings.check_weights("uniform")


def test_who_takes_weights():
    assert {name for name in AGGREGATORS.names() if chosen(name).takes_weights} == {
        "mean",
        "robust",
        "zeroing",
        "clipping",
        "compression",
        "secure",
        "repeated_geometric_median",
        "coordinate_median",
        "trimmed_mean",
        "geometric_median",
        "norm_clipping",
        "sign_majority",
    }


def test_steps_of_a_round_that_only_tffs_runtime_executes():
    several = RepeatedGeometricMedian(weiszfeld_steps=2)
    with pytest.raises(
        SettingError,
        match=r"weiszfeld_steps=2: .* give runtime=tff, or weiszfeld_steps=1$",
    ):
        several.check_runtime("in_process")
    several.check_runtime("tff")
    RepeatedGeometricMedian().check_runtime("in_process")
    Mean().check_runtime("remote")


def test_votes_that_would_move_every_weight_by_one():
    with pytest.raises(SettingError, match="give server_learning_rate below 1"):
        SignMajority().check_server(models.ServerOptimizer("sgd", 1.0))
    SignMajority().check_server(models.ServerOptimizer("sgd", 0.003))
    Mean().check_server(models.ServerOptimizer("sgd", 2.0))


def test_an_attack_that_sees_all_updates_needs_them_together():
    together = {name for name, one in AGGREGATORS.items() if one.attackable()}
    rules = {n for n, one in AGGREGATORS.items() if issubclass(one, RuleSettings)}
    assert together == {"mean", "trusted_root", *rules}
    context = aggregators.AggregatorContext(3, 3, weighted=False)
    with pytest.raises(ValueError, match="secure only adds updates up"):
        chosen("secure").build_stacked(context)


@pytest.mark.parametrize("name", AGGREGATORS.names())
def test_noise_at_the_server_goes_with_clipped_means_only(name):
    settings = chosen(name)
    for place in ("server", "secure sum"):
        if name in ("mean", "norm_clipping"):
            settings.check_with_privacy(place, "gaussian")
        else:
            with pytest.raises(SettingError, match=f"^aggregator={name}: {name} "):
                settings.check_with_privacy(place, "gaussian")
    # Post-processing of what clients have noised themselves.
    settings.check_with_privacy("client", "local_gaussian")
    with pytest.raises(ValueError, match="one of server, secure sum, client, got 'x'"):
        settings.check_with_privacy("x", "gaussian")


@pytest.mark.parametrize(
    ("settings", "place", "reason"),
    [
        (Krum(byzantine=1), "server", r"2C, and not by C/n; use mean or norm_clipping"),
        (Krum(byzantine=1), "server", "krum breaks the guarantee of the mechanism: it"),
        (
            Krum(byzantine=1),
            "secure sum",
            "sees only the sum of the updates; use one of mean, ",
        ),
        # A sum, but not one of bounded sensitivity.
        (RepeatedGeometricMedian(), "secure sum", "distance from the last median"),
        (AGGREGATORS.get("secure")(), "server", "exact norms"),
        (
            NormClipping(clip_radius=1.0, bucket_size=2),
            "server",
            "bucketing breaks the guarantee",
        ),
        (
            NormClipping(clip_radius=1.0, bucket_size=2),
            "secure sum",
            "bucketing needs every client's update",
        ),
        (
            NormClipping(clip_radius=1.0, byzantine=1, neighbour_mixing=True),
            "server",
            "nearest_neighbour_mixing breaks the guarantee",
        ),
        (TrustedRoot(root_examples=5), "server", "sum of trust"),
    ],
)
def test_an_unsound_pair_is_refused_with_the_reason(settings, place, reason):
    with pytest.raises(SettingError, match=reason):
        settings.check_with_privacy(place, "the mechanism")


def test_a_class_that_says_nothing_of_its_sensitivity_breaks_the_bound():
    class Unknown(aggregators.AggregatorSettings):
        NAME = "unknown"

    with pytest.raises(SettingError, match="no bound is known for how far one client"):
        Unknown().check_with_privacy("server", "gaussian")
    with pytest.raises(SettingError, match="needs every client's update"):
        Unknown().check_with_secure_sum()


def test_secure_sums_go_with_sums():
    sums = {
        "mean",
        "robust",
        "zeroing",
        "clipping",
        "norm_clipping",
        "sign_majority",
        "repeated_geometric_median",
        "secure",
    }
    for name in AGGREGATORS.names():
        if name in sums:
            chosen(name).check_with_secure_sum()
        else:
            with pytest.raises(SettingError, match="needs every client's update"):
                chosen(name).check_with_secure_sum()


def test_rules_of_coordinates_do_not_go_with_sparse_updates():
    by_coordinate = {
        "coordinate_median",
        "trimmed_mean",
        "mean_around_median",
        "bulyan",
        "sign_majority",
    }
    for name in AGGREGATORS.names():
        if name in by_coordinate:
            with pytest.raises(
                SettingError, match=f"{name} treats every coordinate alone"
            ):
                chosen(name).check_with_sparse_updates()
        else:
            chosen(name).check_with_sparse_updates()


def test_specifications_need_no_tensorflow():
    code = (
        "import sys\n"
        "from tfl_research import aggregators, algorithms\n"
        "aggregators.Krum(byzantine=2).check_cohort(7, 9)\n"
        "algorithms.Scaffold(1)\n"
        "assert not any(name.startswith('tensorflow') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


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
