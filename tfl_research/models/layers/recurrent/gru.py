"""One time step of GRU, forwards and backwards; see `cells`."""

from __future__ import annotations

import dataclasses
from typing import Optional

import tensorflow as tf

from tfl_research.models.layers.recurrent import cells
from tfl_research.models.layers.recurrent.products import Product


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
        self, weights: cells.Tensors, dropped: Optional[tf.Tensor]
    ) -> tuple[Product, cells.Tensors]:
        return Product(weights[0], dropped), weights[1:]

    def step(
        self,
        given: tf.Tensor,
        states: cells.Tensors,
        products: tuple[Product, cells.Tensors],
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        h = states[0]
        units = h.shape[-1]
        product, bias = products
        inner = product.of(h)
        if bias:
            inner += bias[0]
        gates = cells.FUNCTIONS[self.recurrent_activation](
            given[:, : 2 * units] + inner[:, : 2 * units]
        )
        update, reset = gates[:, :units], gates[:, units:]
        inner = inner[:, 2 * units :]
        new = cells.FUNCTIONS[self.activation](given[:, 2 * units :] + reset * inner)
        return [update * h + (1.0 - update) * new], [gates, new, inner]

    def factors(
        self, kept: cells.Tensors, after: cells.Tensors, before: cells.Tensors
    ) -> list[tf.Tensor]:
        of_gate = cells.DERIVATIVES[self.recurrent_activation]
        gates, new, inner = kept
        units = new.shape[-1]
        update, reset = gates[..., :units], gates[..., units:]
        return [
            (before[0] - new) * of_gate(update),
            (1.0 - update) * cells.DERIVATIVES[self.activation](new),
            inner * of_gate(reset),
            update,
            reset,
        ]

    def back(
        self,
        factors: cells.Tensors,
        gradients: cells.Tensors,
        products: tuple[Product, cells.Tensors],
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
        kept: cells.Tensors,
        before: cells.Tensors,
        products: tuple[Product, cells.Tensors],
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
        self, weights: cells.Tensors, dropped: Optional[tf.Tensor]
    ) -> tuple[Product, Product]:
        kernel = weights[0]
        units = kernel.shape[0]
        two, one = (None, None) if dropped is None else (dropped[:2], dropped[2:])
        return (
            Product(kernel[:, : 2 * units], two),
            Product(kernel[:, 2 * units :], one),
        )

    def step(
        self, given: tf.Tensor, states: cells.Tensors, products: tuple[Product, Product]
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        h = states[0]
        units = h.shape[-1]
        gates = cells.FUNCTIONS[self.recurrent_activation](
            given[:, : 2 * units] + products[0].of(h)
        )
        update, reset = gates[:, :units], gates[:, units:]
        new = cells.FUNCTIONS[self.activation](
            given[:, 2 * units :] + products[1].of(reset * h)
        )
        return [update * h + (1.0 - update) * new], [gates, new]

    def factors(
        self, kept: cells.Tensors, after: cells.Tensors, before: cells.Tensors
    ) -> list[tf.Tensor]:
        of_gate = cells.DERIVATIVES[self.recurrent_activation]
        gates, new = kept
        units = new.shape[-1]
        update, reset = gates[..., :units], gates[..., units:]
        return [
            (before[0] - new) * of_gate(update),
            (1.0 - update) * cells.DERIVATIVES[self.activation](new),
            before[0] * of_gate(reset),
            update,
            reset,
        ]

    def back(
        self,
        factors: cells.Tensors,
        gradients: cells.Tensors,
        products: tuple[Product, Product],
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
        kept: cells.Tensors,
        before: cells.Tensors,
        products: tuple[Product, Product],
    ) -> list[tf.Tensor]:
        h = before[0]
        units = h.shape[-1]
        gates = products[0].of_kernel(h, gradients[..., : 2 * units])
        reset = kept[0][..., units:]
        new = products[1].of_kernel(reset * h, gradients[..., 2 * units :])
        return [tf.concat([gates, new], 1)]
