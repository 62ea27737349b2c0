"""DP-SGD at the clients in JAX: per-example gradients by `vmap`, one client at a time.

As JAX' documentation of per-example gradients and JAX-Privacy do. A client's round is
one compiled program. Each step takes every example with the same probability; the
step's examples are padded to a fixed number, so that nothing is compiled anew.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from benchmark import protocol
from benchmark.images import IMAGES, NOISE_MULTIPLIER

# Rows are wide enough for a step's examples: mean 20, standard deviation 4.
_WIDTH = 48


def _drawn(generator: np.random.Generator, steps: int, share: float, count: int) -> Any:
    """Indices of each step's examples `[steps, _WIDTH]`, -1 for none."""
    order = np.full((steps, _WIDTH), -1, np.int32)
    for row in order:
        taken = np.flatnonzero(generator.random(count) < share)
        if len(taken) > _WIDTH:
            raise RuntimeError(f"a step of {len(taken)} examples; expected {_WIDTH}")
        row[: len(taken)] = taken
    return order


def main(workload: str) -> None:
    answers = protocol.take_stdout()
    import jax
    import jax.numpy as jnp

    from benchmark.peers import fedjax_worker

    images = IMAGES[workload]
    clip: Any = images.record_clip
    weights, loss = fedjax_worker.loss_of_images(images)
    clients = [
        (jnp.asarray(c["x"]), jnp.asarray(c["y"])) for c in images.clients().values()
    ]
    steps = images.examples // images.batch_size

    def of_example(params: Any, x: Any, y: Any, key: Any) -> Any:
        batch = {"x": x[None], "y": y[None]}
        gradient = jax.grad(loss)(params, batch, key)
        leaves = jax.tree_util.tree_leaves(gradient)
        norm = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in leaves))
        scale = jnp.minimum(1.0, clip / jnp.maximum(norm, 1e-12))
        return jax.tree_util.tree_map(lambda g: g * scale, gradient)

    @jax.jit
    def local(params: Any, x: Any, y: Any, order: Any, key: Any) -> Any:
        def step(held: Any, taken: Any) -> Any:
            params, key = held
            key, noise_key, drop_key = jax.random.split(key, 3)
            keys = jax.random.split(drop_key, _WIDTH)
            gradients = jax.vmap(of_example, (None, 0, 0, 0))(
                params, x[taken], y[taken], keys
            )
            real = taken >= 0
            leaves, structure = jax.tree_util.tree_flatten(gradients)
            noise_keys = jax.random.split(noise_key, len(leaves))
            noised = [
                jnp.tensordot(real.astype(g.dtype), g, 1)
                + NOISE_MULTIPLIER * clip * jax.random.normal(k, g.shape[1:])
                for g, k in zip(leaves, noise_keys)
            ]
            mean = jax.tree_util.tree_unflatten(structure, noised)
            params = jax.tree_util.tree_map(
                lambda p, g: p - images.client_rate * g / images.batch_size,
                params,
                mean,
            )
            return (params, key), None

        return jax.lax.scan(step, (params, key), order)[0][0]

    generator = np.random.default_rng(0)

    def arrays() -> list[np.ndarray]:
        return [np.asarray(w) for w in jax.tree_util.tree_leaves(weights)]

    for number in protocol.rounds(answers, weights=arrays):
        total = None
        for index, (x, y) in enumerate(clients):
            share = images.batch_size / images.examples
            order = _drawn(generator, steps, share, images.examples)
            key = jax.random.PRNGKey(1000 * number + index)
            trained = local(weights, x, y, order, key)
            total = (
                trained
                if total is None
                else jax.tree_util.tree_map(jnp.add, total, trained)
            )
        weights = jax.tree_util.tree_map(lambda t: t / len(clients), total)
        jax.block_until_ready(weights)


if __name__ == "__main__":
    main(*sys.argv[1:])
