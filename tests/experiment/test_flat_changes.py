"""Changes of an experiment by flat settings."""

from __future__ import annotations

import dataclasses

import pytest
from flat_parts import HEART, PARTS

from tfl_research import tasks
from tfl_research.aggregators import (
    Krum,
    Mean,
    TrimmedMean,
)
from tfl_research.algorithms import FedAvg, Scaffold
from tfl_research.errors import SettingError
from tfl_research.experiment import Experiment
from tfl_research.experiment.configs import (
    Audit,
    Cohorts,
    RecordLevelPrivacy,
    UserLevelPrivacy,
)
from tfl_research.privacy import mechanisms

NOISED = UserLevelPrivacy(noise_multiplier=1.0)
RECORDS = RecordLevelPrivacy(record_noise_multiplier=1.0)

# A setting of every part, with a value that is not its default.
CHANGES = {
    "batches": {"batch_size": 5},
    "cohorts": {"sampler": "shuffled", "cohort_size": 2.0},
    "weighting": {"client_weighting": "capped", "weight_cap": 30.0},
    "release": {"release_exact": ("eval_loss",), "selection_epsilon": 0.5},
    "compression": {"compression": "top_k", "compression_fraction": 0.1},
    "secure_sums": {"secure_sums": True, "secure_sum_bits": 40},
    "devices": {"devices": 50, "drop_out": 0.2},
    "silos": {"silo_drop_out": 0.25},
    "attack": {"attack": "label_flip", "label_flip": "pairwise"},
    "baseline": {"train_on": "pooled"},
    "training": {"rounds": 3, "seed": 4, "client_weight": ("a=1",)},
    "runtime": {"runtime": "tff"},
    "client_optimizer": {"client_optimizer": "adam", "client_learning_rate": 0.5},
    "server_optimizer": {"server_learning_rate": 0.5, "server_momentum": 0.5},
    "task": {"partition": "shards", "num_clients": 9},
    "algorithm": {"algorithm": "fed_dyn", "dyn_alpha": 0.5},
    "aggregator": {"aggregator": "krum", "byzantine": 2},
    "personal_evaluation": {"personal_evaluation": True},
}


