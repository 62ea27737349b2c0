"""Processes with side effects, tables and text in client work, written for the test."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from tff_own import COUNT, NUMBERS, adding
from tff_row import Row


def _table(x: Any) -> Any:
    keys = tf.constant(["red", "blue"])
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(keys, tf.constant([2.0, 3.0])), -1.0
    )
    return table.lookup(x)


def _mutable_table(x: Any) -> Any:
    table = tf.lookup.experimental.MutableHashTable(tf.string, tf.float32, 0.0)
    with tf.control_dependencies([table.insert(x, tf.constant(5.0))]):
        return table.lookup(x)


def _queued(x: Any) -> Any:
    queue = tf.queue.FIFOQueue(3, [tf.float32], shapes=[[]])

    @tf.function
    def pushed(value: Any) -> Any:
        with tf.control_dependencies([queue.enqueue(value)]):
            return queue.dequeue() * 2.0

    return pushed(x)


def _asserted(x: Any) -> Any:
    with tf.control_dependencies([tf.debugging.assert_less(x, 100.0)]):
        return tf.identity(x)


def _variable(x: Any) -> Any:
    held = tf.Variable(1.0, trainable=False)
    with tf.control_dependencies([held.initializer]):
        added = held.assign_add(x, read_value=False)
    with tf.control_dependencies([added]):
        return held.read_value()


def _branching(x: Any) -> Any:
    return tf.cond(
        x > 1.0,
        lambda: tf.while_loop(lambda v: v < 10.0, lambda v: [2.0 * v], [x])[0],
        lambda: -x,
    )


def _strings() -> list[Any]:
    return [[np.array(w) for w in ws] for ws in (["red", "blue"], ["?"], ["red"] * 3)]


TEXT = tff.TensorType(np.str_)
TABLE = {
    "hash_table": Row(adding(_table, TEXT), _strings()),
    "mutable_hash_table": Row(adding(_mutable_table, TEXT), _strings()),
    "queue": Row(adding(_queued), NUMBERS),
    "assert_that_holds": Row(adding(_asserted), NUMBERS),
    "variable": Row(adding(_variable), NUMBERS),
    "branches_and_loops": Row(adding(_branching), NUMBERS),
    "string_operations": Row(
        adding(
            lambda x: tf.cast(
                tf.size(tf.strings.split([x], ",").flat_values), tf.float32
            ),
            TEXT,
        ),
        [[np.array(w) for w in ws] for ws in (["a,b", "c"], ["d"], ["e,f,g"])],
    ),
}

# Processes that stop with the clients' own message, on every engine alike.
STOPPED = {
    "assert_that_fails": (adding(_asserted), [np.float32(500)], "(?i)assert|less"),
    "check_of_numbers": (
        adding(lambda x: tf.debugging.check_numerics(x, "no number")),
        [np.float32("nan")],
        "no number",
    ),
    "label_out_of_range": (
        adding(
            lambda x: tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels=x, logits=tf.zeros([3])
            ),
            COUNT,
        ),
        [np.int32(7)],
        "(?i)label|valid range",
    ),
}
