"""Facts about simulated clients that come from the examples of other clients."""

from __future__ import annotations

from tfl_research.data import PartitionOptions
from tfl_research.data.partitions import partition_options
from tfl_research.tasks.pooled import RECORD, Pooled


def pooled_by_partition(
    options: PartitionOptions, *, pools: bool
) -> tuple[Pooled, ...]:
    """Returns the facts that a partition computes from all examples or clients.

    Args:
      options: the partition.
      pools: whether the clients are draws from pooled examples.
    """
    parts = []
    if pools:
        parts.append(
            Pooled(
                "which client holds an example",
                "a draw over the pooled examples of all clients",
                RECORD,
            )
        )
    if options.partition in partition_options.SKEWS:
        parts.append(
            Pooled(
                f"how the partition {options.partition} changes a client's examples",
                "the client's place among all clients",
            )
        )
    if options.partition == "noise":
        parts.append(
            Pooled(
                "the noise that the partition adds to an example",
                "the example's place among its client's examples",
                RECORD,
            )
        )
    return tuple(parts)
