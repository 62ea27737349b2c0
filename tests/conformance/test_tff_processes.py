"""TFF's processes and computations in process against TFF's own runtime.

By default rows that take seconds are left out; with TFL_CONFORMANCE=all every row runs.
"""

import os
import types

import numpy as np
import pytest
import tensorflow_federated as tff
import tff_aggregators
import tff_analytics
import tff_effects
import tff_learning
import tff_not_compiled
import tff_own
from tff_row import assert_same, leaves, plain

from tfl_research import runtime
from tfl_research.runtime import Mode

ALL = os.environ.get("TFL_CONFORMANCE") == "all"
MODES = [Mode("folded", "graph"), Mode("folded", "xla")] if ALL else []
TABLE = {
    **tff_own.TABLE,
    **tff_effects.TABLE,
    **tff_aggregators.TABLE,
    **tff_analytics.TABLE,
    **tff_learning.TABLE,
}
# Base classes, and what runs outside of computations.
NO_PROCESSES = {
    "aggregators.AggregationFactory",
    "aggregators.UnweightedAggregationFactory",
    "aggregators.WeightedAggregationFactory",
    "analytics.HierarchicalHistogramDecoder",
}


def by_tff(built, rounds):
    """The first state, and state and metrics of each round, on TFF's runtime."""
    if isinstance(built, tff.Computation):
        return None, [(None, built(*_given(clients))) for clients in rounds]
    first = state = built.initialize()
    history = []
    for clients in rounds:
        output = built.next(state, *_given(clients))
        if isinstance(output, tuple):
            state, metrics = output
        else:
            state, metrics = output.state, output.metrics
        history.append((state, metrics))
    return first, history


def _given(clients):
    return () if clients is None else (clients,)


def in_process(process, first, rounds, mode=None):
    """The engine's own first state, and the rounds that follow from `first`."""
    history = []
    with runtime.in_process(process, mode=mode) as engine:
        own = engine.initialize()
        state = own if first is None else first
        for clients in rounds:
            state, metrics = engine.next(state, [] if clients is None else clients)
            history.append((state, metrics))
    return own, history


# Rows whose kind another row has already.
_FURTHER = {
    "broadcast",
    "concat",
    "dp_query",
    "folded_dataset",
    "mean_of_nobody",
    "measurements",
    "nested_elements",
    "quantile",
    "secure_modular_sum",
    "sum_of_integers",
    "two_datasets",
    "zeroing",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [n for n in TABLE if ALL or (TABLE[n].quick and n not in _FURTHER)]
)
def test_a_process_gives_what_tffs_runtime_gives(name, on_a_worker):
    row = TABLE[name]
    built = row.build()
    plain_computation = isinstance(built, tff.Computation)
    process = runtime.as_process(built) if plain_computation else built
    if row.tff_fails:
        with pytest.raises(Exception, match=row.tff_fails):
            by_tff(built, row.rounds)
        in_process(process, None, row.rounds)
        return
    first, expected = by_tff(built, row.rounds)
    own, found = in_process(process, first, row.rounds)
    if not plain_computation:
        assert [leaf.shape for leaf in leaves(own)] == [
            leaf.shape for leaf in leaves(first)
        ]
        if not row.random_state:
            assert_same(plain(own), plain(first))
    assert_history(row, found, expected)
    for mode in MODES:
        reason = tff_not_compiled.reason(name, mode)
        if reason is not None:
            with pytest.raises(runtime.UnsupportedProcess, match=reason) as refused:
                in_process(process, first, row.rounds, mode)
            assert len(str(refused.value).splitlines()) == 1
            continue
        _, found = in_process(process, first, row.rounds, mode)
        assert_history(row, found, expected)


def assert_history(row, found, expected):
    for (state, metrics), (tff_state, tff_metrics) in zip(found, expected):
        if row.canonical:
            assert_same(row.canonical(metrics), row.canonical(tff_metrics))
            continue
        assert_same(plain(metrics), plain(tff_metrics))
        if tff_state is not None and not row.random_state:
            assert_same(plain(state), plain(tff_state))


@pytest.mark.slow
@pytest.mark.parametrize("name", tff_effects.STOPPED)
def test_bad_values_stop_a_round_on_every_engine(name):
    make, clients, message = tff_effects.STOPPED[name]
    process = make()
    for engine in (runtime.in_process(process), runtime.tff_local(process)):
        with engine, pytest.raises(Exception, match=message):
            engine.next(engine.initialize(), clients)


def _public(module, path):
    """Paths of what a module of TFF makes public, without `tff.`."""
    for name, value in vars(module).items():
        if name.startswith("_") or isinstance(value, types.ModuleType):
            continue
        home = getattr(value, "__module__", "") or ""
        if callable(value) and home.startswith("tensorflow_federated"):
            yield f"{path}.{name}"


def test_everything_public_of_tff_is_in_a_row():
    """A version of TFF with a further algorithm or aggregator fails here."""
    iblt = tff.analytics.heavy_hitters.iblt
    builders = {f"analytics.heavy_hitters.iblt.{n}" for n in vars(iblt) if "build" in n}
    distinct = tff.analytics.count_distinct
    builders |= {
        name
        for name in _public(distinct, "analytics.count_distinct")
        if ".build_" in name or ".create_" in name
    }
    public = builders.union(
        _public(tff.learning.algorithms, "learning.algorithms"),
        _public(tff.aggregators, "aggregators"),
        _public(tff.analytics, "analytics"),
        (
            name
            for name in _public(tff.learning, "learning")
            if name.endswith("_aggregator")
        ),
    )
    covered = {name for row in TABLE.values() for name in row.covers}
    assert public - covered - NO_PROCESSES == set()


def test_the_table_is_large_enough():
    assert len(TABLE) >= 40


def test_leaves_are_found_in_every_kind_of_nest():
    state = tff.structure.from_container({"a": np.array(1), "b": (b"x",)}, True)
    assert plain(state) == [1, "x"]
