"""What the settings of cohorts, and all settings, accept and refuse."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest
from refused_settings import refused

from tfl_research import sampling, settings
from tfl_research.aggregators import AGGREGATORS
from tfl_research.algorithms import ALGORITHMS
from tfl_research.experiment import Experiment
from tfl_research.experiment.configs import (
    Audit,
    Baseline,
    Batches,
    Cohorts,
    Devices,
    RecordLevelPrivacy,
    Silos,
    TaskChoice,
    Training,
    UserLevelPrivacy,
    Weighting,
)
from tfl_research.models.optimizers import ClientOptimizer, ServerOptimizer
from tfl_research.privacy import MECHANISMS
from tfl_research.sampling import Full
from tfl_research.settings import declared, kind_of

IDS = tuple(f"client{i}" for i in range(20))


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
