"""The aggregators that experiments become: mechanisms, secure sums, own factories."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import aggregators, attacks, clients, models
from tfl_research.attacks import simulation
from tfl_research.errors import SettingError
from tfl_research.experiment import (
    Experiment,
    compatibility,
    setup,
)
from tfl_research.experiment.configs import (
    Attack,
    Audit,
    Cohorts,
    Runtime,
    SecureSums,
    Training,
    UserLevelPrivacy,
    Weighting,
)
from tfl_research.experiment.private import audited
from tfl_research.experiment.running import building
from tfl_research.models import SGD
from tfl_research.privacy import mechanisms
from tfl_research.privacy.audit import CanaryObserver
from tfl_research.privacy.mechanisms import correlated_mechanisms
from tfl_research.privacy.mechanisms.planned import PlannedAggregator


def prepared(task="heart", **parts):
    return setup.prepare(Experiment(task, **parts))


def aggregator(**parts):
    setup = prepared(**parts)
    secure = building.has_secure_sums(setup)
    return building._aggregator(setup, noise_seed=7, secure=secure)


class TestAggregators:
    def test_of_the_experiments_cohorts_and_seed(self):
        found = aggregator(
            aggregator=aggregators.CoordinateMedian(byzantine=1),
            cohorts=Cohorts("fixed", 3),
            training=Training(seed=9),
        )
        rule = aggregators.CoordinateMedian(byzantine=1)
        assert found == aggregators.StackingFactory(rule, 3, 3, True, 9)
        uniform = aggregator(
            aggregator=aggregators.CoordinateMedian(byzantine=1),
            weighting=Weighting("uniform"),
        )
        assert not uniform.weighted

    @pytest.mark.parametrize(
        "name", ["mean", "robust", "zeroing", "clipping", "compression"]
    )
    def test_tffs_means_are_weighted_and_do_what_they_are_called(self, name):
        factory = aggregator(aggregator=name)
        assert isinstance(factory, tff.aggregators.WeightedAggregationFactory)
        process = factory.create(
            tff.to_type([(np.float32, [3])]), tff.TensorType(np.float32)
        )
        measurements = str(process.next.type_signature.result.measurements)
        assert ("clipping" in measurements) == (name in ("robust", "clipping"))
        assert ("zeroing" in measurements) == (name in ("robust", "zeroing"))

    def test_under_an_attack_that_sees_all_updates(self):
        found = aggregator(
            aggregator=aggregators.Krum(byzantine=0),
            attack=Attack("min_max", attack_perturbation="unit"),
            training=Training(seed=9),
        )
        assert isinstance(found, aggregators.AttackedFactory)
        assert isinstance(found.inner, aggregators.StackingFactory)
        assert found.inner.rule == aggregators.Krum(byzantine=0)
        assert found.attack == simulation.UpdateAttack("min_max", None, "unit")
        assert (found.malicious_role, found.seed) == (attacks.MALICIOUS, 9)

    def test_a_mechanism_carries_its_plan(self):
        parts = {"privacy": UserLevelPrivacy(noise_multiplier=1.0, l2_norm_clip=0.5)}
        found = prepared(**parts)
        built = building._aggregator(found, noise_seed=7, secure=True)
        assert isinstance(built, PlannedAggregator)
        assert built.plan == found.user_level
        assert building.process(found, noise_seed=7).plan == found.user_level

    def test_clipping_before_noise_at_the_server(self):
        private = UserLevelPrivacy(noise_multiplier=1.0)
        found = aggregator(
            privacy=private, aggregator=aggregators.NormClipping(clip_radius=0.25)
        )
        assert isinstance(found, aggregators.NormClippingFactory)
        assert found.radius == 0.25
        assert isinstance(found.inner, PlannedAggregator)

    def test_a_rule_after_noise_at_the_clients(self):
        private = UserLevelPrivacy("local_gaussian", noise_multiplier=1.0)
        rule = aggregators.Krum(byzantine=0)
        parts = {"privacy": private, "cohorts": Cohorts("full")}
        found = aggregator(**parts, aggregator=rule)
        assert isinstance(found, PlannedAggregator)
        assert found.inner.rule == aggregators.StackingFactory(rule, 4, 4, False, 0)
        mean = aggregator(**parts)
        assert type(mean.inner) is not type(found.inner)

    def test_canaries_are_observed(self):
        found = prepared(
            privacy=UserLevelPrivacy(noise_multiplier=1.0, l2_norm_clip=0.5),
            audit=Audit(canaries=7, canary_scale=20),
        )
        built = building._aggregator(found, noise_seed=7, secure=True)
        assert isinstance(built, CanaryObserver)
        assert built.count == 7
        work = audited.client_work(found, building._algorithm(found).client_work)
        assert isinstance(work, clients.CanaryWork)
        assert work.norm == 10

    @pytest.mark.parametrize(
        ("weighting", "sabotage", "kind"),
        [
            (Weighting(), "none", "uniform"),
            (Weighting(), "noise_off", "uniform"),
            (Weighting(), "weights_uncapped", "examples"),
        ],
    )
    def test_client_weights(self, weighting, sabotage, kind):
        found = prepared(
            privacy=UserLevelPrivacy(noise_multiplier=1.0),
            weighting=weighting,
            audit=Audit(20, sabotage=sabotage),
        )
        assert audited.client_weighting(found).kind == kind

    def test_client_weights_without_an_audit(self):
        capped = audited.client_weighting(prepared(weighting=Weighting("capped", 10)))
        assert float(capped.weight(tf.constant(5.0))) == 0.5
        assert audited.client_weighting(prepared()).kind == "examples"


class TestCorrelatedNoise:
    @pytest.fixture
    def built(self, monkeypatch):
        """(server optimizer) -> what the matrix was optimised for."""
        seen = {}

        def kept(**arguments):
            seen.update(arguments)
            return tff.aggregators.MeanFactory()

        monkeypatch.setattr(correlated_mechanisms, "banded_matrix_aggregator", kept)

        def run(server):
            seen.clear()
            aggregator(
                privacy=UserLevelPrivacy("banded_matrix", noise_multiplier=1.0),
                cohorts=Cohorts("min_separation", 1),
                server_optimizer=server,
                training=Training(rounds=4),
            )
            return dict(seen)

        return run

    def test_the_matrix_is_optimised_for_the_servers_optimizer(self, built):
        plain = built(SGD(1.0, momentum=0.9))
        assert (plain["momentum"], plain["rounds"], plain["bands"]) == (0.9, 4, 4)
        assert (plain["noise_multiplier"], plain["expected_cohort_size"]) == (1.0, 1)
        assert plain["noise_seed"] == 7
        assert "learning_rates" not in plain
        warm = built(SGD(2.0, learning_rate_warmup_rounds=1))
        assert warm["learning_rates"] == [1.0, 2.0, 2.0, 2.0]
        assert built(SGD(1.0))["momentum"] == 0.0
        assert "momentum" not in built(models.Adam(0.1))


class TestSecureSums:
    @pytest.mark.parametrize(("runtime", "secure"), [("in_process", 1), ("tff", 0)])
    def test_tffs_runtime_takes_plain_ones(self, monkeypatch, runtime, secure):
        seen = []

        def build(self, plan, context):
            seen.append(context.secure)
            return tff.aggregators.MeanFactory()

        monkeypatch.setattr(mechanisms.Skellam, "aggregator", build)
        aggregator(
            privacy=UserLevelPrivacy("skellam", noise_multiplier=1.0),
            cohorts=Cohorts("full"),
            runtime=Runtime(runtime),
        )
        assert seen == [bool(secure)]


class Half(tff.aggregators.WeightedAggregationFactory):
    """A user's own, half of the weighted mean."""

    def create(self, value_type, weight_type):
        return tff.aggregators.MeanFactory().create(value_type, weight_type)


