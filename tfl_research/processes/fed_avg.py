"""Builds generalised federated averaging as a TFF process."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Optional

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import clients, models
from tfl_research.aggregators import (
    SumFormats,
    UpdateAggregator,
    averaging,
    declarations,
)
from tfl_research.aggregators.secure_sums import averaging as secure_averaging
from tfl_research.data import CLIENT_SECRET, PoissonBatching
from tfl_research.data.arrays import structures
from tfl_research.errors import SettingError
from tfl_research.processes import known_work
from tfl_research.processes.aggregation import Aggregator
from tfl_research.processes.client_states import ClientStateSpec
from tfl_research.processes.federated_process import FederatedProcess
from tfl_research.processes.round import assemble
from tfl_research.processes.round_parts import RoundParts
from tfl_research.processes.server_work import OptimizerStep, ServerWork
from tfl_research.processes.weighting import ClientWeighting, by_examples, uniform
from tfl_research.tasks.objectives import Objective
from tfl_research.tasks.task import Task


def cohort_type(
    task: Task, further: Iterable[tuple[str, tff.TensorType]] = ()
) -> tff.StructWithPythonType:
    """Returns the TFF type of one client's local steps in this task.

    The members are x and y `[steps, batch, ...]` by their flat names, mask bool
    `[steps, batch]`, num_steps and num_examples int32 `[]`, and seed int32 `[2]`. Data
    with roles also have role int32 `[]`. Under Poisson sampling there are also row_ends
    int32 `[steps]` and noise_seed int64 `[2]`. The number of steps is not fixed, so
    that one computation serves clients of every size.

    Args:
      task: the task of the clients.
      further: names and types of further members.
    """
    lead = [None, task.train.batching.batch_size]
    members = [
        (name, tff.TensorType(_tff_dtype(spec.dtype), lead + list(spec.shape)))
        for name, spec in task.train.specs.items()
    ]
    members += [
        ("mask", tff.TensorType(tf.bool.as_numpy_dtype, lead)),
        ("num_steps", tff.TensorType(tf.int32.as_numpy_dtype)),
        ("num_examples", tff.TensorType(tf.int32.as_numpy_dtype)),
        ("seed", tff.TensorType(tf.int32.as_numpy_dtype, [2])),
    ]
    if task.train.roles is not None:
        members.append(("role", tff.TensorType(tf.int32.as_numpy_dtype)))
    if isinstance(task.train.batching, PoissonBatching):
        members += [
            ("row_ends", tff.TensorType(tf.int32.as_numpy_dtype, [None])),
            ("noise_seed", tff.TensorType(tf.int64.as_numpy_dtype, [2])),
        ]
    return tff.StructWithPythonType([*members, *further], collections.OrderedDict)


def _tff_dtype(dtype: np.dtype) -> Any:
    """Returns TFF's dtype for a NumPy dtype; NumPy's dtype of text is object."""
    return np.str_ if structures.is_text(dtype) else dtype


def model_dimension(task: Task) -> int:
    """Counts the entries of an update: trainable weights and averaged statistics."""
    model = task.functional_model()
    specs = [*model.weight_specs, *(model.state_specs[i] for i in model.averaged)]
    return sum(spec.shape.num_elements() for spec in specs)


def build_fed_avg(
    task: Task,
    *,
    client_optimizer: Optional[tff.learning.optimizers.Optimizer] = None,
    server_optimizer: Optional[tff.learning.optimizers.Optimizer] = None,
    aggregator: Optional[Aggregator] = None,
    client_work: Optional[clients.ClientWork] = None,
    client_weighting: Optional[ClientWeighting] = None,
    server_work: Optional[ServerWork] = None,
    max_cohort_size: Optional[int] = None,
    seed: int = 0,
    secure_sums: Optional[SumFormats] = None,
) -> FederatedProcess:
    """Builds generalised federated averaging (FedOpt) as a TFF process.

    Reddi et al. 2020 (arXiv 2003.00295), Algorithm 1: clients train from the server's
    weights. The server optimizer takes the negated mean of the updates as a gradient.
    With SGD of rate 1 at the server this is FedAvg (McMahan et al. 2017). With
    `clients.local_training(proximal_strength=...)` it is FedProx.

    A round has these steps, from top to bottom. Parts in brackets exist for some
    algorithms only:

        server                                     clients
        model, round number, [shared] ───────────► client work
        server work ◄── aggregator ◄────────────── update, weight
        server work ◄── mean ◄──────────────────── [report]
        model, server's state                      [client state]

    The process has the type signature
    `( -> S@SERVER)` and `(<S@SERVER, {B}@CLIENTS> -> <state=S, metrics=M>@SERVER)`
    where B is `cohort_type(task)` and S is a
    `tff.learning.templates.LearningAlgorithmState`: `global_model_weights` is the
    model, `client_work` is the number of completed rounds (int32), `aggregator` is the
    state of the aggregation process, and `finalizer` is the state of the server work. M
    has the members `train` (loss, accuracy, ...: means over the examples that the
    cohort trained on, computed before each local step; NaN without examples), `cohort`
    (clients, examples, excluded), `aggregator` (the aggregator's measurements), and
    `client_states` if clients keep a state (see `ClientStateSpec`).

    An update with a NaN or an infinity is excluded: the update becomes zero with weight
    zero, and is counted as excluded. An aggregation factory without weights cannot
    exclude a client, and gets a zero update. An `aggregators.UpdateAggregator` that
    `screens_updates` gets the original update. In a round that the aggregator skips (a
    measured `skipped` other than 0), and in a round in which no client counts and
    nothing adds noise, the server waits: see `ServerWork`. The `plan` of the process is
    the privacy plan that the aggregator or the client work declares.

    Args:
      task: data, model and objective.
      client_optimizer: shorthand for `client_work=clients.local_training(
        optimizer=client_optimizer)`.
      server_optimizer: applied to the negated aggregate; SGD of rate 1 by default.
      aggregator: any TFF aggregation factory; by default a weighted mean, which is zero
        when no client counts. An `aggregators.UpdateAggregator` with `client_members`,
        names of members of `cohort_type(task)`, gets weights that are structures of
        `weight` and these members ("seed" or "client_secret" for noise at the clients,
        "role" for attacks). With "client_secret" clients have this member too, see
        `data.client_secrets`.
      client_work: the computation of a client.
      client_weighting: how much a client counts; by default by its number of examples
        if the aggregator takes weights, otherwise uniform.
      server_work: computes the new model from the mean, for algorithms that need more
        than a server optimizer.
      max_cohort_size: largest number of clients in a cohort; needed if clients keep a
        state.
      seed: seed of the initial weights.
      secure_sums: the fixed-point formats of secure sums; None for plain sums. With
        formats, everything that clients report goes through TFF's secure sums. The
        default aggregator and the process' own sums use the formats; an aggregator that
        is given must sum securely itself. The metrics then have `secure_sums`; its
        `clipped_clients` is the number of clients that reported a number beyond its
        bound. The table of client states is not a sum, so the secure sums do not
        protect each client's state and position.

    Raises:
      ValueError: both or neither of client_optimizer and client_work are given; both
        server_optimizer and server_work are given; max_cohort_size is missing although
        clients keep a state; the weighting is not uniform although the aggregator takes
        no weights; the aggregator is not an aggregation factory; client_work is not a
        `clients.ClientWork`; client work and aggregator have different privacy plans;
        there is a privacy plan, and statistics are averaged or kept at clients; the
        aggregator needs roles, and the client data have no roles.
    """
    if (client_optimizer is None) == (client_work is None):
        raise ValueError(
            "give exactly one of client_optimizer and client_work, got "
            f"{'both' if client_optimizer is not None else 'neither'}"
        )
    if client_work is None:
        client_work = clients.local_training(optimizer=client_optimizer)
    if not isinstance(client_work, clients.ClientWork):
        raise ValueError(
            f"client_work must be a clients.ClientWork, got {client_work!r}"
        )
    if server_work is not None and server_optimizer is not None:
        raise ValueError("give server_optimizer or server_work, got both")
    work = server_work or OptimizerStep(server_optimizer)
    if aggregator is None:
        aggregator = averaging.mean()
        if secure_sums is not None:
            aggregator = secure_averaging.mean(secure_sums)
    if client_weighting is None:
        takes_weights = isinstance(
            aggregator, tff.aggregators.WeightedAggregationFactory
        )
        client_weighting = by_examples() if takes_weights else uniform()
    declared = declarations(aggregator)
    if "role" in declared.client_members and task.train.roles is None:
        raise ValueError(
            f"{type(aggregator).__name__} needs clients with roles; give clients of "
            "task.train.with_roles"
        )
    model = task.functional_model(seed)
    key = known_work.key_of(task, seed, client_work)
    client_work = clients.LocalState.around(client_work, model)
    objective = task.build_objective()
    states = _client_states(client_work, model, max_cohort_size)
    further = [] if states is None else states.members
    for name, spec in client_work.client_members.items():
        further.append((name, tff.TensorType(spec.dtype.as_numpy_dtype, spec.shape)))
    if CLIENT_SECRET in declared.client_members:
        further.append((CLIENT_SECRET, tff.TensorType(np.int64, [2])))
    plan = _plan(client_work, declared)
    if plan is not None:
        _check_private(model)
    return assemble(
        RoundParts(
            model,
            client_work.build(model, objective),
            objective.finalize,
            cohort_type(task, further),
            work,
            aggregator,
            client_weighting,
            states,
            plan,
            client_work.encoded_bytes(model),
            client_work.received_bytes(model),
            client_work.reported_bytes(model),
            secure_sums,
            _sum_specs(client_work, model, objective),
            key,
        )
    )


def _sum_specs(
    client_work: clients.ClientWork, model: models.FunctionalModel, objective: Objective
) -> Optional[Callable[[Any], Mapping[str, tf.TensorSpec]]]:
    """Returns what computes the sums that client work of a user must return.

    Work that is the toolkit's own needs no check, which would trace the model again.
    """
    if known_work.recipe_key(client_work) is not None:
        return None
    return partial(clients.sum_specs, model, objective)


def _client_states(
    client_work: clients.ClientWork,
    model: models.FunctionalModel,
    max_cohort_size: Optional[int],
) -> Optional[ClientStateSpec]:
    initial = client_work.initial_client_state(model)
    if initial is None:
        return None
    if max_cohort_size is None:
        raise ValueError(
            f"clients of {type(client_work).__name__} keep a state, so "
            "max_cohort_size is needed; give the sampler's maximum_cohort_size"
        )
    return ClientStateSpec(np.asarray(initial, np.float32), max_cohort_size)


def _check_private(model: models.FunctionalModel) -> None:
    """Refuses statistics to which a privacy plan does not apply."""
    if model.changing:
        raise SettingError(
            f"non_trainable: clients' statistics ({model.state_names[0]}) cannot be "
            f"{model.non_trainable} under a privacy plan, because the plan clips only "
            "the updates of trainable weights and adds noise only to them; give "
            "non_trainable='frozen', or a model with GroupNormalization"
        )


def _plan(client_work: clients.ClientWork, declared: UpdateAggregator) -> Any:
    """Returns the privacy plan of the client work or of the aggregator.

    Raises:
      ValueError: client work and aggregator have different plans.
    """
    plans = [p for p in (client_work.plan, declared.plan) if p is not None]
    if len(plans) == 2 and plans[0] != plans[1]:
        raise ValueError(
            f"client work and aggregator belong to two privacy plans, {plans[0]} and "
            f"{plans[1]}; build both from one plan"
        )
    return plans[0] if plans else None
