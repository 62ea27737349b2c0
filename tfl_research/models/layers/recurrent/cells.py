"""One time step of LSTM and SimpleRNN, forwards and backwards; `gru` has GRU.

A cell gets the inputs' part of its gates ("given"), which is computed before the loop.
Shapes: T time steps, B examples, H units, and G = H times the number of gates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Optional, Protocol

import tensorflow as tf

from tfl_research.models.layers.recurrent.products import Product

Tensors = Sequence[tf.Tensor]

# Derivatives of activation functions, as functions of the function's value.
DERIVATIVES: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "tanh": lambda y: 1.0 - y * y,
    "sigmoid": lambda y: y * (1.0 - y),
    "relu": lambda y: tf.cast(y > 0, y.dtype),
    "linear": tf.ones_like,
}
FUNCTIONS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "tanh": tf.tanh,
    "sigmoid": tf.sigmoid,
    "relu": tf.nn.relu,
    "linear": tf.identity,
}


class Cell(Protocol):
    """A cell's step and the parts of its gradient.

    Attributes:
      name: the name, which is equal for cells with equal gradients.
      states: number of states; the first state is the output.
      kept: number of tensors that a step keeps for the gradient.
      gates: number of gates with their own dropout.
    """

    @property
    def name(self) -> str: ...
    @property
    def states(self) -> int: ...
    @property
    def kept(self) -> int: ...
    @property
    def gates(self) -> int: ...

    def products(self, weights: Tensors, dropped: Optional[tf.Tensor]) -> Any:
        """The values that every `step` and `back` use, prepared before the loop."""

    def step(
        self, given: tf.Tensor, states: Tensors, products: Any
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Computes the next states, and tensors to keep, from `[B, G]` and states."""

    def factors(
        self, kept: Tensors, after: Tensors, before: Tensors
    ) -> list[tf.Tensor]:
        """Computes the tensors of all steps that `back` needs, `[T, B, ...]`.

        Args:
          kept: the tensors that were kept, of all steps.
          after: states after each step, `[T, B, H]` each.
          before: states before each step.
        """

    def back(
        self, factors: Tensors, gradients: Tensors, products: Any
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Computes gradients of `given` and earlier states from those of the states."""

    def of_weights(
        self, gradients: tf.Tensor, kept: Tensors, before: Tensors, products: Any
    ) -> list[tf.Tensor]:
        """Computes the weights' gradients from those of `given`, `[T, B, G]`."""


@dataclasses.dataclass(frozen=True)
class Lstm:
    """Gates i, f, c, o (Hochreiter and Schmidhuber 1997); weights: the kernel."""

    activation: str
    recurrent_activation: str
    states = 2
    kept = 3
    gates = 4

    @property
    def name(self) -> str:
        return f"lstm_{self.activation}_{self.recurrent_activation}"

    def products(self, weights: Tensors, dropped: Optional[tf.Tensor]) -> Product:
        return Product(weights[0], dropped)

    def step(
        self, given: tf.Tensor, states: Tensors, products: Product
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        gate, activation = (
            FUNCTIONS[self.recurrent_activation],
            FUNCTIONS[self.activation],
        )
        h, c = states
        units = h.shape[-1]
        z = given + products.of(h)
        in_forget = gate(z[:, : 2 * units])
        new = activation(z[:, 2 * units : 3 * units])
        out = gate(z[:, 3 * units :])
        c = in_forget[:, units:] * c + in_forget[:, :units] * new
        return [out * activation(c), c], [in_forget, new, out]

    def factors(
        self, kept: Tensors, after: Tensors, before: Tensors
    ) -> list[tf.Tensor]:
        of_gate = DERIVATIVES[self.recurrent_activation]
        of_activation = DERIVATIVES[self.activation]
        in_forget, new, out = kept
        units = new.shape[-1]
        enters, forgets = in_forget[..., :units], in_forget[..., units:]
        shown = FUNCTIONS[self.activation](after[1])
        of_c = [
            new * of_gate(enters),
            before[1] * of_gate(forgets),
            enters * of_activation(new),
        ]
        of_h = shown * of_gate(out)
        return [tf.concat(of_c, 2), of_h, out * of_activation(shown), forgets]

    def back(
        self, factors: Tensors, gradients: Tensors, products: Product
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        of_c, of_h, through, forgets = factors
        dh, dc = gradients
        dc = dc + dh * through
        dz = tf.concat([tf.concat([dc, dc, dc], 1) * of_c, dh * of_h], 1)
        return dz, [products.back(dz), dc * forgets]

    def of_weights(
        self, gradients: tf.Tensor, kept: Tensors, before: Tensors, products: Product
    ) -> list[tf.Tensor]:
        return [products.of_kernel(before[0], gradients)]


@dataclasses.dataclass(frozen=True)
class Simple:
    """One gate, the output (Elman 1990)."""

    activation: str
    states = 1
    kept = 0
    gates = 1

    @property
    def name(self) -> str:
        return f"simple_{self.activation}"

    def products(self, weights: Tensors, dropped: Optional[tf.Tensor]) -> Product:
        return Product(weights[0], dropped)

    def step(
        self, given: tf.Tensor, states: Tensors, products: Product
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        return [FUNCTIONS[self.activation](given + products.of(states[0]))], []

    def factors(
        self, kept: Tensors, after: Tensors, before: Tensors
    ) -> list[tf.Tensor]:
        return [DERIVATIVES[self.activation](after[0])]

    def back(
        self, factors: Tensors, gradients: Tensors, products: Product
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        dz = gradients[0] * factors[0]
        return dz, [products.back(dz)]

    def of_weights(
        self, gradients: tf.Tensor, kept: Tensors, before: Tensors, products: Product
    ) -> list[tf.Tensor]:
        return [products.of_kernel(before[0], gradients)]
