"""Gives recurrent layers of a model the loop of `loop` while the model is traced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Optional

import tensorflow as tf

from tfl_research.models.layers.recurrent import cells, gru, loop

_layers = tf.keras.layers
_activations = tf.keras.activations
_CELLS = {
    _layers.LSTM: _layers.LSTMCell,
    _layers.GRU: _layers.GRUCell,
    _layers.SimpleRNN: _layers.SimpleRNNCell,
}
_NAMES = (
    ("tanh", (_activations.tanh, tf.tanh)),
    ("sigmoid", (_activations.sigmoid, tf.sigmoid)),
    ("relu", (_activations.relu, tf.nn.relu)),
    ("linear", (_activations.linear,)),
)


@contextmanager
def own_loops(modules: Sequence[Any]) -> Iterator[None]:
    """Gives LSTM, GRU and SimpleRNN layers the loop of `loop` while a model is traced.

    Predictions and gradients equal Keras' up to rounding, with the same masks, dropout
    and states. Keras' own code still computes layers of other classes and of derived
    classes, layers or cells with their own `call`, activations without an entry in
    `cells.DERIVATIVES`, `unroll`, `time_major`, `stateful`, and ragged inputs.

    Args:
      modules: the model's layers and other modules.
    """
    changed = []
    try:
        for layer in modules:
            cell = _cell_of(layer)
            if cell is not None:
                layer.call = _call(layer, cell)
                changed.append(layer)
        yield
    finally:
        for layer in changed:
            del layer.call


def _activation(function: Any) -> Optional[str]:
    return next((n for n, known in _NAMES if any(function is k for k in known)), None)


def _cell_of(layer: Any) -> Optional[cells.Cell]:
    """The cell of a layer; None for a layer that is left to Keras."""
    kind = _CELLS.get(type(layer))
    if (
        kind is None
        or type(layer.cell) is not kind
        or "call" in vars(layer)
        or "call" in vars(layer.cell)
        or layer.stateful
        or layer.unroll
        or layer.time_major
        or layer.compute_dtype != layer.cell.compute_dtype
    ):
        return None
    activation = _activation(layer.activation)
    if activation is None:
        return None
    if kind is _layers.SimpleRNNCell:
        return cells.Simple(activation)
    recurrent = _activation(layer.recurrent_activation)
    if recurrent is None or vars(layer).get(_RETURNS_RUNTIME[kind], False):
        return None
    if kind is _layers.LSTMCell:
        return cells.Lstm(activation, recurrent)
    if layer.reset_after:
        return gru.GruResetAfter(activation, recurrent)
    return gru.GruResetBefore(activation, recurrent)


# Keras' own layers also return the device that ran them, for Keras' tests.
_RETURNS_RUNTIME = {
    _layers.LSTMCell: "return_runtime",
    _layers.GRUCell: "_return_runtime",
}


def _call(layer: Any, cell: cells.Cell) -> Callable[..., Any]:
    keras_call = layer.call

    @tf.autograph.experimental.do_not_convert
    def call(
        inputs: Any, mask: Any = None, training: Any = None, initial_state: Any = None
    ) -> Any:
        x, *states = inputs if isinstance(inputs, list) else [inputs]
        states = states or initial_state
        first = mask[0] if isinstance(mask, (list, tuple)) else mask
        if not _is_sequence(x, layer.compute_dtype) or not _is_mask(first):
            return keras_call(
                inputs, mask=mask, training=training, initial_state=initial_state
            )
        if states is None:
            states = layer.get_initial_state(x)
        states = list(states) if isinstance(states, (list, tuple)) else [states]
        if len(states) != cell.states or any(s.dtype != x.dtype for s in states):
            return keras_call(
                inputs, mask=mask, training=training, initial_state=initial_state
            )
        return _outputs(layer, cell, x, first, training, states)

    return call


def _is_sequence(x: Any, dtype: str) -> bool:
    return (
        isinstance(x, tf.Tensor)
        and x.dtype == dtype
        and x.shape.rank == 3
        and x.shape[1] != 0
        and x.shape[2] is not None
    )


def _is_mask(mask: Any) -> bool:
    return mask is None or (isinstance(mask, tf.Tensor) and mask.shape.rank == 2)


def _outputs(
    layer: Any, cell: cells.Cell, x: Any, mask: Any, training: Any, states: Any
) -> Any:
    """The value that the layer returns."""
    x, by_gate, dropped = _dropped(layer, cell, x, states[0], training)
    x = tf.transpose(x, [1, 0, 2])
    if mask is not None:
        mask = tf.transpose(tf.cast(mask, tf.bool))[:, :, tf.newaxis]
    if layer.go_backwards:
        x = tf.reverse(x, [0])
        mask = None if mask is None else tf.reverse(mask, [0])
    given, weights = _projected(layer, x, by_gate)
    run = loop.Run(given, states, weights, mask, dropped)
    after, last = loop.over_time(cell, run, own_gradient=training is not False)
    if mask is not None:
        # Keras' output is 0 before the first unmasked step, whatever the state is.
        shown = mask
        if not layer.zero_output_for_mask:
            shown = tf.cumsum(tf.cast(mask, tf.int32), axis=0) > 0
        after = tf.where(shown, after, tf.zeros_like(after))
    output = tf.transpose(after, [1, 0, 2]) if layer.return_sequences else after[-1]
    return [output, *last] if layer.return_state else output


def _projected(
    layer: Any, x: tf.Tensor, by_gate: Optional[list[tf.Tensor]]
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Computes the inputs' part of the gates, `[T, B, G]`, and the loop's weights."""
    kernel = tf.convert_to_tensor(layer.cell.kernel)
    if by_gate is None:
        given = tf.tensordot(x, kernel, 1)
    else:
        kernels = tf.split(kernel, len(by_gate), 1)
        given = tf.concat(
            [tf.tensordot(x * m, k, 1) for m, k in zip(by_gate, kernels)], 2
        )
    weights = [tf.convert_to_tensor(layer.cell.recurrent_kernel)]
    if layer.use_bias:
        bias = tf.convert_to_tensor(layer.cell.bias)
        if bias.shape.rank == 2:  # Of the inputs, and of the state.
            bias, of_state = tf.unstack(bias)
            weights.append(of_state)
        # The gradient of `bias_add` is one operation, and XLA executes it fast.
        given = tf.nn.bias_add(given, bias)
    return given, weights


