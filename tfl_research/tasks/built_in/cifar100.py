"""The `cifar100` task: small photographs, partitioned by class, through TFF."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfl_research.data import (
    ClientData,
    Examples,
    PartitionOptions,
    client_splits,
    derived_generator,
    hold_out,
    tff_adapter,
)
from tfl_research.data.partitions import partition_options
from tfl_research.tasks.built_in import downloads
from tfl_research.tasks.built_in.simulated_clients import pooled_by_partition
from tfl_research.tasks.task import Card, Task

_PARTITIONS = (partition_options.NATURAL, *partition_options.PARAMETERS)


def _convert(columns: Mapping[str, np.ndarray]) -> Examples:
    """Returns x float32 `[n, 32, 32, 3]`, bytes mapped to [-1, 1]; y int32 `[n]`."""
    return {
        "x": columns["image"].astype(np.float32) / np.float32(127.5) - np.float32(1),
        "y": columns["label"].astype(np.int32),
    }


def build(
    *,
    seed: int = 0,
    synthetic: bool = False,
    cache_dir: str | None = None,
    test_fraction: float = 0.1,
    blocks_per_stage: int = 1,
    partition: str = "natural",
    dirichlet_alpha: float = 0.5,
    shards_per_client: int = 2,
    quantity_alpha: float = 0.5,
    rotation_degrees: float = 45.0,
    noise_level: float = 0.5,
    num_concepts: int = 4,
    num_clients: int | None = None,
) -> Task:
    """Builds CIFAR-100 in 500 clients of 100 images, drawn by Pachinko allocation.

    TFF's 100 clients of the test set are the held-out clients. TFF has no test images
    for training clients, so a share of their images becomes their test split. With
    `test_fraction=0`, training uses all images, as in the literature, and the test
    splits are empty.

    Args:
      seed: decides the partition and the splits.
      synthetic: whether to use TFF's two hard-coded clients of five images each, with
        one client held out. This needs no download.
      cache_dir: folder of cifar100.sqlite, by default `~/.tff`; a missing file is
        downloaded into this folder.
      test_fraction: share of each training client's images in its test split.
      blocks_per_stage: residual blocks in each of the model's three stages.
      partition: "natural" keeps TFF's clients; "rotation", "noise" and "concept_shift"
        are applied to these clients, unless `num_clients` is given; every other
        partition (see the task mnist) pools the images in memory and divides them among
        simulated clients.
      dirichlet_alpha: concentration of "dirichlet".
      shards_per_client: the number of shards of each client under "shards".
      quantity_alpha: concentration of "quantity".
      rotation_degrees: the largest angle of "rotation".
      noise_level: the largest standard deviation of "noise"; pixels are in [-1, 1].
      num_concepts: groups of clients of "concept_shift".
      num_clients: number of simulated clients to train on; by default the number of
        TFF's clients. The images of held-out clients are divided among held-out clients
        in the same way.

    Raises:
      ValueError: the data cannot be downloaded or read, or an option is out of range.
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
    splits_anew = options.pools(num_clients)
    hold_out.check_fraction("test_fraction", test_fraction)
    if blocks_per_stage < 1:
        raise ValueError(f"blocks_per_stage must be at least 1, got {blocks_per_stage}")
    datasets = downloads.simulation_datasets()
    if synthetic:
        everyone = tff_adapter.from_tff(datasets.cifar100.get_synthetic(), _convert)
        ids = hold_out.clients(everyone.client_ids, count=1, seed=seed)
        trained, held_out = (everyone.subset(part) for part in ids)
    else:
        trained, held_out = (
            tff_adapter.from_tff(part, _convert)
            for part in downloads.loaded(
                "cifar100",
                downloads.database_folder(cache_dir) / "cifar100.sqlite",
                lambda: datasets.cifar100.load_data(cache_dir),
            )
        )
        # Both parts number their clients from 0.
        held_out = tff_adapter.renamed(held_out, "test_")

    def partitioned(clients: ClientData, prefix: str, wanted: int | None) -> ClientData:
        if not splits_anew:
            return clients
        return options.clients(
            *partition_options.pooled([clients]),
            wanted or len(clients),
            derived_generator("cifar100", seed, partition, prefix),
            prefix,
        )

    def skewed(clients: ClientData, prefix: str) -> ClientData:
        # Mid grey fills the corners of rotated photographs.
        return options.skewed(
            clients, num_classes=100, seed=seed, background=0.0, part=prefix
        )

    trained = partitioned(trained, "client_", num_clients)
    held_out = skewed(partitioned(held_out, "test_", None), "test_")
    train, test = client_splits.split_each_client(
        skewed(trained, "client_"),
        test_fraction=test_fraction,
        seed=seed,
        unchanged=trained,
    )

    def build_model() -> Any:
        from tfl_research.models.architectures import image_models

        return image_models.group_norm_resnet(100, blocks_per_stage)

    def build_objective() -> Any:
        from tfl_research.tasks import objectives

        return objectives.multiclass()

    card = Card(
        title="CIFAR-100"
        + (", TFF's synthetic sample" if synthetic else "")
        + options.title(),
        client_unit="simulated client"
        if splits_anew
        else "simulated client (Pachinko allocation over coarse classes, "
        "Reddi et al. 2020, arXiv 2003.00295)",
        target="the object shown, 100 classes: the standard benchmark of label skew",
        source="tff.simulation.datasets.cifar100: CIFAR-100 (Krizhevsky 2009)",
        licence="none stated by the publisher; cite Krizhevsky 2009",
        public_data=True,
        public_knowledge=("the range of pixels and the hundred classes",),
    )
    return Task(
        name="cifar100",
        card=card,
        train=train,
        test=test,
        held_out=held_out,
        build_model=build_model,
        build_objective=build_objective,
        # TFF's clients are draws from pooled images too.
        pooled=pooled_by_partition(options, pools=True),
    )
