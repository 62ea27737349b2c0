"""The larger models in JAX, as functions of the list of weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from benchmark.large import Large, blocks

_GROUPS = 2


def logits(spec: Large, weights: list[Any], x: Any) -> Any:
    """Logits `[batch, ..., classes]`."""
    model = {"lstm": _lstm, "transformer": _transformer, "resnet": _resnet}
    return model[spec.model](spec, iter(weights), x)


def losses(spec: Large, weights: list[Any], x: Any, y: Any) -> Any:
    """Each example's mean cross-entropy `[batch]`."""
    log = jax.nn.log_softmax(logits(spec, weights, x))
    each = -jnp.take_along_axis(log, y[..., None], -1)[..., 0]
    return each.reshape(len(y), -1).mean(1)


def _lstm(spec: Large, weights: Iterator[Any], x: Any) -> Any:
    x = next(weights)[x]
    for _ in range(spec.layers):
        x = _lstm_layer(x, next(weights), next(weights), next(weights))
    if not spec.every_step:
        x = x[:, -1]
    if spec.projection:
        x = x @ next(weights) + next(weights)
    return x @ next(weights) + next(weights)


def _lstm_layer(x: Any, kernel: Any, recurrent: Any, bias: Any) -> Any:
    given = jnp.swapaxes(x @ kernel + bias, 0, 1)
    start = jnp.zeros((x.shape[0], recurrent.shape[0]))

    def step(carried: Any, one: Any) -> Any:
        h, c = carried
        i, f, g, o = jnp.split(one + h @ recurrent, 4, 1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    _, after = jax.lax.scan(step, (start, start), given)
    return jnp.swapaxes(after, 0, 1)


def _layer_norm(x: Any, scale: Any, shift: Any) -> Any:
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * scale + shift


def _transformer(spec: Large, weights: Iterator[Any], x: Any) -> Any:
    def linear(x: Any) -> Any:
        return x @ next(weights) + next(weights)

    def norm(x: Any) -> Any:
        return _layer_norm(x, next(weights), next(weights))

    x = next(weights)[x] + next(weights)
    causal = jnp.tril(jnp.ones((spec.length, spec.length), bool))
    for _ in range(spec.layers):
        normed = norm(x)
        shape = (*x.shape[:2], spec.heads, -1)
        query, key, value = (linear(normed).reshape(shape) for _ in range(3))
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key)
        scores /= jnp.sqrt(spec.width // spec.heads)
        shares = jax.nn.softmax(jnp.where(causal, scores, -1e9))
        mixed = jnp.einsum("bhqk,bkhd->bqhd", shares, value).reshape(x.shape)
        x = x + linear(mixed)
        x = x + linear(jax.nn.relu(linear(norm(x))))
    return linear(norm(x))


def _convolved(x: Any, kernel: Any, stride: int = 1) -> Any:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _group_norm(x: Any, scale: Any, shift: Any) -> Any:
    grouped = x.reshape(*x.shape[:3], _GROUPS, -1)
    mean = grouped.mean((1, 2, 4), keepdims=True)
    variance = ((grouped - mean) ** 2).mean((1, 2, 4), keepdims=True)
    normed = ((grouped - mean) * jax.lax.rsqrt(variance + 1e-3)).reshape(x.shape)
    return normed * scale + shift


def _resnet(spec: Large, weights: Iterator[Any], x: Any) -> Any:
    def normed(x: Any) -> Any:
        return _group_norm(x, next(weights), next(weights))

    x = jax.nn.relu(normed(_convolved(x, next(weights))))
    for block in blocks(spec):
        inner = jax.nn.relu(normed(_convolved(x, next(weights), block.stride)))
        inner = _convolved(inner, next(weights))
        if block.projects:
            skip = _convolved(x, next(weights), block.stride)
            x = jax.nn.relu(normed(inner) + normed(skip))
        else:
            x = jax.nn.relu(normed(inner) + x)
    return x.mean((1, 2)) @ next(weights) + next(weights)
