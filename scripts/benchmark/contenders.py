"""The contenders: functions from a workload to a function that runs a round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmark.by_hand import limit
from benchmark.images import NOISE_MULTIPLIER
from benchmark.products import products
from benchmark.running import Running
from benchmark.specs import ROOFLINE_PRODUCTS, ROOFLINE_SIZE
from benchmark.workloads import Workload
from tfl_research import deferred_imports


def _trainable(state: Any) -> list[np.ndarray]:
    return [np.asarray(w) for w in state.global_model_weights.trainable]


def _import_tff() -> None:
    """Imports TFF as commands do; others import TFF whole."""
    deferred_imports.freeze_imports()
    deferred_imports.import_tff()


def _process(workload: Workload) -> Any:
    _import_tff()
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


def in_process(workload: Workload, accelerator: str = "none") -> Running:
    """The toolkit's in-process runtime, everything chosen by itself."""
    _import_tff()
    from tfl_research import runtime
    from tfl_research.runtime import cores

    # Before anything is built: a GPU is to have its settings, or to be left alone.
    if workload.datasets:
        runtime.prepare(accelerator)
        process, datasets = _tutorial(workload)
        engine = runtime.in_process(process, accelerator=accelerator)
        return _on_datasets(workload, process, engine, datasets)
    # As scripts/run does for an experiment with cohorts of this size.
    threads = None
    if accelerator == "none" and workload.clip is None and workload.rule is None:
        threads = cores.threads_for_rounds(workload.expected_cohort_size)
    runtime.prepare(accelerator, operation_threads=threads)
    engine = runtime.in_process(_process(workload), accelerator=accelerator)
    return _on_engine(workload, engine)


def in_process_gpu(workload: Workload) -> Running:
    """The same with clients' work on the GPUs that TensorFlow sees."""
    return in_process(workload, "gpu")


def tff_runtime(workload: Workload) -> Running:
    """The toolkit's process on TFF's C++ runtime (--runtime=tff)."""
    _import_tff()
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
    own = process.get_model_weights(state).trainable
    values = [w.reshape(np.shape(o)) for w, o in zip(workload.initial_weights(), own)]
    weights = tff.learning.models.ModelWeights(values, [])
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


def roofline(workload: Workload) -> Running:
    """Products of large float32 matrices, whatever the workload."""
    import tensorflow as tf

    del workload
    size = [ROOFLINE_SIZE, ROOFLINE_SIZE]
    matrix = tf.random.stateless_uniform(size, [1, 2]) / ROOFLINE_SIZE

    @tf.function
    def powers() -> Any:
        product = matrix
        for _ in range(ROOFLINE_PRODUCTS):
            product = tf.matmul(product, matrix)
        return tf.reduce_sum(product)

    def run(round_number: int) -> None:
        del round_number
        float(powers())

    return Running(run)


CONTENDERS: dict[str, Callable[[Workload], Running]] = {
    "plain_tff": plain_tff,
    "tff_runtime": tff_runtime,
    "in_process": in_process,
    "in_process_gpu": in_process_gpu,
    "limit": limit,
    "roofline": roofline,
    "products": products,
}
