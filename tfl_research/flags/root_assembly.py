"""The server's own examples for --aggregator=trusted_root, beside the clients'."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from tfl_research.data import ClientData, derived_generator
from tfl_research.flags.aggregator_flags import ROOT_ROLE, ROOTED, AggregatorFlags
from tfl_research.flags.assembly import Setup
from tfl_research.flags.declare import FlagError
from tfl_research.sampling import Accompanied

# Id of the participant that holds the root examples.
ROOT_ID = "server root"


def with_root(aggregation: AggregatorFlags, parts: Setup, honest: ClientData) -> Setup:
    """The experiment with the root in every cohort, where the aggregator needs one.

    Args:
      aggregation: its --root_examples.
      parts: of the experiment, under attack or not.
      honest: the training clients before an attack changed their data. The root is
        drawn from all of their examples, without replacement and by --seed; clients
        keep theirs (arXiv 2012.13995, section VI-A).

    Raises:
      FlagError: more root examples than the clients have.
    """
    if aggregation.aggregator != ROOTED:
        return parts
    wanted = aggregation.root_examples or 0
    root = _drawn(honest, wanted, parts.run.seed)
    if root is None:
        raise aggregation.refused(
            "root_examples", "the clients have fewer examples; give at most theirs"
        )
    train = parts.task.train

    def load(client_id: str) -> Mapping[str, np.ndarray]:
        return root if client_id == ROOT_ID else train.load(client_id)

    if ROOT_ID in train.client_ids:
        raise FlagError(f"--task: a client is called {ROOT_ID!r}; give it another name")
    joined = dataclasses.replace(
        train,
        client_ids=(*train.client_ids, ROOT_ID),
        load=load,
        roles={**(train.roles or {}), ROOT_ID: ROOT_ROLE},
    )
    return dataclasses.replace(
        parts,
        task=dataclasses.replace(parts.task, train=joined),
        sampler=Accompanied(parts.sampler, (ROOT_ID,)),
    )


def _drawn(
    clients: ClientData, wanted: int, seed: int
) -> Mapping[str, np.ndarray] | None:
    """Examples of all clients together; None where there are fewer than wanted."""
    sizes = [clients.num_examples(client_id) for client_id in clients.client_ids]
    if wanted > sum(sizes):
        return None
    chosen = derived_generator("trusted root", seed).permutation(sum(sizes))[:wanted]
    ends = np.cumsum(sizes)
    owners = np.searchsorted(ends, chosen, side="right")
    parts = []
    for owner in np.unique(owners):
        held = clients.load(clients.client_ids[owner])
        rows = np.sort(chosen[owners == owner]) - (ends[owner] - sizes[owner])
        parts.append({name: held[name][rows] for name in clients.specs})
    return {name: np.concatenate([p[name] for p in parts]) for name in clients.specs}