class Sum(tff.aggregators.UnweightedAggregationFactory):
    """A user's own, the sum."""

    def create(self, value_type):
        return tff.aggregators.SumFactory().create(value_type)


def test_a_factory_of_ones_own_that_sums_in_the_clear_is_refused():
    secure = SecureSums(True)
    for runtime in ("in_process", "tff"):
        found = prepared(
            aggregator=Half(), secure_sums=secure, runtime=Runtime(runtime)
        )
        process = building.process(found, noise_seed=1)
        with pytest.raises(SettingError) as refused:
            building.check_sums(found, process)
        # The two tensors of the model, and the weight.
        assert refused.value.for_command_line.startswith(
            "--secure_sums=True: clients send 3 values outside of secure sums, because "
            "a part of your own adds them up itself (--aggregator=Half"
        )


class TestFactoriesOfOnesOwn:
    def test_default_weights(self):
        assert Experiment("heart", aggregator=Half()).resolved_weighting == Weighting(
            "examples"
        )
        assert Experiment("heart", aggregator=Sum()).resolved_weighting == Weighting(
            "uniform"
        )

    def test_are_recorded_by_their_class(self):
        own = Experiment("heart", aggregator=Half())
        assert own.chosen_aggregator is None
        flat = own.flat()
        assert flat["aggregator"] == f"{__name__}.Half"
        with pytest.raises(SettingError, match="must be one of mean, robust"):
            Experiment.from_flat(flat)
        assert own.with_settings(rounds=3).aggregator is own.aggregator
        assert own.with_settings(aggregator="mean") == Experiment("heart")
        with pytest.raises(SettingError, match="byzantine: no part of this experime"):
            own.with_settings(byzantine=1)

    def test_is_the_aggregation(self):
        own = Half()
        assert aggregator(aggregator=own) is own

    def test_with_what_is_refused(self):
        for parts, message in (
            (
                {"privacy": UserLevelPrivacy(noise_multiplier=1.0)},
                "--aggregator=Half: no bound is known for how far one client can move "
                "its result, and gaussian adds noise to a sum; give "
                "--mechanism=local_gaussian, whose clients add noise to their own "
                "updates, or register a mechanism that builds the factory and says "
                "what it costs",
            ),
            (
                {
                    "privacy": UserLevelPrivacy("local_gaussian", noise_multiplier=1.0),
                    "cohorts": Cohorts("full"),
                    "weighting": Weighting("capped", 5),
                },
                "--client_weighting=capped: only updates get noise, so a rule that "
                "uses weights would see private weights; give "
                "--client_weighting=uniform",
            ),
            (
                {"attack": Attack("alie")},
                "--attack=alie: needs all updates of a round, but --aggregator=Half "
                "never has all of them at once; give --aggregator=mean or a robust "
                "rule, or another --attack",
            ),
            (
                {"algorithm": "scaffold"},
                "--aggregator=Half: acts on updates alone, and clients of scaffold "
                "also send what their control variate changed by, and the server "
                "takes the mean of these; give --aggregator=mean",
            ),
        ):
            with pytest.raises(SettingError) as raised:
                Experiment("heart", aggregator=Half(), **parts).check()
            assert raised.value.for_command_line == message

    def test_after_noise_of_the_clients(self):
        found = aggregator(
            privacy=UserLevelPrivacy("local_gaussian", noise_multiplier=1.0),
            cohorts=Cohorts("full"),
            aggregator=Half(),
        )
        assert isinstance(found, PlannedAggregator)
        assert isinstance(found.inner.rule, Half)

    def test_what_is_no_factory(self):
        for wrong in (Half, tff.aggregators.MeanFactory, object()):
            with pytest.raises(SettingError) as raised:
                Experiment("heart", aggregator=wrong)
            assert str(raised.value).startswith(
                "aggregator must be AggregatorSettings or WeightedAggregationFactory "
                "or UnweightedAggregationFactory, got "
            )


def test_compatibility_asks_no_factory_for_its_cohorts():
    compatibility.check_setup(prepared(aggregator=Half()))
