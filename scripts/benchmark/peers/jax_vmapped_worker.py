"""DP-SGD at the clients in JAX: per-example gradients by `vmap`, one client at a time.

As JAX' documentation of per-example gradients and JAX-Privacy do. A local step is one
compiled program: in a program with a loop over the steps (`lax.scan`), XLA's
convolutions took six times as long on CPUs. Each step takes every example with the
same probability; its examples are padded to one of a few numbers, so that nothing is
compiled anew.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from benchmark import protocol
from benchmark.images import IMAGES, NOISE_MULTIPLIER

# A step has 20 examples in the mean, with a standard deviation of 4. It takes the
# narrowest of these.
_WIDTHS = (24, 32, 48)


def _padded(taken: np.ndarray) -> np.ndarray:
    """Indices of a step's examples `[width]`, -1 for none."""
    for width in _WIDTHS:
        if len(taken) <= width:
            row = np.full(width, -1, np.int32)
            row[: len(taken)] = taken
            return row
    raise RuntimeError(f"a step of {len(taken)} examples; expected {_WIDTHS[-1]}")


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
    def step(params: Any, x: Any, y: Any, taken: Any, key: Any) -> Any:
        noise_key, drop_key = jax.random.split(key)
        keys = jax.random.split(drop_key, len(taken))
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
        return jax.tree_util.tree_map(
            lambda p, g: p - images.client_rate * g / images.batch_size, params, mean
        )

    generator = np.random.default_rng(0)

    def arrays() -> list[np.ndarray]:
        return [np.asarray(w) for w in jax.tree_util.tree_leaves(weights)]

    share = images.batch_size / images.examples
    for number in protocol.rounds(answers, weights=arrays):
        if number == 0:
            for width in _WIDTHS:
                none = np.full(width, -1, np.int32)
                step(weights, *clients[0], none, jax.random.PRNGKey(0))
        total = None
        for index, (x, y) in enumerate(clients):
            trained = weights
            for key in jax.random.split(
                jax.random.PRNGKey(1000 * number + index), steps
            ):
                taken = np.flatnonzero(generator.random(images.examples) < share)
                trained = step(trained, x, y, _padded(taken), key)
            total = (
                trained
                if total is None
                else jax.tree_util.tree_map(jnp.add, total, trained)
            )
        weights = jax.tree_util.tree_map(lambda t: t / len(clients), total)
        jax.block_until_ready(weights)


if __name__ == "__main__":
    main(*sys.argv[1:])
