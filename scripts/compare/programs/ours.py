"""Ours, as README.md writes it."""

import tensorflow as tf

import tfl_research as tfl
from compare import federated_task, recorder  # measured


class Recorder(tfl.Callback):  # measured
    def on_round(self, report):  # measured
        recorder.round_done(report.round_number, report.weights.trainable)  # measured


def model():
    network = tf.keras.Sequential(
        [
            tf.keras.layers.Dense(128, activation="relu", input_shape=(784,)),
            tf.keras.layers.Dense(10),
        ]
    )
    network.set_weights(federated_task.initial())
    return network


clients = {}
for number in range(federated_task.NUM_CLIENTS):
    x, y = federated_task.client(number)
    clients[f"client {number}"] = {"x": x, "y": y}

experiment = tfl.Experiment(
    task=tfl.tasks.from_arrays(
        clients,
        model=model,
        test=0.0,
        batching=tfl.data.Batching(federated_task.BATCH_SIZE, shuffle=False),
    ),
    client_optimizer=tfl.SGD(federated_task.RATE),
    cohorts=tfl.Cohorts("full"),
    training=tfl.Training(rounds=federated_task.rounds(), checkpoint_every=1),
    callbacks=[Recorder()],  # measured
)
result = experiment.run(federated_task.output() / "run")
print(result.epsilon)
