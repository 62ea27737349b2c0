"""The values that clients send to the server outside of secure sums."""

from __future__ import annotations

import tensorflow_federated as tff

from tfl_research.runtime.conversion.process_forms import map_reduce_form
from tfl_research.runtime.graphs.structures import leaf_types


def plain_leaves(process: tff.templates.IterativeProcess) -> int:
    """Counts the tensors that each client sends and that are aggregated in the clear.

    The count is 0 if secure sums add up everything that leaves a client.

    Raises:
      UnsupportedProcess: the process has no map-reduce form.
    """
    _, form = map_reduce_form(process)
    update = form.work.result_type[0]
    return len(leaf_types(update))