def _dropped(
    layer: Any, cell: cells.Cell, x: tf.Tensor, state: tf.Tensor, training: Any
) -> tuple[tf.Tensor, Optional[list[tf.Tensor]], Optional[tf.Tensor]]:
    """Computes dropout as Keras does, with the same draws in the same order.

    Returns:
      The inputs, after dropout that is the same for all gates; factors of the inputs
      `[B, features]` for each gate, or None; factors of the state
      `[gates, B, H]`, or None.
    """
    if vars(layer).get("_could_use_gpu_kernel", False):
        layer.reset_dropout_mask()
        masks = layer.get_dropout_mask_for_cell(x, training, count=cell.gates)
        return (x if masks is None else x * masks[0]), None, None
    inner = layer.cell
    for _ in range(2):
        # Keras calls the cell twice: for the shape of the output, and in the loop.
        inner.reset_dropout_mask()
        inner.reset_recurrent_dropout_mask()
        inputs = inner.get_dropout_mask_for_cell(x[:, 0], training, count=cell.gates)
        states = inner.get_recurrent_dropout_mask_for_cell(
            state, training, count=cell.gates
        )
    inputs = [inputs] if isinstance(inputs, tf.Tensor) else inputs
    states = [states] if isinstance(states, tf.Tensor) else states
    several = cell.gates > 1
    if several and not 0 < inner.dropout < 1:
        inputs = None
    if several and not 0 < inner.recurrent_dropout < 1:
        states = None
    dropped = None if states is None else tf.stack(states)
    if inputs is None:
        return x, None, dropped
    if several and inner.implementation == 1:
        return x, inputs, dropped
    return x * inputs[0][:, tf.newaxis], None, dropped
