"""FedJAX, as its README and its tutorial "Introduction to FedJAX" write it."""

import fedjax
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from compare import federated_task, recorder  # measured


def forward(batch):
    return hk.Sequential([hk.Linear(128), jax.nn.relu, hk.Linear(10)])(batch["x"])


model = fedjax.create_model_from_haiku(
    transformed_forward_pass=hk.transform(forward),
    sample_batch={"x": np.zeros((1, 784), np.float32), "y": np.zeros(1, np.int32)},
    train_loss=lambda batch, logits: fedjax.metrics.unreduced_cross_entropy_loss(
        batch["y"], logits
    ),
)


def loss(params, batch, rng):
    return jnp.mean(model.train_loss(batch, model.apply_for_train(params, batch, rng)))


algorithm = fedjax.algorithms.fed_avg.federated_averaging(
    grad_fn=jax.jit(jax.grad(loss)),
    client_optimizer=fedjax.optimizers.sgd(learning_rate=federated_task.RATE),
    server_optimizer=fedjax.optimizers.sgd(learning_rate=1.0),
    client_batch_hparams=fedjax.ShuffleRepeatBatchHParams(
        batch_size=federated_task.BATCH_SIZE, num_epochs=1, skip_shuffle=True
    ),
)
data = {}
for number in range(federated_task.NUM_CLIENTS):
    x, y = federated_task.client(number)
    data[b"%d" % number] = fedjax.ClientDataset({"x": x, "y": y})

kernel, bias, last_kernel, last_bias = map(jnp.asarray, federated_task.initial())
state = algorithm.init(
    {"linear": {"w": kernel, "b": bias}, "linear_1": {"w": last_kernel, "b": last_bias}}
)
done = 0
for number in range(done + 1, federated_task.rounds() + 1):
    keys = jax.random.split(jax.random.PRNGKey(number), len(data))
    clients = [(name, dataset, key) for (name, dataset), key in zip(data.items(), keys)]
    state, diagnostics = algorithm.apply(state, clients)
    params = state.params
    layers = params["linear"], params["linear_1"]  # measured
    recorder.round_done(  # measured
        number,
        [layer[name] for layer in layers for name in ("w", "b")],  # measured
    )  # measured
