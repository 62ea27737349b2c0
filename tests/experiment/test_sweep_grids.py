"""Grids: which experiments they stand for; no TensorFlow."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tfl_research import data
from tfl_research.aggregators import CenteredClipping, CoordinateMedian, Krum, Mean
from tfl_research.errors import SettingError
from tfl_research.experiment import Experiment, sweeps
from tfl_research.experiment.configs import (
    Attack,
    Baseline,
    Batches,
    Cohorts,
    RecordLevelPrivacy,
    Silos,
    TaskChoice,
    Training,
    UserLevelPrivacy,
    Weighting,
)
from tfl_research.experiment.sweeps import byzantine
from tfl_research.privacy import mechanisms
from tfl_research.tasks.task import Card, Task


def toy(clients=10):
    held = data.ClientData.from_arrays(
        {
            f"c{number}": {
                "x": np.zeros((6, 4), np.float32),
                "y": np.array([0, 1, 2, 0, 1, 2], np.int32),
            }
            for number in range(clients)
        }
    )
    return Task("toy", Card("", "", "", "", ""), held, held, None, int, int)


ROBUST = Experiment(
    toy(),
    cohorts=Cohorts("full"),
    weighting=Weighting("uniform"),
    name="robust_fed_avg",
)


class TestByzantine:
    def points(self, **grid):
        given = {"names": ["none"], "rules": ["mean"], "fractions": [0.2], "seeds": [0]}
        return sweeps.byzantine_grid(ROBUST, **{**given, **grid})

    def test_every_combination_is_a_run(self):
        found, left_out = self.points(
            names=["none", "alie"], rules=["mean", "krum"], fractions=[0.1, 0.2]
        )
        assert left_out == []
        assert len(found) == len({point.name for point in found}) == 8
        assert found[0].name == "none-mean-0.1-0"
        assert found[0].experiment == ROBUST
        last = found[-1]
        assert last.name == "alie-krum-0.2-0"
        assert last.labels == {
            "attack": "alie",
            "rule": "krum",
            "fraction": 0.2,
            "byzantine": 2,
            "seed": 0,
        }
        assert last.experiment == dataclasses.replace(
            ROBUST,
            aggregator=Krum(byzantine=2, on_breakdown="skip"),
            attack=Attack("alie", malicious_fraction=0.2),
        )
        # Every point can run.
        for point in found:
            point.experiment.check()

    def test_seeds_and_further_settings(self):
        found, _ = self.points(
            names=["none", "alie"],
            rules=["mean", "krum"],
            seeds=[3, 4],
            by_rule={"krum": {"on_breakdown": "mean", "server_learning_rate": 0.5}},
            # What an attack says goes before what a rule says.
            by_attack={"alie": {"attack_scale": 1.5, "server_learning_rate": 2.0}},
        )
        by_name = {point.name: point.experiment for point in found}
        assert len(by_name) == 8
        assert by_name["none-mean-0.2-3"] == ROBUST.with_settings(seed=3)
        assert by_name["alie-krum-0.2-4"] == ROBUST.with_settings(
            seed=4,
            aggregator="krum",
            byzantine=2,
            on_breakdown="mean",
            server_learning_rate=2.0,
            attack="alie",
            malicious_fraction=0.2,
            attack_scale=1.5,
        )

    def test_rules_that_no_cohort_is_enough_for_are_left_out(self):
        found, (why,) = self.points(rules=["mean", "bulyan"], fractions=[0.1, 0.2])
        assert [p.labels["rule"] for p in found] == ["mean", "bulyan", "mean"]
        assert why == (
            "bulyan at 0.2: needs cohorts of at least 11 clients where 2 are malicious "
            "(arXiv 1802.07927: n >= 4f + 3), but a cohort has at most 10"
        )
        with pytest.raises(SettingError) as raised:
            self.points(rules=["bulyan"])
        assert raised.value.for_command_line == f"--rules=bulyan: {why}"

    @pytest.mark.parametrize(
        ("rule", "settings"),
        [
            ("mean", {"aggregator": "mean"}),
            ("zeroing", {"aggregator": "zeroing"}),
            (
                "coordinate_median",
                {
                    "aggregator": "coordinate_median",
                    "byzantine": 5,
                    "on_breakdown": "skip",
                },
            ),
            # Its bound asks for 50 clients, but it runs without an f.
            (
                "centered_clipping",
                {"aggregator": "centered_clipping", "on_breakdown": "skip"},
            ),
            (
                "krum+mixing",
                {
                    "aggregator": "krum",
                    "neighbour_mixing": True,
                    "byzantine": 5,
                    "on_breakdown": "skip",
                },
            ),
        ],
    )
    def test_what_a_rule_stands_for(self, rule, settings):
        found, why = byzantine.rule_settings(rule, 5, 25, {})
        assert (found, why) == (settings, None)
        given, _ = byzantine.rule_settings(rule, 5, 25, {"bucket_size": 2})
        assert given == {**settings, "bucket_size": 2}

    def test_given_byzantine_counts(self):
        (point,), _ = self.points(rules=["krum"], hostile=1)
        assert point.experiment.aggregator == Krum(byzantine=1, on_breakdown="skip")
        assert point.labels["byzantine"] == 1

    def test_counts_that_almost_all_cohorts_keep_to(self):
        poisson = dataclasses.replace(ROBUST, cohorts=Cohorts("poisson", 5))
        (point,), _ = sweeps.byzantine_grid(
            poisson,
            names=["none"],
            rules=["coordinate_median"],
            fractions=[0.5],
            seeds=[0],
        )
        # Five malicious clients that each join with probability 1/2: P(> 4) = 1/32.
        assert point.labels["byzantine"] == 5
        assert point.experiment.aggregator == CoordinateMedian(on_breakdown="skip")

    def test_columns_name_fractions_where_there_are_several(self):
        rows = [{"attack": "alie", "fraction": f} for f in (0.1, 0.2)]
        found = byzantine.with_places(rows)
        assert [row["attacked by"] for row in found] == ["alie 0.1", "alie 0.2"]
        assert byzantine.with_places(rows[:1])[0]["attacked by"] == "alie"

    def test_rules_of_the_base_are_left_behind(self):
        base = dataclasses.replace(ROBUST, aggregator=CenteredClipping(clip_radius=1))
        (point,), _ = sweeps.byzantine_grid(
            base, names=["none"], rules=["mean"], fractions=[0.2], seeds=[0]
        )
        assert point.experiment.aggregator == Mean()


class TestPrivacyUtility:
    BASE = Experiment(
        "heart", privacy=UserLevelPrivacy(target_epsilon=1), name="dp_fed_avg"
    )

    def test_the_grid(self):
        found = sweeps.privacy_utility(
            self.BASE,
            mechanisms=["gaussian", "tree"],
            epsilons=[1.0, 2.5],
            seeds=[3, 4],
            further={"tree": {"sampler": "min_separation", "restart_every": 5}},
        )
        assert [point.name for point in found][:5] == [
            "not_private-3",
            "gaussian-1-3",
            "gaussian-2.5-3",
            "tree-1-3",
            "tree-2.5-3",
        ]
        assert len(found) == 10
        by_name = {point.name: point for point in found}
        tree = by_name["tree-2.5-4"]
        assert tree.labels == {"mechanism": "tree", "target_epsilon": 2.5, "seed": 4}
        assert tree.experiment == Experiment(
            "heart",
            privacy=UserLevelPrivacy(mechanisms.Tree(5), target_epsilon=2.5),
            cohorts=Cohorts("min_separation"),
            training=Training(seed=4),
            name="dp_fed_avg",
        )
        # The reference has the same cohorts and weights, and no noise.
        public = by_name["not_private-3"]
        assert public.labels["target_epsilon"] == "inf"
        assert public.experiment == Experiment(
            "heart",
            cohorts=Cohorts("poisson"),
            weighting=Weighting("uniform"),
            training=Training(seed=3),
            name="fed_avg",
        )

    def test_noise_of_the_base_is_replaced_by_the_target(self):
        base = dataclasses.replace(
            self.BASE, privacy=UserLevelPrivacy(noise_multiplier=2, l2_norm_clip=0.5)
        )
        found = sweeps.privacy_utility(
            base, mechanisms=["gaussian"], epsilons=[3.0], seeds=[0]
        )
        assert found[1].experiment.privacy == UserLevelPrivacy(
            target_epsilon=3, l2_norm_clip=0.5
        )

    def test_a_base_without_privacy(self):
        for privacy in (None, RecordLevelPrivacy(record_noise_multiplier=1)):
            base = dataclasses.replace(self.BASE, privacy=privacy)
            with pytest.raises(SettingError, match="must have UserLevelPrivacy, got "):
                sweeps.privacy_utility(
                    base, mechanisms=["gaussian"], epsilons=[1.0], seeds=[0]
                )


class TestHeterogeneity:
    BASE = Experiment("mnist", name="federated")

    def test_the_grid(self):
        found = sweeps.heterogeneity(
            self.BASE,
            algorithms=["fed_avg", "fed_dyn"],
            alphas=["0.1", "natural"],
            seeds=[0, 1],
            further={"fed_dyn": {"dyn_alpha": 0.5}},
        )
        assert [point.name for point in found] == [
            "fed_avg-0.1-0",
            "fed_avg-0.1-1",
            "fed_avg-natural-0",
            "fed_avg-natural-1",
            "fed_dyn-0.1-0",
            "fed_dyn-0.1-1",
            "fed_dyn-natural-0",
            "fed_dyn-natural-1",
        ]
        assert found[5].labels == {"algorithm": "fed_dyn", "alpha": "0.1", "seed": 1}
        assert found[5].experiment == self.BASE.with_settings(
            algorithm="fed_dyn",
            dyn_alpha=0.5,
            partition="dirichlet",
            dirichlet_alpha=0.1,
            seed=1,
        )
        assert found[2].experiment == self.BASE

    def test_a_metric_that_falls_as_models_get_better(self):
        sweeps.check_higher_is_better(self.BASE)
        sweeps.check_higher_is_better(self.BASE.with_settings(selection_metric="auc"))
        with pytest.raises(SettingError) as raised:
            sweeps.check_higher_is_better(
                self.BASE.with_settings(selection_metric="client_mean_loss")
            )
        assert raised.value.for_command_line == (
            "--selection_metric=client_mean_loss: the target needs a metric of which "
            "higher values are better; give accuracy or auc"
        )


class TestCrossSilo:
    BASE = Experiment(
        TaskChoice("heart"),
        cohorts=Cohorts("full"),
        batches=Batches(batch_size=8, client_epochs=2, max_examples_per_client=50),
        silos=Silos(0.2, 2),
        name="cross_silo",
    )

    def test_the_grid(self):
        found = sweeps.cross_silo(
            self.BASE,
            algorithms=["fed_avg", "scaffold"],
            record_epsilons=[4.0],
            seeds=[0, 1],
            further={"scaffold": {"scaffold_option": 1}},
            record_further={"client_learning_rate": 0.5, "client_steps": 3},
        )
        assert [point.name for point in found][:8] == [
            "fed_avg-0",
            "scaffold-0",
            "record_dp-4-0",
            "only_0-0",
            "only_1-0",
            "only_2-0",
            "only_3-0",
            "pooled-0",
        ]
        assert len(found) == 16
        by_name = {point.name: point for point in found}
        assert by_name["scaffold-1"].experiment == dataclasses.replace(
            self.BASE.with_settings(algorithm="scaffold", scaffold_option=1, seed=1),
            name="federated",
        )
        private = by_name["record_dp-4-1"]
        assert private.labels == {"method": "fed_avg, ε 4", "seed": 1}
        assert private.experiment == Experiment(
            "heart",
            cohorts=Cohorts("full"),
            batches=Batches(client_steps=3),
            silos=Silos(0.2, 2),
            privacy=RecordLevelPrivacy(record_target_epsilon=4),
            training=Training(seed=1),
            name="record_dp_fed_avg",
        ).with_settings(client_learning_rate=0.5)
        only = by_name["only_0-1"]
        assert only.labels == {"method": "only Cleveland", "seed": 1}
        # A silo alone is never down.
        assert only.experiment == dataclasses.replace(
            self.BASE,
            baseline=Baseline("Cleveland"),
            silos=Silos(),
            training=Training(seed=1),
            name="silo_baseline",
        )
        assert by_name["pooled-0"].labels["method"] == "pooled"
        assert by_name["pooled-0"].experiment.baseline == Baseline("pooled")

    def test_without_private_runs(self):
        found = sweeps.cross_silo(
            self.BASE, algorithms=["fed_avg"], record_epsilons=[], seeds=[0]
        )
        assert [point.name for point in found][:2] == ["fed_avg-0", "only_0-0"]


@pytest.mark.parametrize(
    ("grid", "given", "further", "name"),
    [
        (
            sweeps.privacy_utility,
            {"mechanisms": ["tree"], "epsilons": [1.0]},
            {"further": {"tree": {"noise_multiplier": 1.0}}},
            "noise_multiplier",
        ),
        (
            sweeps.privacy_utility,
            {"mechanisms": ["tree"], "epsilons": [1.0]},
            {"further": {"tree": {"seed": 1}}},
            "seed",
        ),
        (
            sweeps.heterogeneity,
            {"algorithms": ["fed_avg"], "alphas": ["1"]},
            {"further": {"fed_avg": {"dirichlet_alpha": 1.0}}},
            "dirichlet_alpha",
        ),
        (
            sweeps.cross_silo,
            {"algorithms": ["fed_avg"], "record_epsilons": [1.0]},
            {"record_further": {"record_target_epsilon": 2.0}},
            "record_target_epsilon",
        ),
        (
            sweeps.byzantine_grid,
            {"names": ["alie"], "rules": ["mean"], "fractions": [0.5]},
            {"by_attack": {"alie": {"malicious_fraction": 0.25}}},
            "malicious_fraction",
        ),
        (
            sweeps.byzantine_grid,
            {"names": ["alie"], "rules": ["mean"], "fractions": [0.5]},
            {"by_rule": {"mean": {"aggregator": "krum"}}},
            "aggregator",
        ),
    ],
)
def test_further_settings_leave_a_run_what_the_tables_call_it(
    grid, given, further, name
):
    base = Experiment("heart", privacy=UserLevelPrivacy(target_epsilon=1))
    if grid is not sweeps.privacy_utility:
        base = dataclasses.replace(base, privacy=None)
    with pytest.raises(SettingError) as raised:
        grid(base, seeds=[0], **given, **further)
    assert raised.value.for_command_line == (
        f"--{name}: the grid sets it; leave it out of the further settings"
    )


@pytest.mark.parametrize(
    "grid",
    [
        lambda base: sweeps.byzantine_grid(
            base, names=["none"], rules=["mean"], fractions=[0.2], seeds=[0]
        ),
        lambda base: sweeps.privacy_utility(
            base, mechanisms=["gaussian"], epsilons=[1.0], seeds=[0]
        ),
        lambda base: sweeps.heterogeneity(
            base, algorithms=["fed_avg"], alphas=["natural"], seeds=[0]
        ),
        lambda base: sweeps.cross_silo(
            base, algorithms=["fed_avg"], record_epsilons=[], seeds=[0]
        ),
    ],
)
def test_runs_of_a_sweep_do_not_share_their_noise(grid):
    base = Experiment(
        "heart",
        privacy=UserLevelPrivacy(target_epsilon=1),
        training=Training(run_seed="4711"),
    )
    with pytest.raises(SettingError) as raised:
        grid(base)
    message = raised.value.for_command_line
    assert message.startswith("--run_seed: runs with one run seed have the same noise")
    assert "4711" not in message
