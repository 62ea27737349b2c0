"""The server's own examples for trusted_root (FLTrust)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Optional

import numpy as np

from tfl_research.aggregators import ROOT_ROLE
from tfl_research.data import ClientData, derived_generator
from tfl_research.errors import SettingError
from tfl_research.sampling import Accompanied

if TYPE_CHECKING:
    from tfl_research.experiment.setup import Setup

# Id of the participant that holds the root examples.
ROOT_ID = "server root"


def with_root(setup: Setup, honest: ClientData) -> Setup:
    """Adds the root to every cohort of a setup, if the aggregator needs a root.

    Args:
      setup: the setup of the run, with or without an attack.
      honest: the training clients before an attack changed their data. The root's
        examples are drawn from all of these clients' examples, by the seed and without
        replacement; clients keep their examples (arXiv 2012.13995, section VI-A).

    Raises:
      SettingError: the clients have fewer examples than the root should have, or a
        client has the root's id.
    """
    aggregator = setup.experiment.chosen_aggregator
    if aggregator is None or not aggregator.NEEDS_ROOT:
        return setup
    wanted = int(aggregator.flat()["root_examples"])
    root = _drawn(honest, wanted, setup.experiment.training.seed)
    if root is None:
        raise aggregator.refused(
            "root_examples",
            "the clients have fewer examples; give at most as many as they have",
        )
    train = setup.task.train

    def load(client_id: str) -> Mapping[str, np.ndarray]:
        return root if client_id == ROOT_ID else train.load(client_id)

    if ROOT_ID in train.client_ids:
        raise SettingError(
            f"--task: a client is called {ROOT_ID!r}; give it another name"
        )
    joined = dataclasses.replace(
        train,
        client_ids=(*train.client_ids, ROOT_ID),
        holders=None,
        load=load,
        roles={**(train.roles or {}), ROOT_ID: ROOT_ROLE},
    )
    cohorts = Accompanied(setup.cohorts, (ROOT_ID,))
    return dataclasses.replace(
        setup,
        task=dataclasses.replace(setup.task, train=joined),
        reporting=cohorts,
        cohorts=cohorts,
    )


def _drawn(
    clients: ClientData, wanted: int, seed: int
) -> Optional[Mapping[str, np.ndarray]]:
    """Draws `wanted` of the clients' examples; None if there are fewer examples."""
    sizes = [clients.num_examples(client_id) for client_id in clients.client_ids]
    if wanted > sum(sizes):
        return None
    chosen = derived_generator("trusted root", seed).permutation(sum(sizes))[:wanted]
    ends = np.cumsum(sizes)
    owners = np.searchsorted(ends, chosen, side="right")
    parts = []
    for owner in np.unique(owners):
        examples = clients.load(clients.client_ids[owner])
        rows = np.sort(chosen[owners == owner]) - (ends[owner] - sizes[owner])
        parts.append({name: examples[name][rows] for name in clients.specs})
    return {name: np.concatenate([p[name] for p in parts]) for name in clients.specs}
