"""An experiment as flat settings: records, command lines and changes; no TensorFlow."""

from __future__ import annotations

import contextlib
import dataclasses
import json

import numpy as np
import pytest

from tfl_research import settings, tasks
from tfl_research.aggregators import (
    AGGREGATORS,
    AggregatorSettings,
    Krum,
    Mean,
    TrimmedMean,
)
from tfl_research.algorithms import ALGORITHMS, AlgorithmSettings, FedAvg, Scaffold
from tfl_research.errors import SettingError
from tfl_research.experiment import Experiment
from tfl_research.experiment.configs import (
    Attack,
    Audit,
    Baseline,
    Batches,
    Cohorts,
    Compression,
    Devices,
    RecordLevelPrivacy,
    Runtime,
    SecureSums,
    Silos,
    TaskChoice,
    Training,
    UserLevelPrivacy,
    Weighting,
)
from tfl_research.models.optimizers import (
    SGD,
    Adagrad,
    Adam,
    ClientOptimizer,
    ServerOptimizer,
    Yogi,
)
from tfl_research.privacy import MECHANISMS, MechanismSettings, mechanisms
from tfl_research.registry import registered
from tfl_research.settings import declared, kind_of
from tfl_research.storage import run_record

HEART = Experiment("heart")
NOISED = UserLevelPrivacy(noise_multiplier=1.0)
RECORDS = RecordLevelPrivacy(record_noise_multiplier=1.0)

# Parameters whose values are not any number of their kind.
GIVEN = {
    "trim": 2,
    "byzantine": 1,
    "root_examples": 5,
    "scaffold_option": 1,
    "on_breakdown": "skip",
    "modulus_bits": 18,
}


def other_value(field):
    """A value of a setting that is not its default."""
    kind = kind_of(field)
    if field.name in GIVEN:
        return GIVEN[field.name]
    if isinstance(kind, settings.Switch):
        return not field.default
    return 3 if kind.syntax == "integer" else 0.25


def with_other_values(chosen):
    """A choice all of whose parameters have values of their own."""
    fields = declared(chosen)
    found = chosen(**{field.name: other_value(field) for field in fields})
    for field in fields:
        assert getattr(found, field.name) != field.default
    return found


def check_round_trip(experiment):
    flat = experiment.flat()
    again = Experiment.from_flat(flat, name=experiment.name)
    assert again.flat() == flat
    assert again == dataclasses.replace(
        experiment,
        cohorts=experiment.resolved_cohorts,
        weighting=experiment.resolved_weighting,
    )
    # As a run's folder holds it, without the seed that is a secret.
    recorded = json.loads(json.dumps(run_record.plain_hparams(flat)))
    found = Experiment.from_flat(recorded, name=experiment.name)
    assert found == again.with_settings(run_seed=None)
    return flat


@pytest.mark.parametrize("name", ALGORITHMS.names())
def test_every_algorithm(name):
    chosen = with_other_values(ALGORITHMS.get(name))
    flat = check_round_trip(Experiment("heart", algorithm=chosen))
    assert flat["algorithm"] == name
    assert chosen.flat().items() <= flat.items()
    check_round_trip(Experiment("heart", algorithm=name))


@pytest.mark.parametrize("name", AGGREGATORS.names())
def test_every_aggregator(name):
    chosen = with_other_values(AGGREGATORS.get(name))
    flat = check_round_trip(Experiment("heart", aggregator=chosen))
    assert flat["aggregator"] == name
    assert chosen.flat().items() <= flat.items()


@pytest.mark.parametrize("name", MECHANISMS.names())
def test_every_mechanism(name):
    chosen = with_other_values(MECHANISMS.get(name))
    privacy = UserLevelPrivacy(
        chosen,
        l2_norm_clip=0.5,
        target_epsilon=3,
        delta=1e-4,
        budget_epsilon=4,
        accountant="rdp",
        ledger="l",
    )
    flat = check_round_trip(Experiment("heart", privacy=privacy))
    assert (flat["mechanism"], flat["privacy_unit"]) == (name, "client")
    assert chosen.flat().items() <= flat.items()
    default = UserLevelPrivacy(name, noise_multiplier=0.0)
    assert check_round_trip(Experiment("heart", privacy=default))["mechanism"] == name


