"""FedJAX's federated averaging, on whichever of its two backends is faster.

`jit` runs a client after another; `pmap` a client on each core.
"""

from __future__ import annotations

import functools
import os
import sys
from typing import Any

from benchmark import protocol, specs
from benchmark.images import BATCH_SIZE, NOISE_MULTIPLIER, Images
from benchmark.large import Large
from benchmark.specs import Spec


def _model(images: Images) -> Any:
    import fedjax
    import haiku as hk
    import jax
    import numpy as np

    if images.model == "cnn":
        return fedjax.models.emnist.create_conv_model(only_digits=False)

    def forward(batch: Any) -> Any:
        layers = [hk.Linear(128), jax.nn.relu, hk.Linear(images.num_classes)]
        return hk.Sequential(layers)(batch["x"])

    return fedjax.create_model_from_haiku(
        transformed_forward_pass=hk.transform(forward),
        sample_batch={
            "x": np.zeros((1, *images.shape), np.float32),
            "y": np.zeros(1, np.int32),
        },
        train_loss=lambda batch, logits: fedjax.metrics.unreduced_cross_entropy_loss(
            batch["y"], logits
        ),
    )


def _with_noise(
    images: Images,
    clip: float,
    gradient: Any,
    client_optimizer: Any,
    server_optimizer: Any,
) -> Any:
    """Federated averaging with clipped deltas and Gaussian noise.

    FedJAX has none of its own; it is written as its guide to new algorithms does.
    """
    import fedjax
    import jax
    from fedjax.core import tree_util

    deviation = NOISE_MULTIPLIER * clip

    def client_init(params: Any, key: Any) -> Any:
        return {"params": params, "state": client_optimizer.init(params), "key": key}

    def client_step(step: Any, batch: Any) -> Any:
        key, used = jax.random.split(step["key"])
        gradients = gradient(step["params"], batch, used)
        state, params = client_optimizer.apply(gradients, step["state"], step["params"])
        return {"params": params, "state": state, "key": key}

    def client_final(params: Any, step: Any) -> Any:
        delta = jax.tree_util.tree_map(lambda a, b: a - b, params, step["params"])
        return tree_util.tree_clip_by_global_norm(delta, clip)

    train = fedjax.for_each_client(client_init, client_step, client_final)
    hparams = fedjax.ShuffleRepeatBatchHParams(batch_size=BATCH_SIZE, num_epochs=1)

    @jax.jit
    def noised_mean(total: Any, key: Any) -> Any:
        leaves, structure = jax.tree_util.tree_flatten(total)
        keys = jax.random.split(key, len(leaves))
        noised = [
            (leaf + deviation * jax.random.normal(k, leaf.shape)) / images.num_clients
            for leaf, k in zip(leaves, keys)
        ]
        return jax.tree_util.tree_unflatten(structure, noised)

    def init(params: Any) -> Any:
        return fedjax.algorithms.fed_avg.ServerState(
            params, server_optimizer.init(params)
        )

    def apply(state: Any, clients: Any) -> Any:
        batches = [
            (client, dataset.shuffle_repeat_batch(hparams), key)
            for client, dataset, key in clients
        ]
        total = tree_util.tree_zeros_like(state.params)
        for _, delta in train(state.params, batches):
            total = tree_util.tree_add(total, delta)
        mean = noised_mean(total, clients[0][2])
        optimizer_state, params = server_optimizer.apply(
            mean, state.opt_state, state.params
        )
        return fedjax.algorithms.fed_avg.ServerState(params, optimizer_state), {}

    return fedjax.FederatedAlgorithm(init, apply)


def _loss_of_large(spec: Large) -> tuple[list[Any], Any]:
    """Initial weights, and the mean loss of a batch."""
    import jax.numpy as jnp

    from benchmark.peers import jax_large

    def loss(weights: Any, batch: Any, key: Any) -> Any:
        del key
        return jnp.mean(jax_large.losses(spec, weights, batch["x"], batch["y"]))

    return [jnp.asarray(w) for w in spec.initial_weights()], loss


def loss_of_images(images: Images) -> tuple[Any, Any]:
    """Initial weights, and the mean loss of a batch."""
    import jax
    import jax.numpy as jnp

    model = _model(images)

    def loss(params: Any, batch: Any, key: Any) -> Any:
        logits = model.apply_for_train(params, batch, key)
        return jnp.mean(model.train_loss(batch, logits))

    # Haiku's names sort in the order of the layers.
    names = sorted(model.init(jax.random.PRNGKey(0)))
    weights = {
        name: {"w": jnp.asarray(kernel), "b": jnp.asarray(bias)}
        for name, (kernel, bias) in zip(names, images.initial_weights())
    }
    return weights, loss


def main(workload: str) -> None:
    answers = protocol.take_stdout()
    cores = len(os.sched_getaffinity(0))
    # pmap takes a device for each core, and drops their axis as FedJAX expects.
    flag = f"--xla_force_host_platform_device_count={cores}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
    os.environ["JAX_PMAP_NO_RANK_REDUCTION"] = "0"
    import fedjax
    import jax
    import numpy as np

    images: Spec = specs.get(workload)
    initial, loss = (
        _loss_of_large(images) if isinstance(images, Large) else loss_of_images(images)
    )
    clients = [
        (client.encode(), fedjax.ClientDataset(examples))
        for client, examples in images.clients().items()
    ]

    gradient = jax.jit(jax.grad(loss))

    def algorithm(backend: str) -> Any:
        optimizers = (
            fedjax.optimizers.sgd(images.client_rate),
            fedjax.optimizers.sgd(1.0),
        )
        with fedjax.for_each_client_backend(backend):
            if isinstance(images, Images) and images.clip is not None:
                return _with_noise(images, images.clip, gradient, *optimizers)
            return fedjax.algorithms.fed_avg.federated_averaging(
                gradient,
                *optimizers,
                fedjax.ShuffleRepeatBatchHParams(
                    batch_size=images.batch_size, num_epochs=1
                ),
            )

    algorithms = [algorithm("jit")] + [algorithm("pmap")] * (cores > 1)
    chosen = algorithms[0]

    def choose(which: Any) -> None:
        nonlocal chosen
        chosen = which

    state = chosen.init(initial)

    def weights() -> list[np.ndarray]:
        return [np.asarray(leaf) for leaf in jax.tree_util.tree_leaves(state.params)]

    settings = [functools.partial(choose, which) for which in algorithms]
    for number in protocol.rounds(answers, settings, weights):
        keys = jax.random.split(jax.random.PRNGKey(number), len(clients))
        state, _ = chosen.apply(
            state, [(client, data, key) for (client, data), key in zip(clients, keys)]
        )
        jax.block_until_ready(state.params)


if __name__ == "__main__":
    main(*sys.argv[1:])
