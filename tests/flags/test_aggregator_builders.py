"""What the aggregator's flags become, with and without an attack."""

from __future__ import annotations

import types

import pytest
import tensorflow_federated as tff

from tfl_research import aggregators, attacks, flags, sampling
from tfl_research.flags import attack_assembly, builders
from tfl_research.flags.aggregator_flags import ROOT_ROLE

PARTS = types.SimpleNamespace(
    sampler=sampling.Full([f"c{i}" for i in range(9)]),
    weighting=flags.WeightingFlags(client_weighting="uniform"),
    run=flags.RunFlags(output_dir="none", seed=3),
)


def built(**given):
    return builders.aggregator(flags.AggregatorFlags(**given), PARTS)


@pytest.mark.parametrize(
    "stacks",
    [
        {"byzantine": 1},
        {"on_breakdown": "skip"},
        {"bucket_size": 2},
        {"byzantine": 1, "neighbour_mixing": True},
    ],
)
def test_clipping_to_a_norm_is_stacked_only_where_asked(stacks):
    clipped = built(aggregator="norm_clipping", clip_radius=0.5)
    assert isinstance(clipped, aggregators.NormClippingFactory)
    assert clipped.radius == 0.5
    stacked = built(aggregator="norm_clipping", clip_radius=0.5, **stacks)
    assert isinstance(stacked, aggregators.StackingFactory)
    assert (stacked.rule.name, stacked.rule.radius) == ("norm_clipping", 0.5)


def test_a_geometric_median_by_secure_sums():
    plain = built(aggregator="repeated_geometric_median")
    assert plain == aggregators.RepeatedMeanFactory()
    secure = built(aggregator="repeated_geometric_median", secure_sums=True)
    assert isinstance(secure.sum_factory, tff.aggregators.SecureSumFactory)
    assert (secure.steps, secure.smoothing) == (1, 1e-3)


def test_a_trusted_root_holds_the_largest_cohort():
    found = built(aggregator="trusted_root", root_examples=5)
    assert found == aggregators.TrustedRootFactory(9, ROOT_ROLE)


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"aggregator": "mean"}, "mean"),
        ({"aggregator": "norm_clipping", "clip_radius": 0.5}, "norm_clipping"),
        ({"aggregator": "krum", "byzantine": 2}, "krum"),
        ({"aggregator": "trusted_root", "root_examples": 5}, None),
    ],
)
def test_an_attack_that_sees_all_updates_has_them_stacked(given, rule):
    simulation = attack_assembly.Simulation(
        flags.AttackFlags("alie"), PARTS, ("c1", "c4")
    )
    found = simulation.aggregator(flags.AggregatorFlags(**given))
    assert isinstance(found, aggregators.AttackedFactory)
    assert found.malicious_role == attacks.MALICIOUS
    if rule is None:
        assert isinstance(found.inner, aggregators.TrustedRootFactory)
    else:
        assert found.inner.rule.name == rule
        assert found.inner.rule.radius == given.get("clip_radius")


def test_mixing_goes_before_a_rule_over_a_stack():
    with pytest.raises(flags.FlagError, match=r"'mean\+mixing': must be one of"):
        flags.ByzantineGridFlags(rules="mean+mixing")
    grid = flags.ByzantineGridFlags(rules="krum+mixing,trusted_root")
    assert grid.grid()[1] == ["krum+mixing", "trusted_root"]


@pytest.mark.parametrize(
    ("given", "mechanism", "reason"),
    [
        ({"aggregator": "krum", "byzantine": 1}, "tree", "krum breaks the guarantee"),
        ({"aggregator": "secure"}, "gaussian", "exact norms"),
        (
            {"aggregator": "norm_clipping", "clip_radius": 1.0, "bucket_size": 2},
            "gaussian",
            "bucketing breaks the guarantee",
        ),
        ({"aggregator": "bulyan", "byzantine": 1}, "skellam", "their sum only"),
    ],
)
def test_what_breaks_a_guarantee(given, mechanism, reason):
    found = flags.AggregatorFlags(**given)
    with pytest.raises(flags.FlagError, match=reason):
        found.check_with_privacy(mechanism)
    # Whatever the server does is sound after noise at the clients.
    found.check_with_privacy("local_gaussian")
    found.check_with_privacy("record_dp_sgd")
    flags.AggregatorFlags("mean").check_with_privacy(mechanism)
