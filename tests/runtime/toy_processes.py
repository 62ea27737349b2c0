"""Processes whose rounds are compared between runtimes."""

import collections

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import aggregators, clients, data, models, privacy, processes
from tfl_research.tasks import objectives
from tfl_research.tasks.task import Card, Task

FEATURES, CLASSES = 6, 3


def leaves(value):
    """All numeric leaves of a nest of states or metrics."""
    flat = []

    def walk(item):
        if hasattr(item, "_fields"):
            item = item._asdict()
        if hasattr(item, "__attrs_attrs__"):
            item = {a.name: getattr(item, a.name) for a in item.__attrs_attrs__}
        if isinstance(item, collections.abc.Mapping):
            for member in item.values():
                walk(member)
        elif isinstance(item, (list, tuple)):
            for member in item:
                walk(member)
        else:
            array = np.asarray(item)
            if array.dtype.kind in "fiub":
                flat.append(array.astype(np.float64))

    walk(value)
    return flat


def assert_same(ours, theirs):
    ours, theirs = leaves(ours), leaves(theirs)
    assert len(ours) == len(theirs)
    assert ours
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def model_builder():
    return tf.keras.Sequential(
        [
            tf.keras.layers.InputLayer((FEATURES,)),
            tf.keras.layers.Dense(5, activation="tanh"),
            tf.keras.layers.Dense(CLASSES),
        ]
    )


def dropout_builder():
    return tf.keras.Sequential(
        [
            tf.keras.layers.InputLayer((FEATURES,)),
            tf.keras.layers.Dense(8, activation="relu"),
            tf.keras.layers.Dropout(0.3),
            tf.keras.layers.Dense(CLASSES),
        ]
    )


def examples(count, seed):
    rng = np.random.default_rng(seed)
    return {
        "x": rng.normal(size=(count, FEATURES)).astype(np.float32),
        "y": rng.integers(0, CLASSES, count).astype(np.int32),
    }


def make_task(builder=model_builder, sizes=(7, 3, 12, 1, 5, 0, 9), made=examples):
    held = data.ClientData.from_arrays(
        {f"c{i}": made(n, i) for i, n in enumerate(sizes)},
        data.Batching(batch_size=4, epochs=2),
    )
    return Task(
        "toy",
        Card("", "", "", "", ""),
        held,
        held,
        None,
        builder,
        objectives.multiclass,
    )


def sgd(rate=0.1, momentum=None):
    return tff.learning.optimizers.build_sgdm(rate, momentum)


def mechanism(**changes):
    arguments = {
        "l2_norm_clip": 0.2,
        "noise_multiplier": 0.7,
        "expected_cohort_size": 4,
        "noise_seed": 2**90 + 17,
    }
    return privacy.gaussian_aggregator(**{**arguments, **changes})


def adaptive():
    return privacy.adaptive_gaussian_aggregator(
        initial_l2_norm_clip=0.1,
        target_unclipped_quantile=0.5,
        clip_learning_rate=0.2,
        noise_multiplier=0.3,
        expected_cohort_size=8,
        noise_seed=5,
    )


OURS = {
    "fed_avg": {"client_optimizer": sgd()},
    "fed_avg_uniform": {
        "client_optimizer": sgd(),
        "client_weighting": processes.uniform(),
    },
    "fed_avg_capped": {
        "client_optimizer": sgd(),
        "client_weighting": processes.capped(5.0),
    },
    "fed_prox_clipped": {
        "client_work": clients.local_training(
            optimizer=sgd(momentum=0.9), proximal_strength=0.5, gradient_clip_norm=0.5
        )
    },
    "fed_adam": {
        "client_optimizer": tff.learning.optimizers.build_adagrad(0.1),
        "server_optimizer": tff.learning.optimizers.build_adam(0.05),
    },
    "fed_yogi_scheduled": {
        "client_work": clients.local_training(
            optimizer=sgd(),
            learning_rate_schedule=lambda r: 0.1 * 0.5 ** tf.cast(r, tf.float32),
        ),
        "server_optimizer": tff.learning.optimizers.build_yogi(0.05),
    },
    "robust": {
        "client_optimizer": sgd(),
        "aggregator": tff.learning.robust_aggregator(),
    },
    "clipping": {
        "client_optimizer": sgd(),
        "aggregator": tff.aggregators.clipping_factory(
            0.3, tff.aggregators.MeanFactory(no_nan_division=True)
        ),
    },
    "secure": {"client_optimizer": sgd(), "aggregator": aggregators.secure()},
    "gaussian": {
        "client_optimizer": sgd(),
        "client_weighting": processes.uniform(),
        "aggregator": mechanism(),
    },
    "adaptive_gaussian": {
        "client_optimizer": sgd(),
        "client_weighting": processes.capped(4.0),
        "aggregator": adaptive(),
    },
}


