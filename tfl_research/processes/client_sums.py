"""The sums over a round's clients, other than the aggregation of their updates."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Optional

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.aggregators import SumFormats
from tfl_research.aggregators.secure_sums.summation import Numbers, federated_total

# The members of a client's report beside update, weight and state, in the order of
# the sums.
_REPORTED = ("counts", "report", "sums", "noise_stddev")


class ClientSums(NamedTuple):
    """Sums over clients, as values at the server inside a TFF computation.

    Attributes:
      of: the sums by name: "counts", "report", "sums", "noise_stddev".
      measured: under secure sums, `clipped_clients`, int32 `[]`: how many clients
        reported a number beyond its bound. None for plain sums.
    """

    of: Callable[[str], Any]
    measured: Optional[Any]


def client_sums(formats: Optional[SumFormats], trained: Any) -> ClientSums:
    """Sums what clients report; see `round_parts.client_computation`.

    Under secure sums, counts are exact, and the other numbers are rounded to the steps
    of their formats.

    Args:
      formats: the fixed-point formats of secure sums; None for plain sums.
      trained: the results of `client_computation` at the clients.
    """
    if formats is None:
        return ClientSums(lambda name: tff.federated_sum(trained[name]), None)
    numbers: Mapping[str, Numbers] = {
        "counts": Numbers(formats.counts, formats.counts),
        "report": Numbers(formats.scalars, formats.tensors),
        "sums": Numbers(formats.metrics, formats.metrics),
        "noise_stddev": Numbers(formats.deviations, formats.deviations),
    }
    members = dict(tff.structure.iter_elements(trained.type_signature.member))
    named = [name for name in _REPORTED if name in members]
    weight_of_report = Numbers(formats.weights, formats.weights)

    @tff.tensorflow.computation(trained.type_signature.member)
    def reported(client: Any) -> Any:
        counts = collections.OrderedDict(client["counts"])
        report_weight = counts.pop("report_weight")
        rest = tuple(client[name] for name in named if name != "counts")
        return (counts, report_weight, *rest)

    totals, clipped = federated_total(
        tff.federated_map(reported, trained),
        [numbers["counts"], weight_of_report, *(numbers[n] for n in named[1:])],
        secure=formats.secure,
    )

    @tff.tensorflow.computation(totals.type_signature.member)
    def merged(parts: Any) -> Any:
        counts, report_weight, *rest = tuple(parts)
        counts = collections.OrderedDict(counts, report_weight=report_weight)
        return collections.OrderedDict(zip(named, (counts, *rest)))

    @tff.tensorflow.computation(tf.int32.as_numpy_dtype)
    def measured(clients: tf.Tensor) -> Any:
        return collections.OrderedDict(clipped_clients=clients)

    summed = tff.federated_map(merged, totals)
    return ClientSums(summed.__getitem__, tff.federated_map(measured, clipped))
