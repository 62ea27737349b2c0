"""Rounds that are written by hand for one model."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmark.running import Running
from benchmark.workloads import Workload


def limit(workload: Workload) -> Running:
    """A round that is written by hand for this model, as a bound for the speed.

    For the MLP one XLA program with all clients in batched matrix products; for the
    CNN, where XLA's convolutions are slow, a TensorFlow loop over the clients.
    """
    if not workload.synthetic:
        raise ValueError(f"no hand-written program for {workload.title}")
    if len(workload.task.train.specs["x"].shape) == 1:
        return _mlp_by_hand(workload)
    return _keras_by_hand(workload)


def _mlp_by_hand(workload: Workload) -> Running:
    import tensorflow as tf

    model = workload.task.build_model()
    weights = [tf.constant(w) for w in model.get_weights()]
    rate, clip, num = workload.client_rate, workload.clip, len(workload.cohort)

    @tf.function(jit_compile=True)
    def one_round(weights: Any, x: Any, y: Any, seed: Any) -> Any:
        local = [tf.repeat(w[tf.newaxis], num, axis=0) for w in weights]
        total = 0.0
        for step in range(x.shape[1]):
            w1, b1, w2, b2 = local
            hidden = tf.nn.relu(x[:, step] @ w1 + b1[:, tf.newaxis])
            logits = hidden @ w2 + b2[:, tf.newaxis]
            labels = tf.one_hot(y[:, step], 10)
            log_p = tf.nn.log_softmax(logits)
            total += -tf.reduce_mean(tf.reduce_sum(labels * log_p, -1))
            error = (tf.exp(log_p) - labels) / x.shape[2]
            back = tf.matmul(error, w2, transpose_b=True) * tf.cast(
                hidden > 0, tf.float32
            )
            gradients = [
                tf.matmul(x[:, step], back, transpose_a=True),
                tf.reduce_sum(back, 1),
                tf.matmul(hidden, error, transpose_a=True),
                tf.reduce_sum(error, 1),
            ]
            local = [w - rate * g for w, g in zip(local, gradients)]
        deltas = [w - w0 for w, w0 in zip(local, weights)]
        if clip is None:
            return [w + tf.reduce_mean(d, 0) for w, d in zip(weights, deltas)], total
        squares = [
            tf.reduce_sum(tf.square(d), list(range(1, len(d.shape)))) for d in deltas
        ]
        norms = tf.sqrt(tf.add_n(squares))
        scale = tf.minimum(1.0, clip / norms)
        result = []
        for index, (w, d) in enumerate(zip(weights, deltas)):
            kept = tf.reduce_sum(
                d * tf.reshape(scale, [-1] + [1] * (len(d.shape) - 1)), 0
            )
            noise = tf.random.stateless_normal(w.shape, seed + index, stddev=clip)
            result.append(w + (kept + noise) / num)
        return result, total

    def run(round_number: int) -> None:
        nonlocal weights
        batch = workload.rounds_cohort(round_number).stacked()
        weights, total = one_round(
            weights,
            tf.constant(batch["x"]),
            tf.constant(batch["y"]),
            tf.constant([round_number, 0]),
        )
        float(total)

    return Running(run)


def _keras_by_hand(workload: Workload) -> Running:
    import tensorflow as tf

    model = workload.task.build_model()
    weights = [w.numpy() for w in model.trainable_variables]
    rate = workload.client_rate

    @tf.function
    def train(x: Any, y: Any) -> Any:
        total = tf.constant(0.0)
        for step in tf.range(tf.shape(x)[0]):
            with tf.GradientTape() as tape:
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
                    y[step], model(x[step], training=True)
                )
                loss = tf.reduce_mean(losses)
            gradients = tape.gradient(loss, model.trainable_variables)
            for variable, gradient in zip(model.trainable_variables, gradients):
                variable.assign_sub(rate * gradient)
            total += loss
        return total

    def run(round_number: int) -> None:
        nonlocal weights
        cohort = workload.rounds_cohort(round_number)
        sums = [np.zeros_like(w) for w in weights]
        for index in range(len(cohort)):
            batch = cohort.batches(index)
            for variable, weight in zip(model.trainable_variables, weights):
                variable.assign(weight)
            float(train(tf.constant(batch["x"]), tf.constant(batch["y"])))
            for total, variable in zip(sums, model.trainable_variables):
                total += variable.numpy()
        weights = [total / len(cohort) for total in sums]

    return Running(run)
