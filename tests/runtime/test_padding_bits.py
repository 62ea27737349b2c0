"""A chunk in a shape that an earlier engine left has the bits of its own shape."""

import numpy as np
import pytest
import tensorflow as tf
from toy_processes import (
    cohorts_of,
    dropout_builder,
    leaves,
    make_task,
    rounds_of,
    sgd,
)

from tfl_research import processes, runtime
from tfl_research.runtime import Mode
from tfl_research.runtime.compiler import families


def wide_builder():
    return tf.keras.Sequential(
        [
            tf.keras.layers.InputLayer((6,)),
            tf.keras.layers.Dense(37, activation="relu"),
            tf.keras.layers.Dense(3),
        ]
    )


def convolution_builder():
    return tf.keras.Sequential(
        [
            tf.keras.layers.InputLayer((6,)),
            tf.keras.layers.Reshape((6, 1)),
            tf.keras.layers.Conv1D(5, 3, activation="relu"),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(3),
        ]
    )


def recurrent_builder():
    return tf.keras.Sequential(
        [
            tf.keras.layers.InputLayer((6,)),
            tf.keras.layers.Reshape((3, 2)),
            tf.keras.layers.LSTM(7),
            tf.keras.layers.Dense(3),
        ]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "builder"),
    [
        (Mode("folded", "xla"), wide_builder),
        (Mode("folded", "graph"), wide_builder),
        *(
            pytest.param(Mode(*mode), builder, marks=pytest.mark.campaign)
            for mode, builder in (
                (("folded", "xla"), dropout_builder),
                (("vectorised", "graph"), wide_builder),
                (("vectorised", "graph"), dropout_builder),
                (("vectorised", "xla"), wide_builder),
                (("folded", "xla"), recurrent_builder),
                (("vectorised", "graph"), convolution_builder),
                (("vectorised", "graph"), recurrent_builder),
            )
        ),
    ],
)
def test_padding_changes_no_bit(mode, builder):
    task = make_task(builder)
    process = processes.build_fed_avg(task, client_optimizer=sgd())
    cohorts = cohorts_of(task)
    found = []
    for shape in ((), (3, 40), (4, 64)):
        families.forget()
        with runtime.in_process(process, mode=mode, parallel=2) as engine:
            if shape:
                engine._programs.shapes.add(shape)
                engine._programs.shapes.add((2, shape[1]))
            found.append(leaves(rounds_of(engine, cohorts)))
            assert not shape or len(engine._programs.shapes) <= 3
    for padded in found[1:]:
        for ours, own in zip(padded, found[0]):
            np.testing.assert_array_equal(ours, own)