PARTS = {
    "task": TaskChoice(
        "mnist",
        partition="dirichlet",
        dirichlet_alpha=0.1,
        num_clients=7,
        task_option=("model=cnn", "held_out_clients=2"),
    ),
    "client_optimizer": ClientOptimizer(
        "yogi",
        0.25,
        beta_1=0.5,
        beta_2=0.75,
        epsilon=0.125,
        initial_preconditioner=2.0,
        learning_rate_schedule="step",
        learning_rate_decay=0.5,
        learning_rate_decay_rounds=4,
        learning_rate_warmup_rounds=2,
        gradient_clip=3.0,
    ),
    "server_optimizer": ServerOptimizer("sgd", 2.0, momentum=0.9),
    "batches": Batches(batch_size=5, client_steps=3, max_examples_per_client=20),
    "cohorts": Cohorts("cyclic_poisson", 2.5, 3),
    "weighting": Weighting("capped", 30),
    "privacy": RecordLevelPrivacy(
        record_target_epsilon=3,
        record_delta=1e-4,
        record_budget_epsilon=4,
        record_accountant="rdp",
        record_ledgers="l",
        record_l2_norm_clip=0.5,
        record_batch_size=8,
        microbatch_size=2,
    ),
    "compression": Compression("quantize", compression_bits=4, error_feedback=True),
    "secure_sums": SecureSums(True, secure_sum_bits=40, secure_sum_bound=3),
    "devices": Devices(
        50,
        over_selection=1.5,
        report_deadline=90,
        minimum_cohort=2,
        drop_out=0.2,
        partial_work=True,
        seconds_per_example=0.5,
        download_rate=3e6,
        upload_rate=2e6,
        speed_spread=0.3,
        mean_availability=0.4,
        diurnal_amplitude=0.1,
        availability_by_label=0.7,
    ),
    "silos": Silos(0.25, 2),
    "attack": Attack(
        "backdoor",
        malicious_fraction=0.3,
        attack_scale=2,
        backdoor_target=1,
        backdoor_share=0.25,
        backdoor_trigger="feature",
        backdoor_feature=2,
        backdoor_value=9,
    ),
    "baseline": Baseline("pooled"),
    "audit": Audit(20, 10, "max", 0.9, 50, "noise_off"),
    "personal_evaluation": True,
    "training": Training(
        rounds=7,
        seed=4,
        run_seed="5",
        evaluate_every=2,
        max_evaluation_examples=50,
        selection_metric="auc:0.7,accuracy:0.3",
        client_weight=("Cleveland=2", "Oslo=1"),
        early_stopping_patience=3,
        checkpoint_every=5,
        keep_checkpoints=2,
        print_every=6,
        progress_bar=False,
        tensorboard=False,
    ),
    "runtime": Runtime(client_execution="folded_graph", chunk_clients=4),
}


@pytest.mark.parametrize("part", PARTS)
def test_every_part(part):
    own = PARTS[part]
    plain = HEART
    flat = check_round_trip(dataclasses.replace(plain, **{part: own}))
    if isinstance(own, settings.Settings):
        assert own.flat().items() <= flat.items()
    # Nothing but the part's own settings differs.
    changed = {k for k, v in flat.items() if plain.flat().get(k, "none") != v}
    if part == "personal_evaluation":
        assert changed == {"personal_evaluation"}
    else:
        follows = {"privacy": {"privacy_unit", "sampler"}, "audit": {"audit"}}
        assert changed <= {*own.flat(), *follows.get(part, set())}
        assert len(changed) >= 1


def test_all_parts_at_once():
    flat = check_round_trip(Experiment(**PARTS, name="all"))
    for own in PARTS.values():
        if isinstance(own, settings.Settings):
            assert own.flat().items() <= flat.items()


def test_what_is_left_out_has_its_default():
    assert Experiment.from_flat({"task": "heart"}, name="experiment") == HEART
    given = {"task": "heart", "algorithm": None, "client_weight": (), "rounds": None}
    assert Experiment.from_flat(given) == HEART


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "--task is missing; give one of shakespeare, "),
        ({"task": "heart", "round": 3}, "--round: there is no such setting"),
        ({"task": "heart", "side": None}, "--side: there is no such setting"),
        (
            {"task": "heart", "privacy_unit": "silo"},
            "--privacy_unit=silo: must be client, record or None",
        ),
        (
            {"task": "heart", "privacy_unit": []},
            "--privacy_unit=[]: must be client, record or None",
        ),
        (
            {"task": "heart", "privacy_unit": "client"},
            "--noise_multiplier or --target_epsilon is missing; give one of them",
        ),
        (
            {"task": "heart", "noise_multiplier": 1.0},
            "--noise_multiplier=1.0: goes with --privacy_unit=client; leave it out",
        ),
        (
            {"task": "heart", "mechanism": "tree"},
            "--mechanism=tree: goes with --privacy_unit=client; leave it out",
        ),
        (
            {"task": "heart", "restart_every": 4},
            "--restart_every=4: goes with --privacy_unit=client; leave it out",
        ),
        (
            {"task": "heart", "privacy_unit": "client", "record_delta": 0.1},
            "--record_delta=0.1: goes with --privacy_unit=record; leave it out",
        ),
        (
            {"task": "heart", "privacy_unit": "record", "l2_norm_clip": 2},
            "--l2_norm_clip=2: goes with --privacy_unit=client; leave it out",
        ),
        (
            {"task": "heart", "canaries": 20},
            "--canaries=20: goes with --audit; leave it out",
        ),
        (
            {"task": "heart", "audit": False, "sabotage": "noise_off"},
            "--sabotage=noise_off: goes with --audit; leave it out",
        ),
        ({"task": "heart", "audit": "no"}, "--audit=no: must be True or False"),
        (
            {"task": "heart", "personal_evaluation": 1},
            "--personal_evaluation=1: must be True or False",
        ),
        (
            {"task": "heart", "dyn_alpha": 1},
            "--dyn_alpha=1: goes with --algorithm=fed_dyn, not with fed_avg; leave it "
            "out",
        ),
        (
            {"task": "heart", "byzantine": 1},
            "--byzantine=1: goes with --aggregator=centered_clipping, norm_clipping, "
            "coordinate_median, ",
        ),
    ],
)
def test_flat_settings_that_are_refused(values, message):
    with pytest.raises(SettingError) as raised:
        Experiment.from_flat(values)
    assert raised.value.for_command_line.startswith(message)
    assert str(raised.value).startswith(message.replace("--", ""))
    assert "\n" not in str(raised.value)


