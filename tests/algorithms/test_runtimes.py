"""Algorithms give the same on every runtime, their clients' states included."""

from __future__ import annotations

import numpy as np
import pytest
import rounds

from tfl_research import runtime
from tfl_research.runtime.graphs.structures import flatten

COMPILED = (runtime.Mode("folded", "xla"), runtime.Mode("vectorised", "xla"))
# Of others, with the same parts on the runtime.
VARIANTS = {"clipped", "fed_avg", "fed_nova", "fed_nova_proximal"}


def agree(process, ours, reference):
    state_type = process.initialize.type_signature.result
    for state, expected in zip(ours.states, reference.states):
        pairs = zip(flatten(state, state_type), flatten(expected, state_type))
        for leaf, wanted in pairs:
            np.testing.assert_allclose(leaf, wanted, rtol=1e-5, atol=1e-5)
    if reference.table is not None:
        names = tuple(rounds.SIZES)
        np.testing.assert_allclose(
            ours.table.rows(names), reference.table.rows(names), rtol=1e-5, atol=1e-5
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("scaffold_2", COMPILED[0]),
        pytest.param("scaffold_1", COMPILED[1], marks=pytest.mark.campaign),
        ("mime", COMPILED[0]),
        ("fed_buff", COMPILED[1]),
        ("adaptive_prox", COMPILED[0]),
        ("fed_nova_proximal", COMPILED[0]),
        ("fed_rep", COMPILED[0]),
        ("ifca", COMPILED[0]),
    ],
    ids=str,
)
def test_compiled_runs_are_the_same(six_clients, run_algorithm, name, mode):
    process, reference = rounds.built(name, six_clients), run_algorithm(name)
    cohorts = rounds.cohorts_of(
        six_clients, 2 if name == "mime" else 1, stale=name == "fed_buff"
    )
    engine = runtime.in_process(process, mode=mode)
    agree(process, rounds.run(process, cohorts, engine), reference)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(rounds.ALGORITHMS) - VARIANTS))
def test_tffs_own_runtime_is_the_same(six_clients, run_algorithm, name):
    process, reference = rounds.built(name, six_clients), run_algorithm(name)
    cohorts = rounds.cohorts_of(
        six_clients, 2 if name == "mime" else 1, stale=name == "fed_buff"
    )
    engine = runtime.tff_local(process)
    agree(process, rounds.run(process, cohorts, engine), reference)
