"""The values that clients send to the server outside of secure sums."""

from __future__ import annotations

import tensorflow_federated as tff

from tfl_research.runtime.conversion.process_forms import map_reduce_form
from tfl_research.runtime.graphs.structures import leaf_types


def plain_leaves(process: tff.templates.IterativeProcess) -> int:
    """How many tensors each client sends that are aggregated in the clear.

    0 if everything that leaves a client is added up by secure sums.

    Raises:
      UnsupportedProcess: the process has no map-reduce form.
    """
    _, form = map_reduce_form(process)
    update = form.work.result_type[0]
    return len(leaf_types(update))