def rounds_of(engine, cohorts):
    with engine:
        state = engine.initialize()
        history = []
        for cohort in cohorts:
            state, metrics = engine.next(state, cohort)
            history.append(metrics)
    return state, history


def cohorts_of(task):
    ids = task.train.client_ids
    return [
        task.train.cohort(chosen, seed=1, round_number=r)
        for r, chosen in enumerate([ids, ids[:3], ids[2:6]], start=1)
    ]


def cohorts_of_one_shape(task):
    """Two rounds with all clients: XLA takes seconds for each further shape."""
    ids = task.train.client_ids
    return [task.train.cohort(ids, seed=1, round_number=r) for r in (1, 2)]


def keras_model_fn():
    spec = (
        tf.TensorSpec((None, FEATURES), tf.float32),
        tf.TensorSpec((None,), tf.int32),
    )
    return tff.learning.models.from_keras_model(
        models.initialized(model_builder, 0),
        input_spec=spec,
        loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )


def tff_processes():
    build = tff.learning.algorithms
    return {
        "weighted_fed_avg": lambda: build.build_weighted_fed_avg(keras_model_fn, sgd()),
        "unweighted_fed_avg": lambda: build.build_unweighted_fed_avg(
            keras_model_fn, sgd()
        ),
        "weighted_fed_prox": lambda: build.build_weighted_fed_prox(
            keras_model_fn, proximal_strength=0.5, client_optimizer_fn=sgd()
        ),
        "fed_sgd": lambda: build.build_fed_sgd(keras_model_fn, sgd()),
        "mime_lite": lambda: build.build_weighted_mime_lite(
            keras_model_fn, base_optimizer=sgd(momentum=0.9)
        ),
        "robust": lambda: build.build_weighted_fed_avg(
            keras_model_fn, sgd(), model_aggregator=tff.learning.robust_aggregator()
        ),
        "secure": lambda: build.build_weighted_fed_avg(
            keras_model_fn, sgd(), model_aggregator=tff.learning.secure_aggregator()
        ),
        "compression": lambda: build.build_weighted_fed_avg(
            keras_model_fn,
            sgd(),
            model_aggregator=tff.learning.compression_aggregator(),
        ),
        "dp_adaptive": lambda: build.build_unweighted_fed_avg(
            keras_model_fn,
            sgd(),
            model_aggregator=tff.aggregators.DifferentiallyPrivateFactory.gaussian_adaptive(
                0.0, 3.0
            ),
        ),
    }


def client_datasets():
    """What three clients of `tff_processes` hold."""
    return [
        tf.data.Dataset.from_tensor_slices(
            tuple(examples(n, i)[k] for k in ("x", "y"))
        ).batch(4)
        for i, n in enumerate((7, 3, 12))
    ]


def summing_process(intrinsic):
    """A user's own process: counts with a secure sum, no learning at all."""
    state_type = tff.FederatedType(np.int32, tff.SERVER)

    @tff.federated_computation
    def initialize():
        return tff.federated_value(0, tff.SERVER)

    @tff.federated_computation(state_type, tff.FederatedType(np.int32, tff.CLIENTS))
    def next_round(state, values):
        total = intrinsic(values)
        return tff.federated_map(ADD, (state, total)), total

    return tff.templates.IterativeProcess(initialize, next_round)


@tff.tensorflow.computation(np.int32, np.int32)
def ADD(a, b):
    return a + b


def slow_process():
    """Clients count to their value, one by one, which takes a while."""
    state_type = tff.FederatedType(np.int64, tff.SERVER)

    @tff.tensorflow.computation(np.int64)
    def count(value):
        start = (tf.zeros_like(value),)
        return tf.while_loop(lambda i: i < value, lambda i: (i + 1,), start)[0]

    @tff.tensorflow.computation(np.int64, np.int64)
    def add(a, b):
        return a + b

    @tff.federated_computation
    def initialize():
        return tff.federated_value(np.int64(0), tff.SERVER)

    @tff.federated_computation(state_type, tff.FederatedType(np.int64, tff.CLIENTS))
    def next_round(state, values):
        total = tff.federated_sum(tff.federated_map(count, values))
        return tff.federated_map(add, (state, total)), total

    return tff.templates.IterativeProcess(initialize, next_round)
