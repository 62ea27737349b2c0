"""Partitions of one data set among simulated clients, and how unlike clients are.

`assignment` decides which client has which example, `client_skews` changes the
examples of clients, `partition_options` chooses one of them by name. `statistics`
counts, `divergence` and `feature_divergence` compare clients. Splits into training and
test examples are in `data.hold_out` and `data.client_splits`.
"""

from tfl_research.data.partitions.assignment import dirichlet, iid, quantity, shards
from tfl_research.data.partitions.partition_options import PartitionOptions

__all__ = ["PartitionOptions", "dirichlet", "iid", "quantity", "shards"]
