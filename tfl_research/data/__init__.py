"""Client data: examples by client, their splits, partitions and local steps.

`arrays` has what an example's arrays may be. `partitions` makes simulated clients.
`tables` reads silos. It needs pandas, so import `tfl_research.data.tables` by name.
`hold_out` draws the held-out clients and examples of every task. `models` and `tasks`
have the models, objectives and built-in data sets. Nothing in this package imports
TensorFlow.
"""

from tfl_research.data import client_splits, hold_out, partitions
from tfl_research.data.batching import Batching, derived_generator
from tfl_research.data.client_data import ClientData
from tfl_research.data.client_secrets import CLIENT_SECRET, client_secrets
from tfl_research.data.cohort import ArraySpec, Cohort, Examples
from tfl_research.data.digest import content_digest
from tfl_research.data.partitions import PartitionOptions
from tfl_research.data.poisson_batching import PoissonBatching
from tfl_research.data.seeded_clients import SeededClients
from tfl_research.data.site_clients import SiteClients, SiteCohort
from tfl_research.data.tff_adapter import from_tff

__all__ = [
    "CLIENT_SECRET",
    "ArraySpec",
    "Batching",
    "ClientData",
    "Cohort",
    "Examples",
    "PartitionOptions",
    "PoissonBatching",
    "SeededClients",
    "SiteClients",
    "SiteCohort",
    "client_secrets",
    "client_splits",
    "content_digest",
    "derived_generator",
    "from_tff",
    "hold_out",
    "partitions",
]
