"""The contenders: functions from a workload to a function that runs a round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Optional

import numpy as np

from benchmark.images import NOISE_MULTIPLIER
from benchmark.specs import ROOFLINE_PRODUCTS, ROOFLINE_SIZE
from benchmark.workloads import Workload


class Running(NamedTuple):
    """A contender that is ready to run.

    Attributes:
      run: runs the round of a number.
      weights: the global model's trainable weights; None where nobody asks.
    """

    run: Callable[[int], None]
    weights: Optional[Callable[[], list[np.ndarray]]] = None


def _trainable(state: Any) -> list[np.ndarray]:
    return [np.asarray(w) for w in state.global_model_weights.trainable]


def _process(workload: Workload) -> Any:
    import tensorflow_federated as tff

    from tfl_research import aggregators, clients, privacy, processes

    arguments: dict[str, Any] = {}
    if workload.clip is not None:
        aggregator = privacy.gaussian_aggregator(
            l2_norm_clip=workload.clip,
            noise_multiplier=1.0,
            expected_cohort_size=len(workload.cohort),
            noise_seed=1,
        )
        arguments = {
            "aggregator": aggregator,
            "client_weighting": processes.uniform(),
        }
    if workload.rule is not None:
        arguments = {
            "aggregator": aggregators.StackingFactory(
                workload.rule, capacity=len(workload.cohort)
            ),
            "client_weighting": processes.uniform(),
        }
    optimizer = tff.learning.optimizers.build_sgdm(workload.client_rate)
    if workload.record_clip is None:
        arguments["client_optimizer"] = optimizer
    else:
        batching: Any = workload.task.train.batching
        arguments["client_work"] = clients.RecordLevelTraining(
            optimizer, batching, workload.record_clip, NOISE_MULTIPLIER
        )
    return processes.build_fed_avg(workload.task, **arguments)


def _on_engine(workload: Workload, engine: Any) -> Running:
    state = engine.initialize()

    def run(round_number: int) -> None:
        nonlocal state
        state, metrics = engine.next(state, workload.rounds_cohort(round_number))
        float(metrics["train"]["loss"])

    return Running(run, lambda: _trainable(state))


def in_process(workload: Workload) -> Running:
    """The toolkit's in-process runtime, everything chosen by itself."""
    from tfl_research import runtime

    if workload.datasets:
        process, datasets = _tutorial(workload)
        return _on_datasets(workload, process, runtime.in_process(process), datasets)
    return _on_engine(workload, runtime.in_process(_process(workload)))


def tff_runtime(workload: Workload) -> Running:
    """The toolkit's process on TFF's C++ runtime (--runtime=tff)."""
    from tfl_research import runtime

    if workload.datasets:
        process, datasets = _tutorial(workload)
        return _on_datasets(workload, process, runtime.tff_local(process), datasets)
    return _on_engine(workload, runtime.tff_local(_process(workload)))


def _on_datasets(
    workload: Workload, process: Any, engine: Any, datasets: list[Any]
) -> Running:
    state = _from_initial_weights(workload, process, engine.initialize())

    def run(round_number: int) -> None:
        nonlocal state
        del round_number
        state, metrics = engine.next(state, datasets)
        float(metrics["client_work"]["train"]["loss"])

    return Running(run, lambda: _trainable(state))


def _from_initial_weights(workload: Workload, process: Any, state: Any) -> Any:
    """The state of a process of TFF with the workload's initial weights."""
    import tensorflow_federated as tff

    if workload.initial_weights is None:
        return state
    weights = tff.learning.models.ModelWeights(workload.initial_weights(), [])
    return process.set_model_weights(state, weights)


def _tutorial(workload: Workload) -> tuple[Any, list[Any]]:
    """The process and the clients' datasets as TFF's tutorial writes them."""
    import tensorflow as tf
    import tensorflow_federated as tff

    task, batching = workload.task, workload.task.train.batching
    datasets = []
    for client in workload.cohort:
        examples = task.train.load(client)
        pairs = tf.data.Dataset.from_tensor_slices((examples["x"], examples["y"]))
        # Kept inside the dataset, so that every round shuffles anew.
        datasets.append(pairs.shuffle(len(examples["y"])).batch(batching.batch_size))
    classes = task.build_model().output_shape[-1]
    loss: Any = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    metric: Any = tf.keras.metrics.SparseCategoricalAccuracy
    if classes == 1:
        loss = tf.keras.losses.BinaryCrossentropy(from_logits=True)
        metric = tf.keras.metrics.BinaryAccuracy

    def model_fn() -> Any:
        return tff.learning.models.from_keras_model(
            task.build_model(),
            input_spec=datasets[0].element_spec,
            loss=loss,
            metrics=[metric()],
        )

    optimizer = tff.learning.optimizers.build_sgdm(workload.client_rate)
    if workload.clip is None:
        process = tff.learning.algorithms.build_weighted_fed_avg(model_fn, optimizer)
    else:
        process = tff.learning.algorithms.build_unweighted_fed_avg(
            model_fn,
            optimizer,
            model_aggregator=tff.aggregators.DifferentiallyPrivateFactory.gaussian_fixed(
                1.0, float(len(workload.cohort)), workload.clip
            ),
        )
    return process, datasets


def plain_tff(workload: Workload) -> Running:
    """TFF as its tutorial writes it: a Keras model and batched datasets."""
    if workload.record_clip is not None:
        raise ValueError("TFF has no DP-SGD at the clients")
    process, datasets = _tutorial(workload)
    state = _from_initial_weights(workload, process, process.initialize())

    def run(round_number: int) -> None:
        nonlocal state
        del round_number
        output = process.next(state, datasets)
        state = output.state

    return Running(run, lambda: _trainable(state))


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


def roofline(workload: Workload) -> Running:
    """Products of large float32 matrices, whatever the workload."""
    import tensorflow as tf

    del workload
    size = [ROOFLINE_SIZE, ROOFLINE_SIZE]
    matrix = tf.random.stateless_uniform(size, [1, 2]) / ROOFLINE_SIZE

    @tf.function
    def products() -> Any:
        product = matrix
        for _ in range(ROOFLINE_PRODUCTS):
            product = tf.matmul(product, matrix)
        return tf.reduce_sum(product)

    return Running(lambda _: float(products()))


CONTENDERS = {
    "plain_tff": plain_tff,
    "tff_runtime": tff_runtime,
    "in_process": in_process,
    "limit": limit,
    "roofline": roofline,
}
