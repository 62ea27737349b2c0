"""TFF processes that a mode refuses, and why; the engine's own choice runs them all."""

from __future__ import annotations

from typing import Optional

from tfl_research.runtime import Mode

_OPERATION = r": (work|accumulate) has the operation {} \("
# TFF's runtime alone executes these, by name of a row.
HANDED = {
    "iterated_dataset": "work has the operation ScanDataset",
    "batched_dataset": "work has the operation BatchDatasetV2",
    "two_datasets": "work has the operation ScanDataset",
    "computation_without_clients": "the process has no clients",
    "hash_table": "the process has no map-reduce form",
    "mutable_hash_table": "work has the operation LookupTableFindV2",
    "queue": "the process has no map-reduce form",
    "heavy_hitters": "update has the operation QueueDequeueV2",
    "heavy_hitters_secure": "update has the operation QueueDequeueV2",
    "heavy_hitters_counted_once": "update has the operation QueueDequeueV2",
    "iblt_sketch": "update has the operation QueueDequeueV2",
    "distinct_count": "work has the operation MapDataset",
    "distinct_count_secure": "work has the operation MapDataset",
    "iterated_fed_avg": "work has the operation AnonymousIteratorV3",
    "lookup_fed_avg": "work has the operation HashTableV2",
    "fed_recon": "work has the operation FilterDataset",
    "fed_recon_eval": "work has the operation FilterDataset",
    "personalization_eval": "work has the operation BatchDatasetV2",
}
# XLA does not compile these, by name of a row.
NOT_COMPILED = {
    "string_operations": _OPERATION.format("StringSplitV2"),
    "hadamard": _OPERATION.format("StatelessRandomUniformV2"),
    "fourier": _OPERATION.format("Complex"),
    "reservoir": _OPERATION.format("Timestamp"),
    "federated_sample": _OPERATION.format("RandomUniform"),
}
# Their accumulators grow with each client, which no loop over clients can hold.
GROWING = {"reservoir", "federated_sample"}


def reason(name: str, mode: Mode) -> Optional[str]:
    """What matches the line that refuses a row in a mode; None for a row that runs."""
    if name in HANDED:
        return f"{HANDED[name]}.*; leave the mode out: TFF's runtime is used"
    if mode.compiler == "xla":
        return NOT_COMPILED.get(name)
    return "enters the loop with shape" if name in GROWING else None
