"""TFF's learning algorithms over a small Keras model."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from tff_row import Row

build = tff.learning.algorithms
models = tff.learning.models
FEATURES, CLASSES = 4, 3
SPEC = (
    tf.TensorSpec((None, FEATURES), tf.float32),
    tf.TensorSpec((None,), tf.int32),
)


def _loss() -> Any:
    return tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _keras(*more: Any, **dense: Any) -> Any:
    return tf.keras.Sequential(
        [
            tf.keras.layers.InputLayer(FEATURES),
            *more,
            tf.keras.layers.Dense(CLASSES, kernel_initializer="ones", **dense),
        ]
    )


def model_fn() -> Any:
    """A linear model with accuracy."""
    return models.from_keras_model(
        _keras(),
        loss=_loss(),
        input_spec=SPEC,
        metrics=[tf.keras.metrics.SparseCategoricalAccuracy()],
    )


def _penalized() -> Any:
    return models.from_keras_model(
        _keras(kernel_regularizer="l2", bias_regularizer="l1"),
        loss=_loss(),
        input_spec=SPEC,
    )


def _statistics() -> Any:
    return models.from_keras_model(
        _keras(tf.keras.layers.BatchNormalization()), loss=_loss(), input_spec=SPEC
    )


def _lookup() -> Any:
    words = tf.keras.layers.StringLookup(vocabulary=["red", "green", "blue"])
    keras = tf.keras.Sequential(
        [
            tf.keras.layers.InputLayer(2, dtype=tf.string),
            words,
            tf.keras.layers.Embedding(4, 2, embeddings_initializer="ones"),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(CLASSES, kernel_initializer="ones"),
        ]
    )
    spec = (tf.TensorSpec((None, 2), tf.string), SPEC[1])
    return models.from_keras_model(keras, loss=_loss(), input_spec=spec)


def _functional() -> Any:
    return models.functional_model_from_keras(
        _keras(), _loss(), SPEC, metrics_constructor=collections.OrderedDict
    )


def _reconstruction() -> Any:
    start = tf.keras.Input(FEATURES)
    shared = tf.keras.layers.Dense(3, kernel_initializer="ones")
    own = tf.keras.layers.Dense(CLASSES, kernel_initializer="zeros")
    keras = tf.keras.Model(start, own(shared(start)))
    return models.ReconstructionModel.from_keras_model_and_layers(
        keras_model=keras,
        global_layers=[shared],
        local_layers=[own],
        input_spec=SPEC,
    )


def _recon(function: Any, **more: Any) -> Any:
    return lambda: function(
        _reconstruction,
        loss_fn=_loss,
        metrics_fn=lambda: [tf.keras.metrics.SparseCategoricalAccuracy()],
        reconstruction_optimizer_fn=_sgd(0.2),
        **more,
    )


def examples(count: int, seed: int, words: bool = False) -> tf.data.Dataset:
    """A client's batches of two examples."""
    rng = np.random.default_rng(seed)
    x: Any = rng.normal(size=(count, FEATURES)).astype(np.float32)
    if words:
        x = np.array(["red", "blue", "else"])[rng.integers(0, 3, (count, 2))]
    y = rng.integers(0, CLASSES, count).astype(np.int32)
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(2)


def _three(words: bool = False) -> list[Any]:
    clients = [examples(count, count, words) for count in (3, 4, 1)]
    return [clients, clients[:1], clients[1:]]


def _sgd(rate: float = 0.1, momentum: Any = None) -> Any:
    return tff.learning.optimizers.build_sgdm(rate, momentum)


def _row(make: Any, *covers: str, quick: bool = False, words: bool = False) -> Row:
    names = tuple(f"learning.algorithms.{name}" for name in covers)
    return Row(make, _three(words), names, quick=quick)


def _points() -> list[Any]:
    rng = np.random.default_rng(3)
    clients = [
        tf.data.Dataset.from_tensor_slices(rng.normal(size=(n, 2)).astype(np.float32))
        for n in (4, 3, 5)
    ]
    return [clients, clients[:2], clients[1:]]


def _personal() -> tff.templates.IterativeProcess:
    """Personalisation of a fixed model, whose measurements are the metrics."""

    def finetune(model: Any, train: Any, test: Any) -> Any:
        before = _mean_loss(model, test)
        for_weights = model.trainable_variables
        for x, y in train.batch(2):
            with tf.GradientTape() as tape:
                loss = model.forward_pass((x, y)).loss
            gradients = tape.gradient(loss, for_weights)
            for weight, gradient in zip(for_weights, gradients):
                weight.assign_sub(0.1 * gradient)
        return collections.OrderedDict(before=before, after=_mean_loss(model, test))

    evaluate = build.build_personalization_eval_computation(
        model_fn,
        collections.OrderedDict(tuned=lambda: tf.function(finetune)),
        tf.function(
            lambda model, data: collections.OrderedDict(loss=_mean_loss(model, data))
        ),
        max_num_clients=10,
    )
    model_type, data_type = evaluate.type_signature.parameter

    @tff.tensorflow.computation
    def initial() -> Any:
        return models.ModelWeights.from_model(model_fn())

    @tff.federated_computation()
    def initialize() -> Any:
        return tff.federated_eval(initial, tff.SERVER)

    @tff.federated_computation(model_type, data_type)
    def next_round(state: Any, clients: Any) -> Any:
        return state, evaluate(state, clients)

    return tff.templates.IterativeProcess(initialize, next_round)


