"""Partitions by name, with their parameters: the options of tasks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np

from tfl_research.data.client_data import ClientData
from tfl_research.data.cohort import ArraySpec, Examples
from tfl_research.data.partitions import assignment, client_skews

# The only option that each partition reads.
PARAMETERS = {
    "iid": None,
    "dirichlet": "dirichlet_alpha",
    "shards": "shards_per_client",
    "quantity": "quantity_alpha",
    "rotation": "rotation_degrees",
    "noise": "noise_level",
    "concept_shift": "num_concepts",
}
# Keeps the clients that the data come with.
NATURAL = "natural"
# Partitions that change clients' examples, but not their assignment: they also work
# on natural clients.
SKEWS = ("rotation", "noise", "concept_shift")


def reader_of(option: str, chosen: str) -> str | None:
    """Returns the partition that reads the option, or None if it is the chosen one."""
    for name, parameter in PARAMETERS.items():
        if parameter == option and name != chosen:
            return name
    return None


def check_read(options: Iterable[str], chosen: str) -> None:
    """Raises ValueError for an option that the chosen partition does not read."""
    for option in options:
        reader = reader_of(option, chosen)
        if reader is not None:
            raise ValueError(
                f"{option} has an effect only with partition={reader}, got "
                f"partition={chosen}"
            )


@dataclasses.dataclass(frozen=True)
class PartitionOptions:
    """A partition; parameters of other partitions are checked, but not used.

    Attributes:
      partition: a key of `PARAMETERS`, or "natural".
      dirichlet_alpha: see `assignment.dirichlet`.
      shards_per_client: see `assignment.shards`.
      quantity_alpha: see `assignment.quantity`.
      rotation_degrees: see `client_skews.rotation`.
      noise_level: see `client_skews.noise`.
      num_concepts: see `client_skews.concept_shift`.
    """

    partition: str
    dirichlet_alpha: float = 0.5
    shards_per_client: int = 2
    quantity_alpha: float = 0.5
    rotation_degrees: float = 45.0
    noise_level: float = 0.5
    num_concepts: int = 4

    def __post_init__(self) -> None:
        for name in ("dirichlet_alpha", "quantity_alpha", "noise_level"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be above 0 and finite, got {value}")
        for name in ("shards_per_client", "num_concepts"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 <= self.rotation_degrees <= 180:
            raise ValueError(
                f"rotation_degrees must be from 0 to 180, got {self.rotation_degrees}"
            )

    def check_known(self, names: tuple[str, ...]) -> None:
        """Raises ValueError unless the partition is one of `names`."""
        if self.partition not in names:
            raise ValueError(
                f"partition must be one of {', '.join(names)}, got {self.partition!r}"
            )

    def title(self) -> str:
        """Returns the end of a task's title: the partition and its option."""
        if self.partition == NATURAL:
            return ""
        option = PARAMETERS[self.partition]
        value = f", {option}={getattr(self, option)}" if option else ""
        return f", {self.partition} partition{value}"

    def pools(self, num_clients: int | None) -> bool:
        """Whether the examples of natural clients are pooled and split again.

        Args:
          num_clients: requested number of clients, or None.

        Raises:
          ValueError: the partition is natural, and a number of clients is given.
        """
        if self.partition == NATURAL and num_clients is not None:
            raise ValueError(
                f"num_clients={num_clients} needs a partition other than {NATURAL}"
            )
        if num_clients is not None and num_clients < 1:
            raise ValueError(f"num_clients must be at least 1, got {num_clients}")
        return self.partition not in (NATURAL, *SKEWS) or num_clients is not None

    def clients(
        self,
        x: np.ndarray,
        y: np.ndarray,
        num_clients: int,
        generator: np.random.Generator,
        prefix: str = "client_",
    ) -> ClientData:
        """Makes simulated clients, `client_0000` and so on; see `indices`.

        Args:
          x: features of all examples, `[n, ...]`.
          y: labels of all examples, `[n]`.
          num_clients: between 1 and n.
          generator: the generator of the partition.
          prefix: the prefix of the clients' ids.
        """
        parts = self.indices(y, num_clients, generator)
        rows_of = {f"{prefix}{number:04d}": part for number, part in enumerate(parts)}

        def load(client_id: str) -> Examples:
            return {"x": x[rows_of[client_id]], "y": y[rows_of[client_id]]}

        specs = {n: ArraySpec(a.shape[1:], a.dtype) for n, a in (("x", x), ("y", y))}
        return ClientData(tuple(rows_of), load, specs)

    def indices(
        self, labels: np.ndarray, num_clients: int, generator: np.random.Generator
    ) -> list[np.ndarray]:
        """Assigns examples to clients: ascending int64 indices for each client.

        With skews of features or concepts, labels and sizes are IID.

        Raises:
          ValueError: there are more clients (or shards) than examples, or no clients.
        """
        if self.partition == "dirichlet":
            return assignment.dirichlet(
                labels, num_clients, generator, alpha=self.dirichlet_alpha
            )
        if self.partition == "shards":
            return assignment.shards(
                labels, num_clients, generator, shards_per_client=self.shards_per_client
            )
        if self.partition == "quantity":
            return assignment.quantity(
                labels, num_clients, generator, alpha=self.quantity_alpha
            )
        return assignment.iid(labels, num_clients, generator)

    def skewed(
        self,
        data: ClientData,
        *,
        num_classes: int,
        seed: int,
        background: float,
        image_shape: tuple[int, ...] | None = None,
        part: str = "",
    ) -> ClientData:
        """Returns the clients with this partition's skew of features or concepts.

        Args:
          data: all clients, also the clients to hold out.
          num_classes: labels are 0 to `num_classes - 1`.
          seed: the seed of noise and concepts.
          background: the background of rotated images.
          image_shape: the shape of rotated images, if x has flattened images.
          part: name of a part of the clients' data (training or test set).

        Raises:
          ValueError: there are more concepts than classes, or features are no images.
        """
        if self.partition == "rotation":
            return client_skews.rotation(
                data,
                self.rotation_degrees,
                background=background,
                image_shape=image_shape,
            )
        if self.partition == "noise":
            return client_skews.noise(data, self.noise_level, seed=seed, part=part)
        if self.partition == "concept_shift":
            return client_skews.concept_shift(
                data, self.num_concepts, num_classes=num_classes, seed=seed
            )
        return data


def pooled(parts: Sequence[ClientData]) -> tuple[np.ndarray, np.ndarray]:
    """Loads all examples of all clients: x `[n, ...]` and y `[n]`.

    Raises:
      ValueError: no client has an example.
    """
    by_client = [examples for part in parts for _, examples in part.items()]
    if not sum(len(examples["y"]) for examples in by_client):
        raise ValueError("no client has an example, so nothing can be split")
    return (
        np.concatenate([examples["x"] for examples in by_client]),
        np.concatenate([examples["y"] for examples in by_client]),
    )
