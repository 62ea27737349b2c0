"""One time step of LSTM, GRU and SimpleRNN, forwards and backwards.

A cell gets the inputs' part of its gates ("given"), which is computed before the loop.
Shapes: T time steps, B examples, H units, and G = H times the number of gates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Optional, Protocol

import tensorflow as tf

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


class Product:
    """The product of a state and a recurrent kernel, with recurrent dropout.

    Args:
      kernel: `[H, G]`.
      dropped: `[gates, B, H]`, factors of the state for each gate; None for none.
    """

    def __init__(self, kernel: tf.Tensor, dropped: Optional[tf.Tensor]):
        self._kernel, self._dropped = kernel, dropped
        if dropped is not None:
            units, gates = kernel.shape[0], dropped.shape[0]
            by_gate = tf.reshape(kernel, [units, gates, kernel.shape[1] // gates])
            self._by_gate = tf.transpose(by_gate, [1, 0, 2])

    def of(self, state: tf.Tensor) -> tf.Tensor:
        """`[B, H]` -> `[B, G]`."""
        if self._dropped is None:
            return tf.matmul(state, self._kernel)
        gates = tf.matmul(self._dropped * state, self._by_gate)
        return tf.concat(tf.unstack(gates), 1)

    def back(self, gradient: tf.Tensor) -> tf.Tensor:
        """The gradient of the state, `[B, G]` -> `[B, H]`."""
        if self._dropped is None:
            return tf.matmul(gradient, self._kernel, transpose_b=True)
        gates = tf.stack(tf.split(gradient, self._dropped.shape[0], 1))
        states = tf.matmul(gates, self._by_gate, transpose_b=True)
        return tf.reduce_sum(states * self._dropped, 0)

    def of_kernel(self, states: tf.Tensor, gradients: tf.Tensor) -> tf.Tensor:
        """The gradient of the kernel, one product over all steps.

        Args:
          states: `[T, B, H]`, before each step.
          gradients: `[T, B, G]`.

        Returns:
          `[H, G]`.
        """
        if self._dropped is None:
            return _summed(states, gradients)
        parts = tf.split(gradients, self._dropped.shape[0], 2)
        dropped = [states * one for one in tf.unstack(self._dropped)]
        return tf.concat([_summed(s, g) for s, g in zip(dropped, parts)], 1)


def _summed(states: tf.Tensor, gradients: tf.Tensor) -> tf.Tensor:
    """`[T, B, H]` and `[T, B, G]` -> `[H, G]`, over all steps and examples."""
    return tf.matmul(
        tf.reshape(states, [-1, states.shape[-1]]),
        tf.reshape(gradients, [-1, gradients.shape[-1]]),
        transpose_a=True,
    )


class Cell(Protocol):
    """A cell's step and the parts of its gradient.

    Attributes:
      name: equal for cells with equal gradients.
      states: number of states, of which the first is the output.
      kept: number of tensors that a step keeps for the gradient.
      gates: number of gates that dropout treats on their own.
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
        """What `step` and `back` use, prepared before the loop."""

    def step(
        self, given: tf.Tensor, states: Tensors, products: Any
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """`[B, G]` and states -> the next states, and what is kept, `[B, ...]`."""

    def factors(
        self, kept: Tensors, after: Tensors, before: Tensors
    ) -> list[tf.Tensor]:
        """What `back` needs of all steps, `[T, B, ...]`.

        Args:
          kept: of all steps.
          after: states after each step, `[T, B, H]` each.
          before: states before each step.
        """

    def back(
        self, factors: Tensors, gradients: Tensors, products: Any
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Gradients of the states -> those of `given` and of the states before."""

    def of_weights(
        self, gradients: tf.Tensor, kept: Tensors, before: Tensors, products: Any
    ) -> list[tf.Tensor]:
        """The gradients of the weights from those of `given`, `[T, B, G]`."""


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
class GruResetAfter:
    """Gates z, r, h, reset after the product (Keras' default).

    Weights: the kernel and, with a bias, the recurrent bias `[G]`.
    """

    activation: str
    recurrent_activation: str
    states = 1
    kept = 3
    gates = 3

    @property
    def name(self) -> str:
        return f"gru_after_{self.activation}_{self.recurrent_activation}"

    def products(
        self, weights: Tensors, dropped: Optional[tf.Tensor]
    ) -> tuple[Product, Tensors]:
        return Product(weights[0], dropped), weights[1:]

    def step(
        self, given: tf.Tensor, states: Tensors, products: tuple[Product, Tensors]
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        h = states[0]
        units = h.shape[-1]
        product, bias = products
        inner = product.of(h)
        if bias:
            inner += bias[0]
        gates = FUNCTIONS[self.recurrent_activation](
            given[:, : 2 * units] + inner[:, : 2 * units]
        )
        update, reset = gates[:, :units], gates[:, units:]
        inner = inner[:, 2 * units :]
        new = FUNCTIONS[self.activation](given[:, 2 * units :] + reset * inner)
        return [update * h + (1.0 - update) * new], [gates, new, inner]

    def factors(
        self, kept: Tensors, after: Tensors, before: Tensors
    ) -> list[tf.Tensor]:
        of_gate = DERIVATIVES[self.recurrent_activation]
        gates, new, inner = kept
        units = new.shape[-1]
        update, reset = gates[..., :units], gates[..., units:]
        return [
            (before[0] - new) * of_gate(update),
            (1.0 - update) * DERIVATIVES[self.activation](new),
            inner * of_gate(reset),
            update,
            reset,
        ]

    def back(
        self, factors: Tensors, gradients: Tensors, products: tuple[Product, Tensors]
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        of_update, of_new, of_reset, update, reset = factors
        dh = gradients[0]
        dnew = dh * of_new
        dz, dr = dh * of_update, dnew * of_reset
        through = products[0].back(tf.concat([dz, dr, dnew * reset], 1))
        return tf.concat([dz, dr, dnew], 1), [dh * update + through]

    def of_weights(
        self,
        gradients: tf.Tensor,
        kept: Tensors,
        before: Tensors,
        products: tuple[Product, Tensors],
    ) -> list[tf.Tensor]:
        units = before[0].shape[-1]
        reset = kept[0][..., units:]
        parts = [gradients[..., : 2 * units], gradients[..., 2 * units :] * reset]
        inner = tf.concat(parts, 2)
        product, bias = products
        biases = [tf.reduce_sum(inner, [0, 1])] if bias else []
        return [product.of_kernel(before[0], inner), *biases]


@dataclasses.dataclass(frozen=True)
class GruResetBefore:
    """Gates z, r, h, reset before the product (Cho et al. 2014, arXiv 1406.1078)."""

    activation: str
    recurrent_activation: str
    states = 1
    kept = 2
    gates = 3

    @property
    def name(self) -> str:
        return f"gru_before_{self.activation}_{self.recurrent_activation}"

    def products(
        self, weights: Tensors, dropped: Optional[tf.Tensor]
    ) -> tuple[Product, Product]:
        kernel = weights[0]
        units = kernel.shape[0]
        two, one = (None, None) if dropped is None else (dropped[:2], dropped[2:])
        return (
            Product(kernel[:, : 2 * units], two),
            Product(kernel[:, 2 * units :], one),
        )

    def step(
        self, given: tf.Tensor, states: Tensors, products: tuple[Product, Product]
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        h = states[0]
        units = h.shape[-1]
        gates = FUNCTIONS[self.recurrent_activation](
            given[:, : 2 * units] + products[0].of(h)
        )
        update, reset = gates[:, :units], gates[:, units:]
        new = FUNCTIONS[self.activation](
            given[:, 2 * units :] + products[1].of(reset * h)
        )
        return [update * h + (1.0 - update) * new], [gates, new]

    def factors(
        self, kept: Tensors, after: Tensors, before: Tensors
    ) -> list[tf.Tensor]:
        of_gate = DERIVATIVES[self.recurrent_activation]
        gates, new = kept
        units = new.shape[-1]
        update, reset = gates[..., :units], gates[..., units:]
        return [
            (before[0] - new) * of_gate(update),
            (1.0 - update) * DERIVATIVES[self.activation](new),
            before[0] * of_gate(reset),
            update,
            reset,
        ]

    def back(
        self, factors: Tensors, gradients: Tensors, products: tuple[Product, Product]
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        of_update, of_new, of_reset, update, reset = factors
        dh = gradients[0]
        dz, dnew = dh * of_update, dh * of_new
        inner = products[1].back(dnew)
        gates = tf.concat([dz, inner * of_reset], 1)
        before = dh * update + inner * reset + products[0].back(gates)
        return tf.concat([gates, dnew], 1), [before]

    def of_weights(
        self,
        gradients: tf.Tensor,
        kept: Tensors,
        before: Tensors,
        products: tuple[Product, Product],
    ) -> list[tf.Tensor]:
        h = before[0]
        units = h.shape[-1]
        gates = products[0].of_kernel(h, gradients[..., : 2 * units])
        reset = kept[0][..., units:]
        new = products[1].of_kernel(reset * h, gradients[..., 2 * units :])
        return [tf.concat([gates, new], 1)]


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
