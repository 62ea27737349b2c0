"""The `emnist` task: handwritten characters by writer, through TFF's loader."""

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
from tfl_research.tasks.pooled import held_out_share
from tfl_research.tasks.task import Card, Task

_CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PARTITIONS = (partition_options.NATURAL, *partition_options.PARAMETERS)


def _convert(columns: Mapping[str, np.ndarray]) -> Examples:
    """Returns x float32 `[n, 28, 28, 1]`, with background 1, and y int32 `[n]`."""
    return {
        "x": columns["pixels"][..., np.newaxis].astype(np.float32),
        "y": columns["label"].astype(np.int32),
    }


def build(
    *,
    seed: int = 0,
    only_digits: bool = False,
    synthetic: bool = False,
    cache_dir: str | None = None,
    held_out_fraction: float = 0.1,
    partition: str = "natural",
    dirichlet_alpha: float = 0.5,
    shards_per_client: int = 2,
    quantity_alpha: float = 0.5,
    rotation_degrees: float = 45.0,
    noise_level: float = 0.5,
    num_concepts: int = 4,
    num_clients: int | None = None,
) -> Task:
    """Builds handwritten characters of 3,400 writers (3,383 writers for digits only).

    Every partition but "natural" can make simulated clients. A tenth of a simulated
    client's images is its test split, as for writers.

    Args:
      seed: decides the held-out clients, the partition, and the splits of clients
        without a given split.
      only_digits: the 10 digits instead of 62 characters.
      synthetic: whether to use TFF's two hard-coded clients of ten digits each. This
        needs no download.
      cache_dir: folder of emnist_all.sqlite, by default `~/.tff`; a missing file is
        downloaded into this folder.
      held_out_fraction: share of the clients that are never trained on.
      partition: "natural" keeps the writers; "rotation", "noise" and "concept_shift"
        are applied to the writers, unless `num_clients` is given; every other partition
        (see the task mnist) pools the images in memory and divides them among simulated
        clients.
      dirichlet_alpha: concentration of "dirichlet".
      shards_per_client: the number of shards of each client under "shards".
      quantity_alpha: concentration of "quantity".
      rotation_degrees: the largest angle of "rotation".
      noise_level: the largest standard deviation of "noise"; pixels are in [0, 1].
      num_concepts: groups of clients of "concept_shift".
      num_clients: number of simulated clients, including held-out clients; by default
        the number of writers.

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
    characters = _CHARACTERS[:10] if only_digits else _CHARACTERS

    def skewed(clients: ClientData, part: str = "") -> ClientData:
        return options.skewed(
            clients,
            num_classes=len(characters),
            seed=seed,
            background=1.0,
            image_shape=(28, 28),
            part=part,
        )

    datasets = downloads.simulation_datasets()
    if synthetic:
        loaded = [tff_adapter.from_tff(datasets.emnist.get_synthetic(), _convert)]
    else:
        loaded = [
            tff_adapter.from_tff(part, _convert)
            for part in downloads.loaded(
                "emnist",
                downloads.database_folder(cache_dir) / "emnist_all.sqlite",
                lambda: datasets.emnist.load_data(only_digits, cache_dir),
            )
        ]
    if synthetic or splits_anew:
        everyone = loaded[0]
        if splits_anew:
            everyone = options.clients(
                *partition_options.pooled(loaded),
                num_clients or len(everyone),
                derived_generator("emnist", seed, partition),
            )
        train, test = client_splits.split_each_client(
            skewed(everyone),
            test_fraction=0.2 if synthetic else 0.1,
            seed=seed,
            unchanged=everyone,
        )
    else:
        train = skewed(loaded[0], "train")
        # The order is the same, so that a writer's test images have the same skew.
        test = skewed(loaded[1].subset(train.client_ids), "test")
    training_ids, held_out_ids = hold_out.clients(
        train.client_ids,
        count=hold_out.nearest_count(len(train), held_out_fraction),
        seed=seed,
    )

    def build_model() -> Any:
        from tfl_research.models.architectures import image_models

        return image_models.emnist_cnn(len(characters))

    def build_objective() -> Any:
        from tfl_research.tasks import objectives

        return objectives.multiclass()

    card = Card(
        title="Federated EMNIST"
        + (", TFF's synthetic sample" if synthetic else "")
        + options.title(),
        client_unit="simulated client" if splits_anew else "writer",
        target=f"the character, {len(characters)} classes: the standard benchmark of "
        "images with natural clients",
        source="tff.simulation.datasets.emnist: NIST Special Database 19 by writer "
        "(Cohen et al. 2017, arXiv 1702.05373; LEAF, Caldas et al. 2018, "
        "arXiv 1812.01097)",
        licence="none stated with the download; NIST Special Database 19 is a work of "
        "the US government, and LEAF, which split it by writer, is BSD 2-Clause",
        label_names=tuple(characters),
        public_data=True,
        public_knowledge=("the range of pixels and the characters",),
    )
    return Task(
        name="emnist",
        card=card,
        train=train.subset(training_ids),
        test=test.subset(training_ids),
        held_out=tff_adapter.union([train, test], held_out_ids)
        if held_out_ids
        else None,
        build_model=build_model,
        build_objective=build_objective,
        pooled=(
            *pooled_by_partition(options, pools=splits_anew),
            *held_out_share(len(held_out_ids)),
        ),
    )
