"""Client data as padded local steps, partitioners, and readers for silos.

Nothing here knows of models, TensorFlow or algorithms. Modules that need pandas
(`silos`, `tabular`) are imported by their own names.
"""

from tfl_research.data import (
    client_skews,
    client_splits,
    divergence,
    partition,
    statistics,
)
from tfl_research.data.batching import Batching, derived_generator
from tfl_research.data.client_data import ClientData
from tfl_research.data.cohort import ArraySpec, Cohort, Examples
from tfl_research.data.partition_options import PartitionOptions
from tfl_research.data.poisson_batching import PoissonBatching
from tfl_research.data.tff_adapter import from_tff

__all__ = [
    "ArraySpec",
    "Batching",
    "ClientData",
    "Cohort",
    "Examples",
    "PartitionOptions",
    "PoissonBatching",
    "client_skews",
    "client_splits",
    "derived_generator",
    "divergence",
    "from_tff",
    "partition",
    "statistics",
]
