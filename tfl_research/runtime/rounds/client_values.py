"""Converts a cohort to the values that TFF's own runtimes take."""

from __future__ import annotations

import collections
from typing import Any

import tensorflow_federated as tff

from tfl_research.data import Cohort
from tfl_research.runtime.engine import ClientValues
from tfl_research.runtime.graphs.structures import member_names


def client_values(cohort: ClientValues, client_type: tff.Type) -> list[Any]:
    """The value of each client, its members in the order of `client_type`.

    Args:
      cohort: a cohort of the toolkit, or a list with one value per client.
      client_type: type of a client's value.
    """
    if not isinstance(cohort, Cohort):
        return list(cohort)
    names = member_names(client_type)
    own = [cohort.batches(index) for index in range(len(cohort))]
    # TFF takes a mapping's members by their order, not by their names.
    return [
        collections.OrderedDict((name, batches[name]) for name in names)
        for batches in own
    ]
