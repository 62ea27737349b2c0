"""Six clients of a linear model, and rounds of them with a table of states."""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple, Optional

import numpy as np
import paper_algorithms as paper
import tensorflow_federated as tff

from tfl_research import algorithms, clients, data, processes, runtime, storage

MODE = runtime.Mode("folded", "graph")
RATE, MOMENTUM, MU, ALPHA = 0.1, 0.6, 0.7, 0.5
BATCH, EPOCHS = 2, 2
START = np.array([0.5, -0.25, 0.1])
CLIP = 0.6
SERVER_RATE, BETA_1, BETA_2, TAU, INITIAL = 0.3, 0.9, 0.95, 1e-3, 0.02
# Of the personal models; the third of the clusters' is nobody's choice.
DITTO, REP_SHARE, RECON_SHARE = 0.8, 0.4, 0.6
CLUSTERS = (START, np.array([-0.6, 0.8, 1.2]), np.array([50.0, 50.0, 50.0]))
SIZES = {"a": 5, "b": 2, "c": 7, "d": 1, "e": 0, "f": 4}
COHORTS = (("a", "c", "e", "f"), ("b", "a", "d", "f"), ("c", "b", "f", "d"))
# In the second round a client has time for one of its two steps, in the last round one
# for three of its eight.
LIMITS: tuple[dict[str, int], ...] = ({}, {"d": 1}, {"c": 3})
# Server steps ago, by round.
STALENESS: tuple[dict[str, int], ...] = (
    {"a": 0, "c": 2, "e": 0, "f": 1},
    {"b": 1, "a": 0, "d": 0, "f": 2},
    {"c": 2, "b": 0, "f": 1, "d": 3},
)


def examples() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Clients whose labels come from different linear models."""
    found = {}
    for number, (name, size) in enumerate(SIZES.items()):
        generator = np.random.default_rng([3, number])
        x = np.round(generator.normal(size=(size, 2)), 2)
        y = x @ generator.normal(size=2) + number / 3
        found[name] = (x, np.round(y, 2))
    return found


BATCHING = data.Batching(batch_size=BATCH, epochs=EPOCHS, shuffle=False)


def paper_rounds(cohorts=COHORTS, limits=LIMITS) -> list[dict[str, paper.Client]]:
    """The same rounds for `paper_algorithms`."""
    held = examples()
    return [
        {
            name: paper.client(
                *held[name], batch_size=BATCH, epochs=EPOCHS, limit=limit.get(name)
            )
            for name in cohort
        }
        for cohort, limit in zip(cohorts, limits)
    ]


def cohorts_of(
    task: Any, exchanges: int = 1, stale: bool = False, cohorts=COHORTS, limits=LIMITS
) -> list[data.Cohort]:
    """The rounds' cohorts, each for so many rounds in a row."""
    found: list[data.Cohort] = []
    for index, (cohort, limit) in enumerate(zip(cohorts, limits)):
        for _ in range(exchanges):
            drawn = task.train.cohort(cohort, seed=0, round_number=len(found) + 1)
            drawn = drawn.truncated([limit.get(name, 99) for name in cohort])
            if stale:
                ages = [STALENESS[index][name] for name in cohort]
                drawn = drawn.with_members(staleness=np.array(ages, np.int32))
            found.append(drawn)
    return found


def sgd(rate: float = RATE, momentum: Optional[float] = None) -> clients.LocalSteps:
    return clients.LocalSteps(tff.learning.optimizers.build_sgdm(rate, momentum))


def fed_opt(optimizer: Any) -> algorithms.Algorithm:
    return algorithms.build_fed_avg(sgd(), server=processes.OptimizerStep(optimizer))


def arrays(theta: Any) -> tuple[np.ndarray, ...]:
    """theta as the model's weights."""
    theta = np.asarray(theta, np.float32)
    return theta[:-1, None], theta[-1:]


