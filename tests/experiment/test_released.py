"""What experiments give out, as it follows from their parts. No TensorFlow."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tfl_research import data, outputs, privacy
from tfl_research.errors import SettingError
from tfl_research.experiment import Experiment, setup
from tfl_research.experiment.configs import (
    Audit,
    Cohorts,
    Devices,
    RecordLevelPrivacy,
    Release,
    Silos,
    Training,
    UserLevelPrivacy,
)
from tfl_research.experiment.private.releases import private_evaluation, released
from tfl_research.outputs.columns import COHORT
from tfl_research.tasks.task import Card, Task


def population(*, public=False, held_out=False, count=60):
    examples = {"x": np.zeros((2, 3), np.float32), "y": np.zeros(2, np.int32)}
    held = data.ClientData.from_arrays({f"client_{n}": examples for n in range(count)})
    others = data.ClientData.from_arrays({"other": examples}) if held_out else None
    card = dataclasses.replace(Card("", "", "", "", ""), public_data=public)
    return Task("toy", card, held, held, others, int, int)


TOY = population()
USER = UserLevelPrivacy(noise_multiplier=2.0)
RECORD = RecordLevelPrivacy(record_noise_multiplier=2.0)
POISSON = Cohorts("poisson", 10)


def prepared(task=TOY, privacy=USER, **parts):
    parts.setdefault("cohorts", POISSON)
    return setup.prepare(Experiment(task, privacy=privacy, **parts))


def refused(message, task=TOY, **parts):
    with pytest.raises(SettingError) as error:
        prepared(task, **parts)
    text = error.value.for_command_line
    assert "\n" not in text
    assert message in text, text


class TestFilter:
    def test_data_that_are_not_public_withhold_what_is_exact(self):
        release = released.release_of(prepared())
        assert (release.is_private, release.withholds) == (True, True)
        for name in (*COHORT, "train_loss", "eval_loss", "excluded_clients"):
            assert not release.shows(name), name

    def test_public_data_show_it_unless_it_is_withheld(self):
        public = population(public=True)
        assert not released.release_of(prepared(public)).withholds
        found = prepared(public, release=Release(withhold_exact=True))
        assert released.release_of(found).withholds

    def test_the_tasks_on_published_data_say_so(self):
        from tfl_research import tasks

        for name in ("heart", "mnist"):
            assert tasks.get(name).card.public_data
        x, y = np.zeros((4, 2)), np.array([0, 1, 0, 1])
        own = tasks.from_arrays({"a": {"x": x, "y": y}}, model=int)
        assert not own.card.public_data

    def test_without_privacy_everything_is_given_out(self):
        found = setup.prepare(Experiment(TOY))
        assert released.release_of(found) == outputs.Release()

    @pytest.mark.parametrize(
        ("parts", "is_public"),
        [
            ({"cohorts": POISSON}, False),
            ({"cohorts": Cohorts("fixed", 10)}, True),
            ({"cohorts": Cohorts("full")}, True),
            ({"cohorts": Cohorts("min_separation", 10)}, True),
            ({"cohorts": Cohorts("fixed", 10), "devices": Devices(60)}, False),
            ({"privacy": RECORD, "cohorts": Cohorts("full")}, True),
            (
                {
                    "privacy": RECORD,
                    "cohorts": Cohorts("full"),
                    "silos": Silos(0.3),
                },
                True,
            ),
        ],
    )
    def test_who_decides_the_size_of_a_cohort(self, parts, is_public):
        release = released.release_of(prepared(**parts))
        for name in ("cohort_size", "bytes_down", "bytes_up"):
            assert release.shows(name) is is_public, name
            assert release.covers(name) is is_public
        # These depend on data under any sampler.
        for name in ("examples", "excluded_clients", "round_seconds", "late"):
            assert not release.shows(name)

    @pytest.mark.parametrize(
        ("mechanism", "is_private"),
        [
            ("gaussian", True),
            ("adaptive_gaussian", True),
            ("local_gaussian", False),
        ],
    )
    def test_noise_of_clients_tells_how_many_there_are(self, mechanism, is_private):
        private = UserLevelPrivacy(mechanism, noise_multiplier=0.5)
        release = released.release_of(prepared(privacy=private))
        assert release.shows("aggregator_noise_stddev") is is_private
        assert release.shows("clip_norm")

    def test_nobody_knows_what_a_mechanism_of_ones_own_measures(self, monkeypatch):
        monkeypatch.setattr(type(privacy.MECHANISMS), "origin", lambda *_: "own")
        release = released.release_of(prepared())
        for name in ("clip_norm", "aggregator_noise_stddev", "server_learning_rate"):
            assert not release.shows(name), name
            assert not release.covers(name), name


class TestRefusals:
    def test_unknown_names_with_the_list(self):
        refused(
            "--release_exact=cohort: there is no such exact output; give one of "
            "cohort_size, examples, excluded_clients, excluded_by_client, train_*",
            release=Release(release_exact=("cohort",)),
        )
        for name in ("epsilon", "run_seed", "checkpoints"):
            refused(
                f"--release_exact={name}: there is no such exact output",
                release=Release(release_exact=(name,)),
            )
        for name in ("all", "eval_loss", "clients.csv", "aggregator_excluded"):
            prepared(release=Release(release_exact=(name,)))

    def test_both_at_once(self):
        with pytest.raises(
            SettingError, match="also withholds release_exact=eval_loss"
        ):
            Release(release_exact=("eval_loss",), withhold_exact=True)

    def test_names_of_what_is_shown_anyway(self):
        refused(
            "--release_exact=('eval_loss',): has no effect for task toy: its data are "
            "public",
            population(public=True),
            release=Release(release_exact=("eval_loss",)),
        )

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("release_exact", ("eval_loss",)),
            ("withhold_exact", True),
            ("evaluation_noise_multiplier", 2.0),
            ("selection_epsilon", 2.0),
        ],
    )
    def test_settings_without_privacy(self, name, value):
        refused(
            "goes with user-level or record-level privacy; leave it out",
            privacy=None,
            release=Release(**{name: value}),
        )

    def test_held_out_clients_that_are_trained_on(self):
        # Their metrics would be exact and count as covered.
        task = dataclasses.replace(TOY, held_out=TOY.test)
        refused("--task=toy: client 'client_0' is both held out and trained on", task)
        prepared(task, privacy=None)

    def test_a_further_split_whose_columns_would_be_others(self):
        for name in ("held_out_rows", "private", "train"):
            with pytest.raises(
                ValueError, match=f"must begin with 'eval_', got '{name}"
            ):
                dataclasses.replace(TOY, further_splits={name: TOY.test})
        found = dataclasses.replace(TOY, further_splits={"eval_rows": TOY.test})
        assert not released.release_of(prepared(found)).shows("eval_rows_loss")

    def test_the_private_accuracy_of_a_run_without(self):
        refused(
            "--selection_metric=private_accuracy: there is no private_accuracy without "
            "--evaluation_noise_multiplier",
            training=Training(selection_metric="private_accuracy"),
        )
        prepared(
            training=Training(selection_metric="private_accuracy"),
            release=Release(evaluation_noise_multiplier=5.0),
        )

    def test_a_metric_that_is_withheld(self):
        refused(
            "--selection_metric=eval_loss: eval_loss is withheld, because ε does not",
            training=Training(selection_metric="eval_loss"),
        )
        # Without a split, the metric is the held-out clients', where there are any.
        prepared(
            population(held_out=True), training=Training(selection_metric="accuracy")
        )

    def test_early_stopping_by_what_is_withheld(self):
        stopping = Training(early_stopping_patience=3)
        refused(
            "--early_stopping_patience=3: every metric that could stop the run is "
            "withheld",
            training=stopping,
        )
        prepared(population(held_out=True), training=stopping)
        prepared(population(public=True), training=stopping)
        prepared(training=stopping, release=Release(release_exact=("eval_accuracy",)))
        prepared(training=stopping, release=Release(evaluation_noise_multiplier=5.0))

    @pytest.mark.parametrize(
        "release",
        [Release(evaluation_noise_multiplier=2.0), Release(selection_epsilon=0.5)],
    )
    def test_private_metrics_where_they_are_not_sound(self, release):
        refused(
            "protects clients, and record-level privacy protects records",
            privacy=RECORD,
            cohorts=Cohorts("full"),
            release=release,
        )
        refused(
            "does not go with --devices",
            cohorts=Cohorts("fixed", 10),
            devices=Devices(60),
            release=release,
        )
        refused(
            "picks among all clients' examples together",
            training=Training(max_evaluation_examples=10),
            release=release,
        )
        refused(
            "does not go with an audit",
            audit=Audit(canaries=4),
            release=release,
        )

    def test_a_private_choice_beside_another(self):
        refused(
            "leave --selection_metric=accuracy out",
            training=Training(selection_metric="accuracy"),
            release=Release(selection_epsilon=0.5),
        )
        refused(
            "leave --early_stopping_patience out",
            training=Training(early_stopping_patience=2),
            release=Release(selection_epsilon=0.5),
        )


class TestPlannedReleases:
    def test_evaluations_and_the_choice_are_planned(self):
        release = Release(evaluation_noise_multiplier=4.0, selection_epsilon=0.5)
        training = Training(rounds=25, evaluate_every=10)
        found = prepared(release=release, training=training)
        (evaluation, times), (choice, once) = private_evaluation.planned_releases(found)
        # After rounds 10 and 20, and after the last.
        assert (times, once) == (3, 1)
        assert evaluation.sensitivity_multiplier == 4.0
        assert (evaluation.sampling, evaluation.population) == ("none", 60)
        assert evaluation.neighbouring_relation == "add_or_remove_one"
        assert choice == privacy.PureEvent(0.5, "add_or_remove_one", population=60)
        assert found.plan.planned_releases == ((evaluation, 3), (choice, 1))
        assert private_evaluation.planned_releases(prepared()) == []

    def test_the_noise_is_over_the_sensitivity_under_replace_one_too(self):
        release = Release(evaluation_noise_multiplier=4.0)
        found = prepared(cohorts=Cohorts("fixed", 10), release=release)
        ((evaluation, _),) = private_evaluation.planned_releases(found)
        assert evaluation.neighbouring_relation == "replace_one"
        assert evaluation.sensitivity_multiplier == 4.0
        run = released.of_run(found, 7, None)
        assert run.accuracy.event == evaluation
        assert run.accuracy.neighbouring_relation == "replace_one"
        # A Gaussian of μ = 1/z for each release: ε of z = 4 at δ = 1e-5 once.
        by_hand = evaluation.epsilon(1, 1e-5, "pld")
        assert 0.8 < by_hand < 1.2
