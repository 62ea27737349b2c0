"""The loop over time, with its own gradient.

TensorFlow's own gradient of such a loop adds up the gradient of the recurrent kernel at
every time step. Here the backward loop only computes the gradients of the gates, and
the kernel's gradient is one product over all steps. The loop has a fixed number of
passes, so that XLA can compile the loop and its gradient.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Optional

import tensorflow as tf

from tfl_research.models.layers import own_gradients
from tfl_research.models.layers.recurrent.cells import Cell

Tensors = Sequence[tf.Tensor]


@dataclasses.dataclass(frozen=True)
class _Kind:
    """The kind of a gradient: its cell and the kinds of tensors.

    Attributes:
      cell: the cell.
      weights: number of weights.
      masked: whether there is a mask.
      dropped: whether there is recurrent dropout.
    """

    cell: Cell
    weights: int
    masked: bool
    dropped: bool

    @property
    def name(self) -> str:
        """The name in TensorFlow's registry."""
        parts = [f"TflRecurrent_{self.cell.name}_{self.weights}"]
        parts += ["masked"] * self.masked + ["dropped"] * self.dropped
        return "_".join(parts)


@dataclasses.dataclass
class Run:
    """The inputs of a loop over time.

    Attributes:
      given: `[T, B, G]`, the inputs' part of the gates, the first step first.
      initial: the states before the first step, `[B, H]` each.
      weights: the weights of the cell.
      mask: bool `[T, B, 1]`; where it is False, states stay. None for none.
      dropped: `[gates, B, H]`, see `products.Product`; None for none.
    """

    given: tf.Tensor
    initial: list[tf.Tensor]
    weights: list[tf.Tensor]
    mask: Optional[tf.Tensor] = None
    dropped: Optional[tf.Tensor] = None

    def differentiated(self) -> list[tf.Tensor]:
        """The tensors that have gradients."""
        return [self.given, *self.initial, *self.weights]

    def constants(self) -> list[tf.Tensor]:
        """The tensors that have no gradients."""
        return [t for t in (self.mask, self.dropped) if t is not None]