class TestChanges:
    def test_every_part_is_here(self):
        assert {*Experiment.PLAIN} <= set(CHANGES)

    @pytest.mark.parametrize("part", CHANGES)
    def test_of_a_part(self, part):
        before = Experiment("mnist", name="changed", callbacks=())
        after = before.with_settings(**CHANGES[part])
        for field in dataclasses.fields(Experiment):
            same = getattr(after, field.name) == getattr(before, field.name)
            assert same == (field.name != part), field.name
        assert CHANGES[part].items() <= after.flat().items()

    def test_several_parts_at_once(self):
        together = {k: v for one in CHANGES.values() for k, v in one.items()}
        assert (
            together.items()
            <= Experiment("mnist").with_settings(**together).flat().items()
        )

    def test_what_was_given_before_stays(self):
        before = Experiment(**PARTS)
        after = before.with_settings(rounds=9, drop_out=0.5, client_learning_rate=0.5)
        assert after == dataclasses.replace(
            before,
            training=dataclasses.replace(before.training, rounds=9),
            devices=dataclasses.replace(before.devices, drop_out=0.5),
            client_optimizer=dataclasses.replace(before.clients, learning_rate=0.5),
        )
        assert before.with_settings() == before

    def test_a_value_can_be_taken_back(self):
        before = Experiment("heart", cohorts=Cohorts("fixed", 3))
        assert before.with_settings(cohort_size=None).cohorts == Cohorts("fixed")
        assert before.with_settings(sampler=None, cohort_size=None) == HEART

    def test_another_choice_leaves_the_old_parameters_behind(self):
        before = Experiment(
            "heart",
            algorithm=Scaffold(scaffold_option=1),
            aggregator=Krum(byzantine=2),
        )
        assert before.with_settings(algorithm="fed_avg").algorithm == FedAvg()
        assert before.with_settings(aggregator="mean").aggregator == Mean()
        trimmed = before.with_settings(aggregator="trimmed_mean", trim=1)
        assert trimmed.aggregator == TrimmedMean(trim=1)
        # The same choice keeps what is not changed.
        kept = before.with_settings(aggregator="krum", bucket_size=2)
        assert kept.aggregator == Krum(byzantine=2, bucket_size=2)
        assert before.with_settings(byzantine=3).aggregator == Krum(byzantine=3)

    def test_of_user_level_privacy(self):
        tree = UserLevelPrivacy(mechanisms.Tree(restart_every=5), noise_multiplier=2.0)
        before = Experiment("heart", privacy=tree)
        after = before.with_settings(target_epsilon=3.0, noise_multiplier=None)
        assert after.privacy == UserLevelPrivacy(
            mechanisms.Tree(restart_every=5), target_epsilon=3
        )
        after = before.with_settings(tree_efficient=False, l2_norm_clip=0.5)
        assert after.privacy == UserLevelPrivacy(
            mechanisms.Tree(restart_every=5, tree_efficient=False),
            l2_norm_clip=0.5,
            noise_multiplier=2.0,
        )
        after = before.with_settings(mechanism="banded_matrix", bands=4)
        assert after.privacy == UserLevelPrivacy(
            mechanisms.BandedMatrix(bands=4), noise_multiplier=2.0
        )
        # The sampler that follows from the privacy still does.
        assert after.cohorts == Cohorts()

    def test_of_record_level_privacy_and_of_an_audit(self):
        records = Experiment("heart", privacy=RECORDS)
        after = records.with_settings(
            record_target_epsilon=3.0, record_noise_multiplier=None, microbatch_size=2
        )
        assert after.privacy == RecordLevelPrivacy(
            record_target_epsilon=3, microbatch_size=2
        )
        audited = Experiment("heart", privacy=NOISED, audit=Audit(20))
        assert audited.with_settings(canary_scale=5.0).audit == Audit(20, 5.0)

    @pytest.mark.parametrize(
        ("experiment", "changes", "name"),
        [
            (HEART, {"round": 3}, "round"),
            (HEART, {"rounds": 3, "client": 1}, "client"),
            (HEART, {"noise_multiplier": 1.0}, "noise_multiplier"),
            (HEART, {"mechanism": "tree"}, "mechanism"),
            (HEART, {"canaries": 5}, "canaries"),
            (HEART, {"privacy_unit": "client"}, "privacy_unit"),
            (HEART, {"privacy": NOISED}, "privacy"),
            (
                Experiment("heart", privacy=NOISED),
                {"record_delta": 0.1},
                "record_delta",
            ),
            (Experiment("heart", privacy=RECORDS), {"delta": 0.1}, "delta"),
            (Experiment(tasks.get("heart")), {"partition": "iid"}, "partition"),
        ],
    )
    def test_a_name_that_no_part_has(self, experiment, changes, name):
        with pytest.raises(SettingError) as raised:
            experiment.with_settings(**changes)
        said = f"{name}: no part of this experiment has such a setting; "
        assert raised.value.for_command_line.startswith(f"--{said}")
        assert str(raised.value).startswith(said)

    @pytest.mark.parametrize(
        ("changes", "ending"),
        [
            (
                {"learning_rate": 1},
                "did you mean client_learning_rate or server_learning_rate?",
            ),
            ({"client_lr": 1}, "did you mean client_learning_rate?"),
            ({"cohort_sise": 1}, "did you mean cohort_size?"),
            (
                {"proximal_strenght": 1},
                "did you mean proximal_strength or personal_strength?",
            ),
            ({"zzz": 1}, "experiment.flat() lists the settings of this experiment"),
            (
                {"target_epsilon": 8},
                "it goes with privacy=UserLevelPrivacy(...), which this experiment "
                "does not have",
            ),
            (
                {"record_target_epsilon": 8},
                "it goes with privacy=RecordLevelPrivacy(...), which this experiment "
                "does not have",
            ),
            (
                {"training": 1},
                "replace the part with dataclasses.replace(experiment, training=...)",
            ),
        ],
    )
    def test_what_to_do_about_such_a_name(self, changes, ending):
        with pytest.raises(SettingError) as raised:
            HEART.with_settings(**changes)
        assert str(raised.value).endswith(f"has such a setting; {ending}")

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"rounds": 0}, "--rounds=0: must be a whole number, at least 1"),
            ({"dyn_alpha": 1}, "--dyn_alpha=1: goes with --algorithm=fed_dyn, not"),
            ({"algorithm": "fed_ave"}, "--algorithm=fed_ave: must be one of fed_avg,"),
            ({"aggregator": "krum"}, "--aggregator=krum: needs --byzantine too"),
            ({"weight_cap": 3}, "--weight_cap=3: goes with --client_weighting=capped"),
            ({"personal_evaluation": 1}, "personal_evaluation must be bool, got int"),
            ({"task": "hart"}, "--task=hart: unknown task"),
        ],
    )
    def test_values_that_are_refused(self, changes, message):
        with pytest.raises(SettingError) as raised:
            HEART.with_settings(**changes)
        assert raised.value.for_command_line.startswith(message)
