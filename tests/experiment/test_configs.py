"""What the parts of an experiment accept, refuse and build, without TensorFlow."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest

from tfl_research import sampling, settings
from tfl_research.aggregators import AGGREGATORS
from tfl_research.algorithms import ALGORITHMS
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
    Silos,
    TaskChoice,
    Training,
    UserLevelPrivacy,
    Weighting,
)
from tfl_research.models.optimizers import ClientOptimizer, ServerOptimizer
from tfl_research.privacy import MECHANISMS, mechanisms
from tfl_research.sampling import Full
from tfl_research.settings import declared, kind_of

IDS = tuple(f"client{i}" for i in range(20))


def refused(build, *fragments: str) -> str:
    """The message of a refusal: one line that has the fragments, with flags."""
    with pytest.raises(SettingError) as raised:
        build()
    message = raised.value.for_command_line
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message
    return message


class TestTask:
    def test_only_given_options_are_passed(self):
        assert TaskChoice("mnist").options() == {}
        choice = TaskChoice(
            "mnist",
            partition="dirichlet",
            dirichlet_alpha=0.1,
            num_clients=7,
            task_option=("model=cnn", "held_out_clients=2"),
        )
        assert choice.options() == {
            "partition": "dirichlet",
            "dirichlet_alpha": 0.1,
            "num_clients": 7,
            "model": "cnn",
            "held_out_clients": 2,
        }

    def test_options_as_values(self):
        options = {"partition": "dirichlet", "dirichlet_alpha": 0.1, "model": "cnn"}
        choice = TaskChoice.of("mnist", {**options, "num_clients": 100})
        # 100 clients are the default.
        assert choice == TaskChoice(
            "mnist",
            partition="dirichlet",
            dirichlet_alpha=0.1,
            task_option=("model=cnn",),
        )
        assert choice.options() == options

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({}, "--task is missing; give one of shakespeare, heart, loans, taxi, "),
            ({"task": "hart"}, "--task=hart: unknown task; give one of shakespeare, "),
            (
                {"task": "heart", "partition": "iid"},
                "--partition=iid: task heart has no such option; leave it out (task "
                "heart takes model, test_fraction",
            ),
            (
                {"task": "heart", "task_option": ("model",)},
                "--task_option=model: must be NAME=VALUE",
            ),
            (
                {"task": "heart", "task_option": ("=mlp",)},
                "--task_option==mlp: must be NAME=VALUE",
            ),
            (
                {"task": "heart", "task_option": ("modell=mlp",)},
                "--task_option=modell=mlp: task heart has no such option; it takes "
                "model, test_fraction",
            ),
            (
                {"task": "heart", "task_option": ("model=mlp", "model=logistic")},
                "--task_option=model=logistic: model is given twice",
            ),
            (
                {"task": "mnist", "num_clients": 5, "task_option": ("num_clients=6",)},
                "--task_option=num_clients=6: num_clients is given twice",
            ),
            (
                {"task": "heart", "task_option": ("test_fraction=x",)},
                "--task_option: option 'test_fraction' of task 'heart' must be float, "
                "got 'x'",
            ),
            (
                {"task": "csv", "label_column": "y"},
                "--data_dir: task 'csv' needs the option 'data_dir'",
            ),
            (
                {"task": "csv", "data_dir": "x"},
                "--label_column: task 'csv' needs the option 'label_column'",
            ),
        ],
    )
    def test_refusals(self, given, message):
        found = refused(lambda: TaskChoice(**given))
        assert found.startswith(message)

    def test_what_the_task_refuses_names_the_task(self, tmp_path):
        refused(
            lambda: TaskChoice("heart", task_option=("model=tree",)).build(0),
            "--task=heart: ",
            "tree",
        )
        missing = tmp_path / "none"
        refused(
            lambda: TaskChoice("csv", data_dir=missing, label_column="y").build(0),
            "--task=csv: ",
            str(missing),
        )

    def test_files_of_the_users_own_have_a_digest(self, tmp_path):
        assert TaskChoice("heart").files_digest() is None
        (tmp_path / "a.csv").write_text("x,y\n1,0\n2,1\n")
        choice = TaskChoice("csv", data_dir=tmp_path, label_column="y")
        before = choice.files_digest()
        assert len(before) == 64
        (tmp_path / "a.csv").write_text("x,y\n1,0\n2,0\n")
        assert choice.files_digest() != before


@pytest.mark.parametrize(
    ("partition", "option", "value"),
    [
        ("dirichlet", "dirichlet_alpha", 0.1),
        ("shards", "shards_per_client", 3),
        ("quantity", "quantity_alpha", 0.2),
        ("rotation", "rotation_degrees", 0.0),
        ("noise", "noise_level", 0.7),
        ("concept_shift", "num_concepts", 2),
    ],
)
def test_a_partitions_option_reaches_the_task(partition, option, value):
    given = {"partition": partition, option: value}
    choice = TaskChoice("mnist", num_clients=4, **given)
    assert choice.options() == {**given, "num_clients": 4}
    title = choice.build(0).card.title
    assert title.endswith(f"{partition} partition, {option}={value}")
    assert refused(lambda: TaskChoice("mnist", **{option: value})) == (
        f"--{option}={value}: has no effect with --partition=iid; leave it out or give "
        f"--partition={partition}"
    )


def test_a_task_option_given_in_vain():
    found = refused(
        lambda: TaskChoice("emnist", partition="iid", task_option=("num_concepts=2",))
    )
    assert found.startswith("--task_option=num_concepts=2: has no effect with")


def test_a_mistyped_partition_is_one_line_about_the_task():
    refused(
        lambda: TaskChoice("mnist", partition="dirichelt").build(0),
        "--task=mnist: partition must be one of iid",
    )


class TestBatches:
    def test_only_what_is_given_changes(self):
        task = TaskChoice("heart").build(0)
        own = task.train.batching
        assert own.batch_size != 7
        assert Batches().applied_to(task).train.batching == own
        changed = Batches(batch_size=7, client_steps=3).applied_to(task).train.batching
        assert (changed.batch_size, changed.steps) == (7, 3)
        assert changed.epochs == own.epochs
        given = Batches(client_epochs=4, max_examples_per_client=9)
        limited = given.applied_to(task).train.batching
        assert (limited.epochs, limited.steps, limited.max_examples) == (4, None, 9)
        assert limited.batch_size == own.batch_size

    def test_epochs_take_the_place_of_steps(self):
        task = Batches(client_steps=3).applied_to(TaskChoice("heart").build(0))
        assert Batches(client_epochs=2).applied_to(task).train.batching.steps is None

    def test_steps_or_epochs(self):
        assert refused(lambda: Batches(client_steps=2, client_epochs=2)) == (
            "--client_steps=2: is given together with --client_epochs; leave one of "
            "the two out"
        )


class TestCohorts:
    def test_kinds(self):
        def built(*given):
            return Cohorts(*given).build(IDS, 3)

        assert built("poisson", 2.5) == sampling.Poisson(IDS, 2.5, 3)
        assert built("fixed", 5) == sampling.FixedSize(IDS, 5, 3)
        assert built("shuffled", 5) == sampling.Shuffled(IDS, 5, 3)
        assert built("full") == Full(IDS)

    def test_separated(self):
        largest = Cohorts("min_separation", 3).build(IDS, 1)
        assert largest.amplification.min_separation == 6
        given = Cohorts("min_separation", 3, min_separation=2).build(IDS, 1)
        assert given.amplification.min_separation == 2
        cyclic = Cohorts("cyclic_poisson", 2.5, min_separation=4).build(IDS, 1)
        assert cyclic.amplification.kind == "cyclic_poisson"

    def test_default_size_is_ten_or_everybody(self):
        for name in ("poisson", "fixed", "shuffled"):
            for ids in (IDS, IDS[:4]):
                sampler = Cohorts(name).build(ids, 0)
                assert sampler.expected_cohort_size == min(10, len(ids))

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (("fixed", 2.5), "--cohort_size=2.5: must be a whole number for "),
            (("min_separation", 2.5), "--cohort_size=2.5: must be a whole number for "),
            (("full", 20), "--cohort_size=20: --sampler=full takes every client; "),
            (("poisson", 0), "--cohort_size=0: must be a number, above 0"),
            (
                ("poisson", 5, 3),
                "--min_separation=3: goes with --sampler=min_separation or cyclic",
            ),
            ((None, 5, 3), "--min_separation=3: goes with --sampler=min_separation"),
            (("cyclic_poisson",), "--sampler=cyclic_poisson: needs --min_separation"),
            (("all",), "--sampler=all: must be one of poisson, fixed, shuffled, full,"),
        ],
    )
    def test_refusals(self, given, message):
        assert refused(lambda: Cohorts(*given)).startswith(message)

    def test_what_the_population_is_too_small_for(self):
        assert refused(lambda: Cohorts("fixed", 21).build(IDS, 0)) == (
            "--cohort_size=21: there are 20 clients; give at most that many"
        )
        for name in ("min_separation", "cyclic_poisson"):
            cohorts = Cohorts(name, 5, min_separation=5)
            assert refused(lambda cohorts=cohorts: cohorts.build(IDS, 1)) == (
                "--min_separation=5: 20 clients, 5 a round, can be at most 4 rounds "
                "apart; give at most that, or a smaller --cohort_size"
            )

    def test_weighting(self):
        assert Weighting("capped", 30).weight_cap == 30
        assert refused(lambda: Weighting("capped")) == (
            "--client_weighting=capped: needs --weight_cap too"
        )
        for kind in ("examples", "uniform", None):
            assert refused(lambda kind=kind: Weighting(kind, 30)) == (
                "--weight_cap=30: goes with --client_weighting=capped only; leave it "
                "out"
            )


class TestTraining:
    def test_config_carries_every_value(self):
        training = Training(
            rounds=7,
            seed=4,
            evaluate_every=2,
            max_evaluation_examples=50,
            selection_metric="loss",
            early_stopping_patience=3,
            checkpoint_every=5,
            keep_checkpoints=2,
            print_every=6,
            progress_bar=False,
            report=False,
            export=False,
        )
        config = training.config()
        # The others are no part of the round loop.
        others = {"run_seed", "client_weight", "tensorboard"}
        for field in declared(Training):
            if field.name not in others:
                found = getattr(config, field.name)
                assert found == getattr(training, field.name), field.name
                assert found != field.default, field.name

    def test_refusals(self):
        refused(lambda: Training(rounds=0), "--rounds=0: must be a whole number, at l")
        refused(lambda: Training(selection_metric="a:x"), "--selection_metric=a:x: ")

    @pytest.mark.parametrize(
        "secret", ["-3", "abcdefgh", str(2**128), [123, 456], b"abcdefgh", 1234.5]
    )
    def test_a_bad_run_seed_is_not_repeated(self, secret):
        with pytest.raises(SettingError, match=r"^run_seed: must be") as raised:
            Training(run_seed=secret)
        for said in (str(raised.value), raised.value.for_command_line):
            assert str(secret) not in said.replace("2^128", "")

    @pytest.mark.parametrize("seed", [-1, 2**32, 2**64])
    def test_a_seed_that_no_model_takes(self, seed):
        """It ended a run as an error that nobody foresaw, when the model was built."""
        message = refused(lambda: Training(seed=seed))
        assert message == (
            f"--seed={seed}: must be a whole number, at least 0 and at most 4294967295"
        )
        assert Training(seed=2**32 - 1).seed == 2**32 - 1

    def test_a_run_seed_may_be_a_number(self):
        assert Training(run_seed=2**128 - 1).run_seed == str(2**128 - 1)

    def test_weights_of_clients(self):
        def weights(*texts):
            return Training(client_weight=texts).client_weights(("a", "b=c"))

        assert weights("a=2", "b=c=0") == {"a": 2.0, "b=c": 0.0}
        for text in ("a", "a=", "a=x", "=2", "a=-1", "a=inf", "a=nan"):
            assert refused(lambda text=text: weights(text)) == (
                f"--client_weight={text}: must be NAME=WEIGHT, with a weight of at "
                "least 0"
            )
        assert refused(lambda: weights("d=1")) == (
            "--client_weight=d=1: the task has no client 'd'"
        )
        assert refused(lambda: weights("a=1", "a=2")) == (
            "--client_weight=a=2: client a has a weight already; give each client one "
            "weight"
        )


class TestUserLevelPrivacy:
    def test_exactly_one_of_noise_and_epsilon(self):
        assert refused(UserLevelPrivacy) == (
            "--noise_multiplier or --target_epsilon is missing; give one of them"
        )
        assert refused(
            lambda: UserLevelPrivacy(noise_multiplier=1, target_epsilon=2)
        ) == (
            "--target_epsilon=2: already decides the noise; leave it or "
            "--noise_multiplier out"
        )
        assert UserLevelPrivacy(noise_multiplier=0).target_epsilon is None

    @pytest.mark.parametrize("delta", [0, 1, -0.1, 1.5])
    def test_delta_is_a_probability(self, delta):
        for build in (
            lambda: UserLevelPrivacy(noise_multiplier=1.0, delta=delta),
            lambda: RecordLevelPrivacy(record_noise_multiplier=1, record_delta=delta),
        ):
            assert refused(build, "must be a number, above 0 and below 1").startswith(
                ("--delta=", "--record_delta=")
            )

    def test_a_budget_below_the_target(self):
        assert refused(
            lambda: UserLevelPrivacy(target_epsilon=3, budget_epsilon=2)
        ) == (
            "--budget_epsilon=2: is below --target_epsilon=3, so the run would stop "
            "early; leave it out or raise it"
        )
        assert UserLevelPrivacy(target_epsilon=3, budget_epsilon=3).budget_epsilon == 3

    @pytest.mark.parametrize(
        ("noise", "words"),
        [
            (1e-200, "must be 0, for no noise, or at least 1e-100"),
            (1e300, "at most 1e+06"),
            (-1, "at least 0"),
        ],
    )
    def test_noise_that_no_arithmetic_bears(self, noise, words):
        refused(
            lambda: UserLevelPrivacy(noise_multiplier=noise),
            f"--noise_multiplier={noise:g}: ",
            words,
        )
        refused(
            lambda: RecordLevelPrivacy(record_noise_multiplier=noise),
            f"--record_noise_multiplier={noise:g}: ",
            words,
        )

    def test_a_mechanism_by_name_or_by_its_settings(self):
        given = UserLevelPrivacy("tree", noise_multiplier=1.0)
        assert given == UserLevelPrivacy(mechanisms.Tree(), noise_multiplier=1.0)
        assert given.chosen == mechanisms.Tree()
        refused(
            lambda: UserLevelPrivacy("laplace", noise_multiplier=1),
            "--mechanism=laplace: must be one of gaussian, adaptive_gaussian",
        )

    @pytest.mark.parametrize("wrong", [3, None, ("tree",), mechanisms.Tree])
    def test_what_is_no_mechanism(self, wrong):
        refused(
            lambda: UserLevelPrivacy(wrong, noise_multiplier=1.0),
            "mechanism must be a name or MechanismSettings, got ",
        )


class TestRecordLevelPrivacy:
    def test_refusals(self):
        assert refused(RecordLevelPrivacy) == (
            "--record_noise_multiplier or --record_target_epsilon is missing; give one "
            "of them"
        )
        assert refused(
            lambda: RecordLevelPrivacy(
                record_noise_multiplier=1, record_target_epsilon=2
            )
        ) == (
            "--record_target_epsilon=2: already decides the noise; leave it or "
            "--record_noise_multiplier out"
        )
        refused(
            lambda: RecordLevelPrivacy(
                record_target_epsilon=3, record_budget_epsilon=2
            ),
            "--record_budget_epsilon=2: is below --record_target_epsilon=3",
        )

    def test_steps_of_a_round(self):
        privacy = RecordLevelPrivacy(record_noise_multiplier=1)
        assert privacy.steps(Batches()) == 10
        assert privacy.steps(Batches(client_steps=3)) == 3


class TestRuntime:
    def test_addresses(self):
        runtime = Runtime("remote", workers="a:1, b.c:65535")
        assert runtime.addresses() == ["a:1", "b.c:65535"]

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (
                {"runtime": "tff", "client_execution": "folded_xla"},
                "--client_execution=folded_xla: goes with --runtime=in_process and "
                "--runtime=remote only; leave it out",
            ),
            (
                {"runtime": "tff", "chunk_clients": 3},
                "--chunk_clients=3: goes with --runtime=in_process only; leave it out",
            ),
            (
                {"runtime": "remote"},
                "--runtime=remote: needs --workers=HOST:PORT,...; scripts/worker "
                "starts a worker",
            ),
            (
                {"workers": "a:1"},
                "--workers=a:1: goes with --runtime=remote only; leave it out",
            ),
            *(
                (
                    {"runtime": "remote", "workers": text},
                    f"--workers={text}: '{text}': must be HOST:PORT with a port from "
                    "1 to 65535",
                )
                for text in ("a", "a:", ":1", "a:0", "a:65536", "a:-1", "a:x")
            ),
            *(
                (
                    {"runtime": "remote", "workers": "a:1", "worker_data": folder},
                    f"--worker_data={folder}: must be the path of a folder, as "
                    "/shared/mnist; mount a store of another kind, and write your home "
                    "folder out",
                )
                for folder in ("gs://bucket/mnist", "~/mnist", "~")
            ),
            (
                {"runtime": "remote", "workers": "a:1,a:1"},
                "--workers=a:1,a:1: 'a:1' is given twice",
            ),
        ],
    )
    def test_refusals(self, given, message):
        assert refused(lambda: Runtime(**given)) == message


class TestCompression:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (
                {"compression_fraction": 0.1},
                "--compression_fraction=0.1: goes with --compression=top_k or random_"
                "k; leave it out",
            ),
            (
                {"compression": "top_k", "compression_bits": 4},
                "--compression_bits=4: goes with --compression=quantize; leave it out",
            ),
            (
                {"compression": "quantize", "compression_rank": 4},
                "--compression_rank=4: goes with --compression=low_rank; leave it out",
            ),
            (
                {"error_feedback": False},
                "--error_feedback=False: goes with --compression; leave it out",
            ),
        ],
    )
    def test_refusals(self, given, message):
        assert refused(lambda: Compression(**given)) == message

    def test_what_is_lost_is_fed_back_by_default_where_it_is_biased(self):
        found = {
            name: Compression(name).feeds_back
            for name in ("top_k", "random_k", "low_rank", "quantize")
        }
        assert found == {
            "top_k": True,
            "random_k": True,
            "low_rank": True,
            "quantize": False,
        }
        assert Compression("quantize", error_feedback=True).feeds_back
        assert not Compression("top_k", error_feedback=False).feeds_back


class TestAttack:
    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"attack": "evil"}, "--attack=evil: must be one of none, label_flip"),
            (
                {"malicious_fraction": 0.2},
                "--malicious_fraction=0.2: there is no --attack; leave it out",
            ),
            ({"attack": "alie", "malicious_fraction": 0}, "above 0 and at most 1"),
            (
                {"attack": "mimic", "attack_scale": 2},
                "--attack_scale=2: goes with --attack=backdoor, gaussian, sign_",
            ),
            ({"attack": "alie", "attack_scale": -1}, "--attack_scale=-1: must be"),
            (
                {"attack": "alie", "attack_perturbation": "std"},
                "goes with --attack=min_max or min_sum, not with alie",
            ),
            (
                {"attack": "alie", "label_flip": "reverse"},
                "--label_flip=reverse: goes with --attack=label_flip",
            ),
            (
                {"attack": "label_flip", "backdoor_target": 1},
                "--backdoor_target=1: goes with --attack=backdoor, not with label_flip",
            ),
            ({"attack": "backdoor", "backdoor_share": 0}, "above 0 and at most 1"),
            (
                {
                    "attack": "backdoor",
                    "backdoor_trigger": "feature",
                    "backdoor_patch_size": 2,
                },
                "--backdoor_patch_size=2: goes with --backdoor_trigger=patch",
            ),
            (
                {
                    "attack": "backdoor",
                    "backdoor_trigger": "patch",
                    "backdoor_feature": 2,
                },
                "--backdoor_feature=2: goes with --backdoor_trigger=feature",
            ),
        ],
    )
    def test_what_is_refused(self, wrong, message):
        refused(lambda: Attack(**wrong), message)

    def test_defaults(self):
        assert Attack().is_none
        assert Attack().fraction == 0
        assert Attack("alie").fraction == 0.2
        assert Attack("alie", malicious_fraction=0.1).fraction == 0.1
        kinds = [Attack(name).kind for name in ("none", "backdoor", "scaled", "alie")]
        assert kinds == ["none", "data", "local", "omniscient"]


def test_settings_of_devices_need_devices():
    for name, value, shown in (
        ("drop_out", 0.5, "0.5"),
        ("partial_work", True, "True"),
        ("over_selection", 1.5, "1.5"),
    ):
        assert refused(lambda n=name, v=value: Devices(**{n: v})) == (
            f"--{name}={shown}: goes with --devices; give that too"
        )
    refused(lambda: Devices(5, over_selection=0.5), "--over_selection=0.5: must be")
    refused(lambda: Devices(0), "--devices=0: must be a whole number, at least 1")
    refused(lambda: Devices(9, drop_out=1), "--drop_out=1: ", "below 1")


class TestSilos:
    def test_no_silo_is_down_by_default(self):
        full = Full(IDS)
        assert Silos().sampler(full, 0) is full
        down = Silos(0.25, 3).sampler(full, 7)
        assert (down.drop_out, down.minimum) == (0.25, 3)

    def test_a_minimum_that_no_cohort_reaches(self):
        refused(
            lambda: Silos(minimum_clients=21).sampler(Full(IDS), 0),
            "--minimum_clients=21: ",
            "from 1 to 20, the largest cohort, got 21",
        )


class TestBaseline:
    def test_one_silo_or_all_of_them(self):
        task = TaskChoice("heart").build(0)
        assert Baseline().applied_to(task) is task
        one = Baseline("Cleveland").applied_to(task)
        assert tuple(one.train.client_ids) == ("Cleveland",)
        pooled = Baseline("pooled").applied_to(task).train
        assert len(pooled) == 1
        (name,) = pooled.client_ids
        everybody = sum(task.train.num_examples(i) for i in task.train.client_ids)
        assert pooled.num_examples(name) == everybody
        refused(
            lambda: Baseline("Oslo").applied_to(task),
            "--train_on=Oslo: there is no such silo; give pooled or one of Cleveland, ",
        )


def test_the_unit_of_canaries_weights():
    assert Audit().weight_unit(Weighting("uniform")) == 1
    assert Audit().weight_unit(Weighting("capped", 30)) == 30


# Every group of settings, with what it cannot do without.
GROUPS = {
    TaskChoice: {"task": "mnist"},
    UserLevelPrivacy: {"noise_multiplier": 1.0},
    RecordLevelPrivacy: {"record_noise_multiplier": 1.0},
}
for _group in (*Experiment.PLAIN.values(), Audit, ClientOptimizer, ServerOptimizer):
    GROUPS[_group] = {}
for _choices in (ALGORITHMS, AGGREGATORS, MECHANISMS):
    GROUPS.update((chosen, {}) for _, chosen in _choices.items())
NUMBER = ["x", "", [1], {}, True, float("nan"), float("inf"), object(), 1j]
WRONG = {
    "integer": [*NUMBER, 1.5, 2.0, "1.5"],
    "number": NUMBER,
    "text": [True, [], {}, object(), b"x"],
}


def wrong_values(field):
    kind = kind_of(field)
    if isinstance(kind, settings.Switch):
        return ["true", 2, 0.5, [], object()]
    if isinstance(kind, settings.Repeated):
        return ["text", 3, {"a": 1}, {"a"}, [[]], (None,), True]
    if kind.syntax in WRONG:
        return WRONG[kind.syntax]
    return ["no such name", "", 3, True, [], {}, object()]


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__)
def test_a_value_of_the_wrong_type_is_one_line(group):
    for field in declared(group):
        values = wrong_values(field)
        if field.default is not None:
            values = [*values, None]
        for value in values:
            given = {**GROUPS[group], field.name: value}
            message = refused(lambda given=given: group(**given))
            flag = group.flag(field.name)
            assert message.startswith((f"{flag}=", f"{flag}: ")), (field.name, value)
            # With flags, as a command line shows it, and no value that is a page.
            assert "must be" in message


def test_values_on_several_lines_are_one_line():
    class Page:
        def __str__(self):
            return "first\nsecond"

    message = refused(lambda: Training(rounds=Page()))
    assert message == ("--rounds=first second: must be a whole number, at least 1")


def test_names_of_settings_are_of_one_part_each():
    """A flat name that two parts had would reach both."""
    owners = {}
    groups = [*Experiment.PLAIN.values(), TaskChoice, Audit, ClientOptimizer]
    groups += [ServerOptimizer, UserLevelPrivacy, RecordLevelPrivacy]
    for group in groups:
        for field in declared(group):
            owners.setdefault(group.PREFIX + field.name, []).append(group.__name__)
    for choices in (ALGORITHMS, AGGREGATORS, MECHANISMS):
        for name in (choices.setting, *choices.parameters()):
            owners.setdefault(name, []).append(choices.setting)
    for name in ("privacy_unit", "audit", "personal_evaluation", "plugins"):
        owners.setdefault(name, []).append("experiment")
    assert {name: who for name, who in owners.items() if len(who) > 1} == {}


def test_every_setting_has_a_help():
    for group in GROUPS:
        for field in declared(group):
            assert settings.help_of(field).rstrip().endswith((".", ")")), field.name


def test_paths_are_texts():
    given = RecordLevelPrivacy(
        record_noise_multiplier=1, record_ledgers=pathlib.Path("a/b")
    )
    assert given.record_ledgers == "a/b"
    assert dataclasses.replace(given, record_ledgers=None).record_ledgers is None


def test_more_threads_than_memory_holds():
    """TensorFlow made them all: 20 GB, and no end by SIGTERM."""
    message = refused(lambda: Runtime(operation_threads=1025))
    assert message == (
        "--operation_threads=1025: must be a whole number, at least 1 and at most 1024"
    )
    assert Runtime(operation_threads=1024).operation_threads == 1024
