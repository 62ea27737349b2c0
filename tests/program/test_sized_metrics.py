"""Metrics of Keras whose computation has as many elements as the values say."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import tasks
from tfl_research.program.evaluation.evaluator import Evaluator
from tfl_research.tasks import objectives


class PositiveMean(tf.keras.metrics.Mean):
    """The mean prediction of the examples that are positive."""

    def __init__(self, name="positive_mean", **settings):
        super().__init__(name, **settings)

    def update_state(self, y_true, y_pred, sample_weight=None):
        del sample_weight
        super().update_state(tf.boolean_mask(y_pred, y_true > 0.5))


def specificity():
    return tf.keras.metrics.SensitivityAtSpecificity(0.6, 50)


def others():
    kinds = tf.keras.metrics
    return [
        kinds.SpecificityAtSensitivity(0.6, 50),
        kinds.PrecisionAtRecall(0.6, 50),
        kinds.RecallAtPrecision(0.7, 50),
        kinds.AUC(thresholds=[0.2, 0.4, 0.6, 0.8]),
    ]


def build():
    return tf.keras.Sequential(
        [tf.keras.layers.Input(4), tf.keras.layers.Dense(1, activation="sigmoid")]
    )


def client(size, seed):
    generator = np.random.default_rng(seed)
    x = generator.normal(seed, 1, (size, 4)).astype(np.float32)
    return {"x": x, "y": generator.integers(0, 2, size).astype(np.float32)}


def task_of(metrics):
    return tasks.from_arrays(
        {f"c{i}": client(size, i) for i, size in enumerate((12, 0, 30, 2))},
        model=build,
        test=0.5,
        objective=lambda: objectives.from_keras(
            tf.keras.losses.BinaryCrossentropy(), metrics()
        ),
    )


@pytest.mark.parametrize(
    "metrics",
    [
        lambda: [specificity(), PositiveMean()],
        pytest.param(others, marks=pytest.mark.campaign),
    ],
)
def test_every_client_has_the_metrics_of_keras(metrics):
    task, model = task_of(metrics), build()
    found = Evaluator(task).evaluate(
        tff.learning.models.ModelWeights(
            [v.numpy() for v in model.trainable_variables], []
        )
    )
    names = [name for name in found.overall if name != "loss"]
    assert len(names) == len(metrics())
    model.compile(metrics=metrics(), run_eagerly=True)

    def by_keras(examples):
        values = model.evaluate(
            examples["x"], examples["y"], verbose=0, return_dict=True
        )
        return list(values.values())[1:]

    held = [examples for _, examples in task.test.items()]
    for row, examples in enumerate(held):
        got = [found.per_client[name][row] for name in names]
        if len(examples["y"]):
            np.testing.assert_allclose(got, by_keras(examples), 1e-5, 1e-6)
        else:
            assert np.isnan(got).all()
    every = {n: np.concatenate([e[n] for e in held]) for n in ("x", "y")}
    got = [found.overall[name] for name in names]
    np.testing.assert_allclose(got, by_keras(every), 1e-5, 1e-6)


class FailsAlone(tf.keras.metrics.Mean):
    """Has no result for less than two examples."""

    def result(self):
        with tf.control_dependencies([tf.debugging.assert_greater(self.count, 1.5)]):
            return tf.identity(super().result())


def test_a_result_that_fails_for_some_sums_is_refused_with_its_name():
    with pytest.raises(ValueError, match="metric 'mean' fails: InvalidArgumentError"):
        tasks.from_arrays(
            {"a": client(8, 0), "b": client(9, 1)},
            model=build,
            test=0.0,
            objective=lambda: objectives.from_keras(
                tf.keras.losses.BinaryCrossentropy(), [FailsAlone()]
            ),
        ).functional_model()
