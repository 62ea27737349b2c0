"""What the parts of an experiment become, each at its place in the round."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import aggregators, attacks, clients, models, processes, tasks
from tfl_research.algorithms import ALGORITHMS, FedProx
from tfl_research.attacks import simulation
from tfl_research.errors import SettingError
from tfl_research.experiment import (
    Experiment,
    attacked,
    compatibility,
    setup,
)
from tfl_research.experiment.configs import (
    Attack,
    Audit,
    Baseline,
    Cohorts,
    Compression,
    RecordLevelPrivacy,
    Release,
    Runtime,
    SecureSums,
    Training,
    UserLevelPrivacy,
    Weighting,
)
from tfl_research.experiment.private import audited
from tfl_research.experiment.running import building
from tfl_research.models import SGD, ClientOptimizer, ServerOptimizer
from tfl_research.privacy import mechanisms
from tfl_research.privacy.audit import CanaryObserver
from tfl_research.privacy.mechanisms import correlated_mechanisms
from tfl_research.privacy.mechanisms.planned import PlannedAggregator


def prepared(task="heart", **parts):
    return setup.prepare(Experiment(task, **parts))


def rate(optimizer):
    (found,) = optimizer.get_hparams(optimizer.initialize(())).values()
    return float(found)


class TestClientWork:
    def test_local_steps_take_every_setting(self):
        found = building.local_steps(
            prepared(
                client_optimizer=ClientOptimizer(
                    gradient_clip=3.0,
                    learning_rate=0.5,
                    learning_rate_schedule="inverse_sqrt",
                )
            )
        )
        assert found.gradient_clip_norm == 3.0
        schedule = found.learning_rate_schedule
        assert float(schedule(tf.constant(3))) == pytest.approx(0.25)
        assert rate(found.optimizer) == 0.5
        plain = building.local_steps(prepared())
        assert plain.learning_rate_schedule is None
        assert plain.gradient_clip_norm is None

    def test_the_servers_schedule_counts_rounds(self):
        server = ServerOptimizer(
            learning_rate=2.0, learning_rate_schedule="inverse_sqrt"
        )
        found = building._algorithm(prepared(server_optimizer=server)).server_work
        assert float(found.learning_rate_schedule(tf.constant(3))) == pytest.approx(1)
        assert rate(found.optimizer) == 2.0
        plain = building._algorithm(prepared()).server_work
        assert plain.learning_rate_schedule is None

    def test_exchanges_have_the_same_local_steps(self):
        for name, count in (("mime", 2), ("mime_lite", 1)):
            train = prepared(algorithm=name).task.train
            first, second, third = (
                train.cohort(train.client_ids[:2], seed=0, round_number=number)
                for number in (1, 2, 3)
            )
            same = [
                np.array_equal(first.orders[0], other.orders[0])
                for other in (second, third)
            ]
            assert same == [count == 2, False]

    def test_personal_models_are_trained_at_the_rate_of_the_papers_round(self):
        train = building._in_paper_rounds(lambda *arguments: arguments[2], 2)
        assert [train((), {}, number) for number in (0, 1, 2, 5)] == [0, 0, 1, 2]

    @pytest.mark.parametrize("name", ["fed_prox", "scaffold", "mime_lite", "ditto"])
    def test_an_algorithm_has_both_optimizers_and_the_population(self, name):
        built = building._algorithm(
            prepared(
                algorithm=name,
                client_optimizer=SGD(0.25),
                server_optimizer=SGD(0.75),
            )
        )
        work = getattr(built.client_work, "base", built.client_work)
        assert rate(work.steps.optimizer) == 0.25
        server = built.server_work
        step = server if isinstance(server, processes.OptimizerStep) else server.step
        assert rate(step.optimizer) == 0.75
        if name == "scaffold":
            assert server.population == 4

    def test_parameters_of_the_algorithm_are_heard(self):
        built = building._algorithm(prepared(algorithm=FedProx(proximal_strength=0.5)))
        assert built.client_work.proximal_strength == 0.5

    def test_record_level_privacy_trains_by_dp_sgd(self):
        private = RecordLevelPrivacy(
            record_noise_multiplier=2.0, record_l2_norm_clip=0.5
        )
        found = prepared(
            privacy=private,
            client_optimizer=SGD(0.25),
            release=Release(withhold_exact=True),
        )
        work = building._algorithm(found).client_work
        assert isinstance(work, clients.RecordLevelTraining)
        assert (work.l2_norm_clip, work.noise_multiplier) == (0.5, 2.0)
        assert work.report_metrics is False
        assert rate(work.optimizer) == 0.25

    @pytest.mark.parametrize(
        ("given", "code", "feeds_back"),
        [
            ({"compression": "top_k"}, clients.TopK(0.01), True),
            (
                {"compression": "top_k", "compression_fraction": 0.2},
                clients.TopK(0.2),
                True,
            ),
            (
                {"compression": "top_k", "error_feedback": False},
                clients.TopK(0.01),
                False,
            ),
            # A contraction where what is lost comes later, unbiased where it does not.
            (
                {"compression": "random_k", "compression_fraction": 0.2},
                clients.RandomK(0.2, rescale=False),
                True,
            ),
            (
                {"compression": "random_k", "error_feedback": False},
                clients.RandomK(0.01, rescale=True),
                False,
            ),
            ({"compression": "quantize"}, clients.Quantized(8), False),
            (
                {
                    "compression": "quantize",
                    "compression_bits": 3,
                    "error_feedback": True,
                },
                clients.Quantized(3),
                True,
            ),
            ({"compression": "low_rank"}, clients.LowRank(4), True),
            (
                {"compression": "low_rank", "compression_rank": 2},
                clients.LowRank(2),
                True,
            ),
        ],
    )
    def test_every_setting_of_a_code_is_heard(self, given, code, feeds_back):
        base = building._algorithm(prepared()).client_work
        found = Compression(**given).wrap(base)
        assert (found.base, found.compressor) == (base, code)
        assert found.error_feedback == feeds_back
        assert Compression().wrap(base) is base

    @pytest.mark.parametrize(
        ("attack", "update"),
        [
            (Attack("sign_flip"), simulation.UpdateAttack("sign_flip")),
            (
                Attack("gaussian", attack_scale=3),
                simulation.UpdateAttack("gaussian", 3.0),
            ),
            # Four clients, of which one is malicious: model replacement.
            (
                Attack("backdoor", malicious_fraction=0.25),
                simulation.UpdateAttack("scaled", 4.0),
            ),
            (
                Attack("backdoor", malicious_fraction=0.25, attack_scale=2),
                simulation.UpdateAttack("scaled", 2.0),
            ),
        ],
    )
    def test_local_attacks_are_on_the_clients(self, attack, update):
        honest = building._algorithm(prepared()).client_work
        found = attacked.client_work(
            prepared(attack=attack, aggregator=aggregators.CoordinateMedian()), honest
        )
        assert found == simulation.AttackedClientWork(honest, update)

    @pytest.mark.parametrize("name", ["none", "label_flip", "alie"])
    def test_other_attacks_are_not(self, name):
        honest = building._algorithm(prepared()).client_work
        assert attacked.client_work(prepared(attack=Attack(name)), honest) is honest


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


class TestModels:
    def test_one_layer_has_no_units_to_leave_out(self):
        linear = tasks.from_arrays(
            {"a": {"x": np.zeros((6, 3)), "y": np.arange(6) % 2}},
            model=lambda: tf.keras.Sequential(
                [tf.keras.layers.Input([3]), tf.keras.layers.Dense(2)]
            ),
        )
        with pytest.raises(SettingError) as raised:
            Experiment(linear, "fed_dropout").check()
        assert raised.value.for_command_line == (
            "--algorithm=fed_dropout: the task's model has one layer, which has no "
            "units to leave out; choose another --algorithm"
        )

    def test_personal_tensors_that_leave_nothing(self):
        rep = ALGORITHMS.from_flat({"algorithm": "fed_rep", "personal_tensors": 99})
        with pytest.raises(SettingError) as raised:
            Experiment("heart", rep).check()
        assert raised.value.for_command_line.startswith(
            ("--personal_tensors", "--algorithm=fed_rep")
        )
        assert "\n" not in str(raised.value)

    @pytest.mark.parametrize(
        ("outputs", "personal", "line"),
        [
            (
                {"kind": (2, True), "size": (1, True)},
                2,
                "personal_tensors=2: the only personal tensors are size/kernel, "
                "size/bias; the model has 2 outputs, and kind/bias stays shared",
            ),
            (
                {"kind": (2, False)},
                2,
                "personal_tensors=2: the only personal tensors are body/bias, "
                "kind/kernel; they divide layer 'body', whose body/kernel stays shared",
            ),
            ({"kind": (2, False)}, 1, None),
            ({"kind": (2, True)}, 2, None),
        ],
    )
    @pytest.mark.parametrize("algorithm", ["fed_rep", "reconstruction"])
    def test_personal_tensors_that_are_no_head(
        self, algorithm, outputs, personal, line
    ):
        def model():
            given = tf.keras.Input([3])
            body = tf.keras.layers.Dense(4, name="body")(given)
            made = {
                name: tf.keras.layers.Dense(units, use_bias=bias, name=name)(body)
                for name, (units, bias) in outputs.items()
            }
            return tf.keras.Model(given, made if len(made) > 1 else made["kind"])

        losses = {
            "kind": tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            "size": "mse",
        }
        y = {name: np.array([0, 1, 1]) for name in outputs}
        several = len(outputs) > 1
        client = {"x": np.eye(3), "y": y if several else y["kind"]}
        task = tasks.from_arrays(
            {"a": client, "b": client},
            model=model,
            objective=losses if several else losses["kind"],
        )
        settings = ALGORITHMS.from_flat(
            {"algorithm": algorithm, "personal_tensors": personal}
        )
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            Experiment(task, settings).check()
        said = [str(w.message) for w in found if "personal" in str(w.message)]
        assert said == ([] if line is None else [line])

    def test_dimension(self):
        task = tasks.get("heart")
        assert processes.model_dimension(task) == task.build_model().count_params()
        found = prepared(
            privacy=UserLevelPrivacy("skellam", noise_multiplier=1.0),
            cohorts=Cohorts("full"),
        )
        assert found.user_level.grid.dimension == task.build_model().count_params()


def test_a_baseline_is_built_for_its_only_client():
    found = prepared(baseline=Baseline("pooled"), cohorts=Cohorts("full"))
    assert found.asked.maximum_cohort_size == 1
    assert len(found.asked.client_ids) == 1
    assert dataclasses.replace(found).record_level is None


def test_compatibility_asks_no_factory_for_its_cohorts():
    compatibility.check_setup(prepared(aggregator=Half()))