_POPULATION = {"population": len(SIZES)}
_OPTIMIZERS = tff.learning.optimizers
# Everything that is compared with its paper.
ALGORITHMS = {
    "fed_avg": lambda: algorithms.build_fed_avg(sgd()),
    "fed_prox": lambda: algorithms.build_fed_avg(sgd(), proximal_strength=MU),
    "clipped": lambda: algorithms.build_fed_avg(
        clients.LocalSteps(_OPTIMIZERS.build_sgdm(RATE), CLIP)
    ),
    "fed_avg_m": lambda: fed_opt(_OPTIMIZERS.build_sgdm(SERVER_RATE, MOMENTUM)),
    "fed_adam": lambda: fed_opt(
        _OPTIMIZERS.build_adam(SERVER_RATE, BETA_1, BETA_2, TAU)
    ),
    "fed_yogi": lambda: fed_opt(
        _OPTIMIZERS.build_yogi(SERVER_RATE, BETA_1, BETA_2, TAU, INITIAL)
    ),
    "fed_adagrad": lambda: fed_opt(
        _OPTIMIZERS.build_adagrad(SERVER_RATE, INITIAL, TAU)
    ),
    "scaffold_1": lambda: algorithms.build_scaffold(
        sgd(), population=len(SIZES), option=1
    ),
    "scaffold_2": lambda: algorithms.build_scaffold(sgd(), population=len(SIZES)),
    "fed_dyn": lambda: algorithms.build_fed_dyn(sgd(), alpha=ALPHA, **_POPULATION),
    "fed_dropout": lambda: algorithms.build_fed_dropout(sgd()),
    "fed_nova": lambda: algorithms.build_fed_nova(sgd()),
    "fed_nova_momentum": lambda: algorithms.build_fed_nova(sgd(momentum=MOMENTUM)),
    "fed_nova_proximal": lambda: algorithms.build_fed_nova(sgd(), proximal_strength=MU),
    "fed_exp": lambda: algorithms.build_fed_exp(clients.LocalTraining(sgd())),
    "mime_lite": lambda: algorithms.build_mime_lite(sgd(momentum=MOMENTUM)),
    "mime": lambda: algorithms.build_mime(sgd(momentum=MOMENTUM)),
    "fed_buff": lambda: algorithms.build_fed_buff(
        clients.LocalTraining(sgd()), max_staleness=3
    ),
    "adaptive_prox": lambda: algorithms.build_adaptive_prox(sgd(), initial=MU),
    "ditto": lambda: algorithms.build_ditto(sgd(), strength=DITTO),
    "fed_rep": lambda: algorithms.build_fed_rep(
        sgd(), personal_tensors=1, personal_share=REP_SHARE
    ),
    "reconstruction": lambda: algorithms.build_reconstruction(
        sgd(), personal_tensors=1, personal_share=RECON_SHARE
    ),
    "ifca": lambda: algorithms.build_ifca(sgd(), [arrays(model) for model in CLUSTERS]),
}


_built: dict[str, Any] = {}


def built(name: str, task: Any) -> Any:
    """The algorithm's process for the six clients, traced once for all tests."""
    if name not in _built:
        _built[name] = ALGORITHMS[name]().build(task, max_cohort_size=4)
    return _built[name]


class Run(NamedTuple):
    """States after each round, metrics of each, and the table after all."""

    states: list[Any]
    metrics: list[Any]
    table: Any

    def weights(self, index: int = -1) -> np.ndarray:
        """(weights, bias) after a round, as `paper_algorithms` has them."""
        return vector(self.states[index].global_model_weights.trainable)

    def server(self, index: int = -1) -> Any:
        """What the server remembers after a round."""
        return self.states[index].finalizer


def vector(tensors: Any) -> np.ndarray:
    return np.concatenate([np.ravel(np.asarray(t)) for t in tensors])


# By process: its map-reduce form takes a second or two to compile.
_engines: dict[int, tuple[Any, Any]] = {}


def engine_of(process: Any) -> Any:
    """The process' engine, the same for all tests; stays open."""
    if id(process) not in _engines:
        # The process is kept too, so that no other one gets its id.
        _engines[id(process)] = process, runtime.in_process(process, mode=MODE)
    return contextlib.nullcontext(_engines[id(process)][1])


def run(
    process: Any, cohorts: list[data.Cohort], engine: Any = None, after=None
) -> Run:
    """Rounds whose clients keep their states in a table in memory.

    `after(state, table)` is called after each round.
    """
    spec = process.client_states
    table = None if spec is None else storage.ClientStates(":memory:", spec)
    states, metrics = [], []
    with engine or engine_of(process) as running:
        state = running.initialize()
        for number, cohort in enumerate(cohorts, start=1):
            if table is not None:
                cohort = table.attach(cohort)
            state, found = running.next(state, cohort)
            if table is not None:
                table.store(number, cohort.client_ids, found["client_states"])
            states.append(state)
            metrics.append(found)
            if after is not None:
                after(state, table)
    return Run(states, metrics, table)


def assert_close(ours: Any, expected: Any) -> None:
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)