def over_time(
    cell: Cell, run: Run, *, own_gradient: bool
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Runs a cell over all time steps; call this inside a graph.

    Args:
      cell: the cell.
      run: the inputs of the loop.
      own_gradient: whether the gradient of this module is used; otherwise TensorFlow's
        gradient, for which nothing is kept.

    Returns:
      The first state after each step `[T, B, H]`, and all states after the last step.
    """
    sequences, kept = _forwards(cell, run, keeps=own_gradient)
    outputs = [sequences[0], *(s[-1] for s in sequences[1:])]
    if own_gradient:
        kind = _Kind(
            cell, len(run.weights), run.mask is not None, run.dropped is not None
        )
        outputs = _with_gradient(kind, outputs, run, [*sequences, *kept])
    return outputs[0], [outputs[0][-1], *outputs[1:]]


def _arrays(count: int, like: tf.Tensor) -> list[tf.TensorArray]:
    return [_array(like) for _ in range(count)]


def _array(like: tf.Tensor, source: Optional[tf.Tensor] = None) -> tf.TensorArray:
    """An array with one element for each step of `like`, filled from `source`."""
    steps = like.shape[0]
    size = tf.shape(like)[0] if steps is None else steps
    dtype = like.dtype if source is None else source.dtype
    array = tf.TensorArray(dtype, size, clear_after_read=False)
    return array if source is None else array.unstack(source)


def _loop(
    body: Callable[..., Any], values: tuple[Any, ...], like: tf.Tensor
) -> tuple[Any, ...]:
    """Runs `body` for each time step: (step, values) -> values."""
    steps = like.shape[0]
    count = tf.shape(like)[0] if steps is None else steps
    return tf.while_loop(
        lambda step, _: step < count,
        lambda step, held: (step + 1, body(step, held)),
        (tf.constant(0), values),
        maximum_iterations=count,
    )[1]


def _stacked(
    arrays: Sequence[tf.TensorArray], like: tf.Tensor, width: Optional[int] = None
) -> list[tf.Tensor]:
    stacked = [array.stack() for array in arrays]
    for one in stacked:
        one.set_shape([*like.shape[:2], width])
    return stacked


def _forwards(
    cell: Cell, run: Run, *, keeps: bool
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Computes the states after each step, and the tensors kept of each step."""
    products = cell.products(run.weights, run.dropped)
    given = _array(run.given, run.given)
    masks = None if run.mask is None else _array(run.given, run.mask)
    shapes = [state.shape for state in run.initial]
    widths: list[Optional[int]] = []

    def body(step: tf.Tensor, held: Any) -> Any:
        states, sequences, kept = held
        new, keep = cell.step(given.read(step), states, products)
        if masks is not None:
            real = masks.read(step)
            new = [tf.where(real, n, s) for n, s in zip(new, states)]
        for one, shape in zip(new, shapes):
            one.set_shape(shape)
        widths[:] = [k.shape[-1] for k in keep]
        return (
            list(new),
            [a.write(step, n) for a, n in zip(sequences, new)],
            [a.write(step, k) for a, k in zip(kept, keep)],
        )

    arrays = _arrays(cell.states, run.given), _arrays(cell.kept * keeps, run.given)
    _, sequences, kept = _loop(body, (list(run.initial), *arrays), run.given)
    units = run.initial[0].shape[-1]
    return (
        _stacked(sequences, run.given, units),
        [_stacked([a], run.given, w)[0] for a, w in zip(kept, widths)],
    )


def _with_gradient(
    kind: _Kind, outputs: list[tf.Tensor], run: Run, kept: list[tf.Tensor]
) -> list[tf.Tensor]:
    """Returns the outputs with the gradient of `_backwards`."""
    return own_gradients.attached(
        kind.name,
        lambda op, gradients: _backwards(kind, op, gradients),
        outputs,
        [*run.differentiated(), *run.constants(), *kept],
    )


def _backwards(kind: _Kind, op: Any, gradients: Tensors) -> list[Optional[tf.Tensor]]:
    """Computes the gradients of an operation that `_with_gradient` made."""
    cell = kind.cell
    values = list(op.inputs)

    def taken(count: int) -> list[tf.Tensor]:
        first = values[:count]
        del values[:count]
        return first

    taken(cell.states)
    run = Run(taken(1)[0], taken(cell.states), taken(kind.weights))
    run.mask = taken(1)[0] if kind.masked else None
    run.dropped = taken(1)[0] if kind.dropped else None
    after, kept = taken(cell.states), values
    before = [
        tf.concat([first[tf.newaxis], states[:-1]], 0)
        for first, states in zip(run.initial, after)
    ]
    products = cell.products(run.weights, run.dropped)
    dgiven, dinitial = _loop_backwards(
        cell,
        run,
        cell.factors(kept, after, before),
        list(gradients[: cell.states]),
        products,
    )
    dweights = cell.of_weights(dgiven, kept, before, products)
    found: list[Optional[tf.Tensor]] = [None] * len(op.inputs)
    found[cell.states :] = [dgiven, *dinitial, *dweights]
    return found + [None] * (len(op.inputs) - len(found))


def _loop_backwards(
    cell: Cell,
    run: Run,
    factors: Tensors,
    gradients: list[tf.Tensor],
    products: Any,
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Computes the gradients of `given` and of the initial states."""
    steps = tf.shape(run.given)[0] if run.given.shape[0] is None else run.given.shape[0]
    outputs = _array(run.given, gradients[0])
    factor_arrays = [_array(run.given, factor) for factor in factors]
    masks = None if run.mask is None else _array(run.given, run.mask)
    shapes = [state.shape for state in run.initial]

    def body(passed: tf.Tensor, held: Any) -> Any:
        step = steps - 1 - passed
        after, found = held
        after = [after[0] + outputs.read(step), *after[1:]]
        stays: list[tf.Tensor] = []
        if masks is not None:
            real = masks.read(step)
            stays = [tf.where(real, tf.zeros_like(d), d) for d in after]
            after = [tf.where(real, d, tf.zeros_like(d)) for d in after]
        one, before = cell.back([a.read(step) for a in factor_arrays], after, products)
        if stays:
            before = [b + s for b, s in zip(before, stays)]
        for state, shape in zip(before, shapes):
            state.set_shape(shape)
        return before, found.write(step, one)

    last = [tf.zeros_like(run.initial[0]), *gradients[1:]]
    initial, found = _loop(body, (last, _array(run.given)), run.given)
    return _stacked([found], run.given, run.given.shape[-1])[0], initial