def _mean_loss(model: Any, data: Any) -> Any:
    total, count = tf.constant(0.0), tf.constant(0.0)
    for x, y in data.batch(2):
        total += model.forward_pass((x, y), training=False).loss
        count += 1.0
    return total / count


def _splits() -> list[Any]:
    clients = [
        collections.OrderedDict(
            train_data=examples(n, n).unbatch(), test_data=examples(2, n + 9).unbatch()
        )
        for n in (3, 4)
    ]
    return [clients, clients[:1], clients[1:]]


AVERAGING = {
    "weighted_fed_avg": _row(
        lambda: build.build_weighted_fed_avg(model_fn, _sgd()),
        "build_weighted_fed_avg",
        quick=False,
    ),
    "unweighted_fed_avg": _row(
        lambda: build.build_unweighted_fed_avg(
            model_fn, tff.learning.optimizers.build_adam(0.1)
        ),
        "build_unweighted_fed_avg",
    ),
    "weighted_fed_prox": _row(
        lambda: build.build_weighted_fed_prox(
            model_fn, proximal_strength=0.5, client_optimizer_fn=_sgd()
        ),
        "build_weighted_fed_prox",
    ),
    "unweighted_fed_prox": _row(
        lambda: build.build_unweighted_fed_prox(
            model_fn, proximal_strength=0.5, client_optimizer_fn=_sgd()
        ),
        "build_unweighted_fed_prox",
    ),
    "fed_sgd": _row(lambda: build.build_fed_sgd(model_fn, _sgd()), "build_fed_sgd"),
    "weighted_mime_lite": _row(
        lambda: build.build_weighted_mime_lite(model_fn, _sgd(0.1, 0.9)),
        "build_weighted_mime_lite",
    ),
    "unweighted_mime_lite": _row(
        lambda: build.build_unweighted_mime_lite(model_fn, _sgd(0.1, 0.9)),
        "build_unweighted_mime_lite",
    ),
    "scheduled_fed_avg": _row(
        lambda: build.build_weighted_fed_avg_with_optimizer_schedule(
            model_fn, lambda number: 0.5 / (1.0 + tf.cast(number, tf.float32)), _sgd
        ),
        "build_weighted_fed_avg_with_optimizer_schedule",
    ),
    "scheduled_mime_lite": _row(
        lambda: build.build_mime_lite_with_optimizer_schedule(
            model_fn, lambda number: 0.5 / (1.0 + tf.cast(number, tf.float32)), _sgd()
        ),
        "build_mime_lite_with_optimizer_schedule",
    ),
    "iterated_fed_avg": _row(
        lambda: build.build_weighted_fed_avg(
            model_fn,
            _sgd(),
            loop_implementation=tff.learning.LoopImplementation.DATASET_ITERATOR,
        )
    ),
    "functional_fed_avg": _row(
        lambda: build.build_weighted_fed_avg(_functional(), _sgd())
    ),
    "penalized_fed_avg": _row(lambda: build.build_weighted_fed_avg(_penalized, _sgd())),
    "statistics_fed_avg": _row(
        lambda: build.build_weighted_fed_avg(_statistics, _sgd())
    ),
    "lookup_fed_avg": _row(
        lambda: build.build_weighted_fed_avg(_lookup, _sgd()), quick=True, words=True
    ),
    "robust_fed_avg": _row(
        lambda: build.build_weighted_fed_avg(
            model_fn, _sgd(), model_aggregator=tff.learning.robust_aggregator()
        )
    ),
    "secure_fed_avg": _row(
        lambda: build.build_weighted_fed_avg(
            model_fn, _sgd(), model_aggregator=tff.learning.secure_aggregator()
        )
    ),
}

OTHERS = {
    "fed_eval": _row(
        lambda: build.build_fed_eval(model_fn), "build_fed_eval", quick=True
    ),
    "fed_kmeans": Row(
        lambda: build.build_fed_kmeans(3, (2,), random_seed=(1, 2)),
        _points(),
        ("learning.algorithms.build_fed_kmeans",),
    ),
    "fed_recon": _row(
        _recon(
            build.build_fed_recon,
            client_optimizer_fn=_sgd(),
            server_optimizer_fn=_sgd(1.0),
        ),
        "build_fed_recon",
    ),
    "fed_recon_eval": _row(_recon(build.build_fed_recon_eval), "build_fed_recon_eval"),
    "personalization_eval": Row(
        _personal,
        _splits(),
        ("learning.algorithms.build_personalization_eval_computation",),
        quick=False,
    ),
}

TABLE = {**AVERAGING, **OTHERS}
