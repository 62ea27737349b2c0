"""Partitions of a data set into simulated clients, and comparisons of clients.

`assignment` assigns examples to clients, `client_skews` changes the examples of
clients, and `partition_options` chooses a partition by name. `statistics` counts
examples and labels. `divergence` and `feature_divergence` compare clients.
`data.hold_out` and `data.client_splits` split training from test examples.
"""

from tfl_research.data.partitions.assignment import dirichlet, iid, quantity, shards
from tfl_research.data.partitions.partition_options import PartitionOptions

__all__ = ["PartitionOptions", "dirichlet", "iid", "quantity", "shards"]
