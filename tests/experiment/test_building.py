"""The client work and models that the parts of an experiment become."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
import tensorflow as tf

from tfl_research import aggregators, clients, processes, tasks
from tfl_research.algorithms import ALGORITHMS, FedProx
from tfl_research.attacks import simulation
from tfl_research.errors import SettingError
from tfl_research.experiment import (
    Experiment,
    attacked,
    setup,
)
from tfl_research.experiment.configs import (
    Attack,
    Baseline,
    Cohorts,
    Compression,
    RecordLevelPrivacy,
    Release,
    UserLevelPrivacy,
)
from tfl_research.experiment.running import building
from tfl_research.models import SGD, ClientOptimizer, ServerOptimizer


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