class TestTasksOfOnesOwn:
    def test_a_built_task_records_what_its_name_does(self):
        built = tasks.get(
            "mnist",
            partition="dirichlet",
            dirichlet_alpha=0.1,
            num_clients=7,
            model="cnn",
        )
        named = TaskChoice(
            "mnist",
            partition="dirichlet",
            dirichlet_alpha=0.1,
            num_clients=7,
            task_option=("model=cnn",),
        )
        assert Experiment(built).flat() == Experiment(named).flat()
        assert Experiment(tasks.get("heart")).flat() == HEART.flat()

    def test_a_seed_of_its_own_is_recorded(self):
        built = tasks.get("heart", seed=4)
        same = Training(seed=4)
        assert Experiment(built, training=same).flat() == (
            Experiment("heart", training=same).flat()
        )
        assert Experiment(built).flat() == {**HEART.flat(), "task_seed": 4}

    def test_arrays_are_recorded_by_name(self):
        x, y = np.zeros((6, 2)), np.array([0, 1, 0, 1, 0, 1])
        own = tasks.from_arrays({"a": {"x": x, "y": y}}, model=int, name="mine")
        flat = Experiment(own).flat()
        assert flat["task"] == "mine"
        assert not set(flat) & (set(TaskChoice("heart").flat()) - {"task"})
        assert Experiment(own).with_settings(rounds=3).task is own


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


@dataclasses.dataclass(frozen=True)
class OwnAlgorithm(AlgorithmSettings):
    NAME, SUMMARY = "own_algorithm", "nothing"
    own_strength: float = settings.real(0.5, "A strength.", above=0)


@dataclasses.dataclass(frozen=True)
class OwnAggregator(AggregatorSettings):
    NAME, SUMMARY = "own_aggregator", "nothing"


@dataclasses.dataclass(frozen=True)
class OwnMechanism(MechanismSettings):
    NAME, SUMMARY, SAMPLERS = "own_mechanism", "nothing", ("full",)


def own_task(*, seed=0, size=3):
    raise AssertionError("no data are read")


class TestPlugins:
    def test_modules_of_what_is_used_are_recorded(self):
        assert HEART.flat()["plugins"] == []
        with contextlib.ExitStack() as stack:
            for choices, own in (
                (ALGORITHMS, OwnAlgorithm),
                (AGGREGATORS, OwnAggregator),
                (MECHANISMS, OwnMechanism),
            ):
                stack.enter_context(registered(choices, own.NAME, own))
            tasks.register("own_task", "other_package.module:build")
            tasks.register("own_function", own_task)
            try:
                assert HEART.flat()["plugins"] == []
                for given in (
                    {"algorithm": "own_algorithm"},
                    {"aggregator": OwnAggregator()},
                    {"privacy": UserLevelPrivacy(OwnMechanism(), noise_multiplier=1)},
                ):
                    experiment = dataclasses.replace(HEART, **given)
                    flat = check_round_trip(experiment)
                    assert flat["plugins"] == [__name__]
                own = Experiment(TaskChoice("own_function", task_option=("size=4",)))
                assert check_round_trip(own)["plugins"] == [__name__]
                assert tasks.origin("own_task") == "other_package.module"
                given = {"task": "heart", "own_strength": 2.0}
                with pytest.raises(SettingError, match="goes with algorithm=own_algor"):
                    Experiment.from_flat(given)
            finally:
                tasks.unregister("own_task")
                tasks.unregister("own_function")

    def test_a_class_that_is_not_registered_is_refused(self):
        with pytest.raises(SettingError, match="OwnAlgorithm is not registered"):
            Experiment("heart", algorithm=OwnAlgorithm(2.0))


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (SGD(0.5, momentum=0.25), ClientOptimizer("sgd", 0.5, 0.25)),
        (Adam(0.5, epsilon=0.1), ClientOptimizer("adam", 0.5, epsilon=0.1)),
        (Yogi(0.5), ClientOptimizer("yogi", 0.5)),
        (Adagrad(0.5), ClientOptimizer("adagrad", 0.5)),
        (ClientOptimizer(gradient_clip=2), ClientOptimizer(gradient_clip=2)),
    ],
)
def test_optimizers_are_the_clients_or_the_servers(given, found):
    experiment = Experiment("heart", client_optimizer=given)
    assert experiment.client_optimizer == experiment.clients == found
    assert type(experiment.client_optimizer) is ClientOptimizer
    on_server = Experiment("heart", server_optimizer=SGD(0.5)).server_optimizer
    assert on_server == ServerOptimizer("sgd", 0.5)
