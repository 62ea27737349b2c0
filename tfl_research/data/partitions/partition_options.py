"""Partitions by name with their parameters, as a task's options spell them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np

from tfl_research.data.client_data import ClientData
from tfl_research.data.cohort import ArraySpec, Examples
from tfl_research.data.partitions import assignment, client_skews

# The option that each partition reads; others are not read by it.
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
# Partitions that change clients' examples and not who holds which: they can also be
# laid over natural clients.
SKEWS = ("rotation", "noise", "concept_shift")


def reader_of(option: str, chosen: str) -> str | None:
    """The partition that reads the option, where it is not the chosen one."""
    for name, parameter in PARAMETERS.items():
        if parameter == option and name != chosen:
            return name
    return None


def check_read(given: Iterable[str], chosen: str) -> None:
    """Raises ValueError where an option was given that the partition does not read."""
    for option in given:
        reader = reader_of(option, chosen)
        if reader is not None:
            raise ValueError(
                f"{option} is an option of partition={reader} and of no effect with "
                f"partition={chosen}"
            )


@dataclasses.dataclass(frozen=True)
class PartitionOptions:
    """One partition; parameters of the others are checked and not used.

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

    def check_known(self, known: tuple[str, ...]) -> None:
        """Raises ValueError unless the partition is one of `known`."""
        if self.partition not in known:
            raise ValueError(
                f"partition must be one of {', '.join(known)}, got {self.partition!r}"
            )

    def title(self) -> str:
        """What a task's title ends in: the partition and the option that it reads."""
        if self.partition == NATURAL:
            return ""
        option = PARAMETERS[self.partition]
        value = f", {option}={getattr(self, option)}" if option else ""
        return f", {self.partition} partition{value}"

    def pools(self, num_clients: int | None) -> bool:
        """Whether data with clients of their own are pooled and split anew.

        Args:
          num_clients: how many clients were asked for, or None.

        Raises:
          ValueError: a number of clients was asked for, and natural ones.
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
        """Simulated clients, `client_0000` and so on; see `indices`.

        Args:
          x: features of all examples, `[n, ...]`.
          y: their labels, `[n]`.
          num_clients: between 1 and n.
          generator: of the partition.
          prefix: of the clients' ids.
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
        """Who holds which examples: ascending int64 indices for each client.

        Skews of features and concepts leave labels and sizes IID.

        Raises:
          ValueError: more clients (or shards) than examples, or no clients.
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
        """The clients with this partition's skew of features or concepts, if any.

        Args:
          data: all clients, those to be held out among them.
          num_classes: labels are 0 to `num_classes - 1`.
          seed: of noise and concepts.
          background: of rotated images.
          image_shape: of rotated images, where x holds them flattened.
          part: tells apart data of the same clients (training and test sets).

        Raises:
          ValueError: more concepts than classes, or features that are no images.
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
    """All examples of all clients, in memory: x `[n, ...]` and y `[n]`.

    Raises:
      ValueError: no client has an example.
    """
    everybody = [examples for part in parts for _, examples in part.items()]
    if not sum(len(examples["y"]) for examples in everybody):
        raise ValueError("no client has an example, so nothing can be split")
    return (
        np.concatenate([examples["x"] for examples in everybody]),
        np.concatenate([examples["y"] for examples in everybody]),
    )
