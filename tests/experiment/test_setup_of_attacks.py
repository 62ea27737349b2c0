"""Malicious clients and the server's own examples in an experiment; no TensorFlow."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tfl_research import data
from tfl_research.aggregators import ROOT_ROLE, CoordinateMedian, Krum, TrustedRoot
from tfl_research.devices.silos import UnreliableSilos
from tfl_research.errors import SettingError
from tfl_research.experiment import Experiment, attacked, server_root, setup
from tfl_research.experiment.configs import Attack, Cohorts, Silos, Training
from tfl_research.tasks.task import Card, Task


def toy(clients=10, features=4, y_dtype=np.int32):
    generator = np.random.default_rng(0)
    held = data.ClientData.from_arrays(
        {
            f"c{number}": {
                "x": generator.random((6, features), dtype=np.float32),
                "y": np.array([0, 1, 2, 0, 1, 2], y_dtype),
            }
            for number in range(clients)
        }
    )
    return Task("toy", Card("", "", "", "", ""), held, held, None, int, int)


def experiment(task=None, aggregator=CoordinateMedian(), seed=3, **attack):  # noqa: B008
    return Experiment(
        task or toy(),
        aggregator=aggregator,
        cohorts=Cohorts("full"),
        attack=Attack(**attack),
        training=Training(seed=seed),
    )


def prepared(*given, **attack):
    return setup.prepare(experiment(*given, **attack))


class TestAttacks:
    def test_without_an_attack_nothing_changes(self):
        task = toy()
        found = prepared(task)
        assert found.task.train.roles is None
        assert found.malicious == ()
        assert "malicious_clients" not in found.hparams()
        assert found.task.further_splits == {}

    @pytest.mark.parametrize("attack", ["label_flip", "backdoor", "scaled", "alie"])
    def test_malicious_clients_are_told(self, attack):
        task = toy()
        found = prepared(task, attack=attack, malicious_fraction=0.3)
        assert len(found.malicious) == 3
        assert found.hparams()["malicious_clients"] == list(found.malicious)
        train = found.task.train
        roles = train.cohort(train.client_ids, seed=0, round_number=1).roles
        told = [c for c, role in zip(train.client_ids, roles) if role == 1]
        assert tuple(told) == found.malicious
        poisons = attack in ("label_flip", "backdoor")
        for client_id in train.client_ids:
            same = train.load(client_id) is task.train.load(client_id)
            assert same == (client_id not in found.malicious or not poisons)

    def test_other_seeds_have_other_clients(self):
        found = {prepared(seed=s, attack="alie").malicious for s in range(6)}
        assert len(found) > 1

    def test_labels_are_flipped_as_asked(self):
        for kind, expected in (("reverse", [2, 1, 0]), ("pairwise", [1, 2, 0])):
            found = prepared(attack="label_flip", label_flip=kind)
            held = found.task.train.load(found.malicious[0])["y"]
            assert held.tolist() == expected * 2
            honest = next(i for i in found.asked.client_ids if i not in found.malicious)
            assert found.task.train.load(honest)["y"].tolist() == [0, 1, 2] * 2

    def test_a_backdoor_is_evaluated(self):
        found = prepared(attack="backdoor", backdoor_target=2, backdoor_value=9)
        (name,) = found.task.further_splits
        assert name == "eval_backdoor"
        held = found.task.further_splits[name].load("c0")
        assert held["y"].tolist() == [2, 2, 2, 2]
        assert (held["x"][:, 0] == 9).all()
        # Two of ten clients: each counts five times in a mean.
        assert attacked._scale(found) == 5
        assert attacked._scale(prepared(attack="backdoor", attack_scale=2)) == 2

    def test_a_share_of_the_examples_gets_the_trigger(self):
        for share, expected in ((None, 3), (1.0, 6)):
            found = prepared(
                attack="backdoor",
                backdoor_target=1,
                backdoor_share=share,
                backdoor_feature=2,
            )
            held = found.task.train.load(found.malicious[0])
            with_trigger = held["x"][:, 2] == 5
            assert with_trigger.sum() == expected
            assert (held["y"][with_trigger] == 1).all()

    @pytest.mark.parametrize(
        ("task", "attack", "message"),
        [
            (
                {},
                {"attack": "alie", "malicious_fraction": 0.01},
                "--malicious_fraction=0.01: makes none of the 10 clients malicious; "
                "give at least 0.05",
            ),
            (
                {"y_dtype": np.float32},
                {"attack": "label_flip"},
                "--attack=label_flip: label attacks need one class for each example",
            ),
            (
                {},
                {"attack": "backdoor", "backdoor_target": 3},
                "--backdoor_target=3: the task has classes 0 to 2",
            ),
            (
                {},
                {"attack": "backdoor", "backdoor_feature": 4},
                "--attack=backdoor: a trigger on feature 4 needs vectors of at least 5",
            ),
        ],
    )
    def test_what_is_refused(self, task, attack, message):
        with pytest.raises(SettingError) as caught:
            experiment(toy(**task), **attack).check()
        assert caught.value.for_command_line.startswith(message)
        assert "\n" not in str(caught.value)

    def test_local_attacks_go_with_every_aggregator(self):
        assert prepared(aggregator="zeroing", attack="gaussian").malicious


SIZES = (3, 0, 5, 2)
TOTAL = sum(SIZES)


@pytest.fixture(scope="module")
def numbered():
    """Ten examples, x their number, y a class that `label_flip` turns around."""
    numbers = np.split(np.arange(TOTAL), np.cumsum(SIZES)[:-1])
    held = data.ClientData.from_arrays(
        {
            f"c{i}": {
                "x": own[:, None].astype(np.float32),
                "y": (own % 2).astype(np.int32),
            }
            for i, own in enumerate(numbers)
        }
    )
    return Task("toy", Card("", "", "", "", ""), held, held, None, int, int)


def rooted(task, examples, seed=3, **attack):
    return prepared(task, TrustedRoot(root_examples=examples), seed, **attack)


def numbers_of_root(found):
    held = found.task.train.load(server_root.ROOT_ID)
    np.testing.assert_array_equal(held["y"], held["x"][:, 0].astype(int) % 2)
    return sorted(int(x) for x in held["x"][:, 0])


class TestRootExamples:
    def test_they_are_some_of_all_clients_and_none_twice(self, numbered):
        drawn = numbers_of_root(rooted(numbered, 6))
        assert len(set(drawn)) == 6
        assert drawn == numbers_of_root(rooted(numbered, 6))
        assert drawn != numbers_of_root(rooted(numbered, 6, seed=4))
        assert numbers_of_root(rooted(numbered, TOTAL)) == list(range(TOTAL))

    def test_every_example_is_drawn_alike(self, numbered):
        counts = np.zeros(TOTAL)
        for seed in range(300):
            for number in numbers_of_root(rooted(numbered, 3, seed)):
                counts[number] += 1
        # Binomial with mean 90 and standard deviation 7.9.
        assert counts.sum() == 900
        assert np.abs(counts - 90).max() < 5 * 7.9

    def test_the_root_is_in_every_cohort_with_a_role_of_its_own(self, numbered):
        found = rooted(numbered, 4)
        cohort = found.cohorts.sample(1)
        assert cohort == ("c0", "c1", "c2", "c3", server_root.ROOT_ID)
        assert found.reporting is found.cohorts
        held = found.task.train.cohort(cohort, seed=0, round_number=1)
        assert list(held.roles) == [0, 0, 0, 0, ROOT_ROLE]
        assert found.cohorts.maximum_cohort_size == 4
        # Clients keep theirs.
        assert [found.task.train.num_examples(c) for c in cohort] == [*SIZES, 4]
        assert found.hparams()["num_train_clients"] == 4

    def test_an_attack_reaches_neither_the_root_nor_its_role(self, numbered):
        found = rooted(numbered, TOTAL, attack="label_flip", malicious_fraction=0.5)
        assert numbers_of_root(found) == list(range(TOTAL))
        roles = found.task.train.roles
        assert roles[server_root.ROOT_ID] == ROOT_ROLE
        assert {c for c, role in roles.items() if role == 1} == set(found.malicious)
        assert len(found.malicious) == 2

    def test_what_is_refused(self, numbered):
        with pytest.raises(
            SettingError, match=r"^root_examples=11: the clients have f"
        ):
            rooted(numbered, 11)
        with pytest.raises(SettingError, match="needs root_examples too"):
            TrustedRoot()
        given = {"aggregator": "krum", "byzantine": 1, "root_examples": 5}
        with pytest.raises(SettingError, match="root_examples=5: goes with"):
            Experiment.from_flat({"task": "heart", **given})
        held = numbered.train
        taken = data.ClientData.from_arrays({server_root.ROOT_ID: held.load("c0")})
        task = dataclasses.replace(numbered, train=taken)
        with pytest.raises(SettingError, match="a client is called 'server root'; giv"):
            rooted(task, 1)

    def test_other_aggregators_have_no_root(self, numbered):
        found = prepared(numbered)
        assert found.task.train.client_ids == numbered.train.client_ids
        assert found.cohorts is found.reporting is found.asked


def test_silos_that_are_down_are_not_reporting():
    silos = Experiment(
        toy(),
        aggregator=Krum(byzantine=1, on_breakdown="skip"),
        cohorts=Cohorts("full"),
        silos=Silos(0.5, 3),
    )
    found = setup.prepare(silos)
    assert isinstance(found.reporting, UnreliableSilos)
    assert found.asked.sample(1) == found.task.train.client_ids
    sizes = {len(found.reporting.sample(r)) for r in range(1, 30)}
    assert sizes <= {0, *range(3, 11)}
    assert len(sizes) > 2
    assert found.cohorts is found.reporting
    assert not isinstance(prepared().reporting, UnreliableSilos)
