"""Plain TFF, as its tutorial "Federated Learning for Image Classification" writes it.

Resuming is as the documentation of `tff.program` writes it.
"""

import asyncio

import tensorflow as tf
import tensorflow_federated as tff

from compare import federated_task, recorder  # measured

datasets = []
for number in range(federated_task.NUM_CLIENTS):
    examples = tf.data.Dataset.from_tensor_slices(federated_task.client(number))
    datasets.append(examples.batch(federated_task.BATCH_SIZE))


def create_keras_model():
    return tf.keras.models.Sequential(
        [
            tf.keras.layers.InputLayer(input_shape=(784,)),
            tf.keras.layers.Dense(128, activation="relu"),
            tf.keras.layers.Dense(10),
        ]
    )


def model_fn():
    return tff.learning.models.from_keras_model(
        create_keras_model(),
        input_spec=datasets[0].element_spec,
        loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[tf.keras.metrics.SparseCategoricalAccuracy()],
    )


process = tff.learning.algorithms.build_weighted_fed_avg(
    model_fn,
    client_optimizer_fn=tff.learning.optimizers.build_sgdm(federated_task.RATE),
    server_optimizer_fn=tff.learning.optimizers.build_sgdm(1.0),
)
state = process.initialize()
weights = tff.learning.models.ModelWeights(federated_task.initial(), [])
state = process.set_model_weights(state, weights)

manager = tff.program.FileProgramStateManager(federated_task.output() / "state")
kept, done = asyncio.run(manager.load_latest(state))
if kept is not None:
    state = kept
for number in range(done + 1, federated_task.rounds() + 1):
    output = process.next(state, datasets)
    state = output.state
    print(number, output.metrics["client_work"]["train"])
    asyncio.run(manager.save(state, number))
    model = process.get_model_weights(state)  # measured
    recorder.round_done(number, model.trainable)  # measured
