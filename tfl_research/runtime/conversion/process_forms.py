"""Converts a TFF process to TFF's map-reduce form."""

from __future__ import annotations

import logging

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import interrupts
from tfl_research.errors import UserError
from tfl_research.runtime.conversion import direct_forms, known_forms
from tfl_research.runtime.conversion.round_values import Unknown
from tfl_research.runtime.graphs import process_shape
from tfl_research.runtime.graphs.parts import Part

# Names of the toolkit's functions in TensorFlow's messages about repeated tracing.
_OURS = ("tfl_research", "Evaluator.")


def _is_for_users(record: logging.LogRecord) -> bool:
    """Whether a log message of TensorFlow is useful to a user.

    TensorFlow reports that vectorised programs use loops for some operations, that a
    function is deprecated, and that each experiment of a process traces its own
    functions. A user cannot change these facts. TensorFlow also prints hundreds of
    lines about an operation that it cannot vectorise, although it raises the reason.
    """
    message = record.getMessage()
    retraced = "triggered tf.function retracing" in message
    return not (
        message.startswith("Using a while_loop for converting")
        or message.startswith("Got error while pfor was converting op ")
        or "\ncreated at:\n  " in message
        or "extract_sub_graph" in message
        or (retraced and any(name in message for name in _OURS))
    )


tf.get_logger().addFilter(_is_for_users)


class UnsupportedProcess(UserError):
    """A runtime, or a mode of it, cannot execute the process."""


def _without_grappler() -> tf.compat.v1.ConfigProto:
    # Grappler lowers loops to the control flow of TensorFlow 1, which XLA and
    # vectorisation do not accept.
    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return config


def map_reduce_form(
    process: tff.templates.IterativeProcess,
) -> tuple[Part, known_forms.Form]:
    """Converts the process.

    Returns:
      The computation of the initial state, and the map-reduce form of a round.

    Raises:
      UnsupportedProcess: the process has no map-reduce form.
    """
    if process_shape.client_type(process) is None:
        raise UnsupportedProcess("the process has no clients")
    try:
        return (
            direct_forms.initial_state(process.initialize),
            direct_forms.form_of(process.next),
        )
    except (Unknown, RecursionError):
        # RecursionError if a chain of calls is too long for Python's stack.
        return _by_tff(process)


def _by_tff(
    process: tff.templates.IterativeProcess,
) -> tuple[Part, known_forms.Form]:
    """Computes `map_reduce_form` by TFF's compiler."""
    config = _without_grappler()
    try:
        form = known_forms.form_of(
            process.next,
            lambda computation: (
                tff.backends.mapreduce.get_map_reduce_form_for_computation(
                    computation, config
                )
            ),
        )
        initialize = tff.backends.mapreduce.get_state_initialization_computation(
            process.initialize, config
        )
    except Exception as error:
        interrupts.check()
        raise UnsupportedProcess(
            "the process has no map-reduce form "
            f"({type(error).__name__}: {(str(error).strip() or '-').splitlines()[0]})"
        ) from error
    return Part.of(initialize), form
