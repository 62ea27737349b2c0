"""The map-reduce form of a round, taken from its building blocks.

TFF's own compiler goes through the building blocks dozens of times, which takes half a
second. If the computations of a round depend only on their arguments, it is enough to
write each tensor into the part of the form that computes the tensor. TFF's compiler
converts all other rounds.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import tensorflow_federated as tff

from tfl_research.runtime.conversion import round_values as values
from tfl_research.runtime.conversion.evaluation import (
    BITWIDTHS,
    LARGEST,
    MODULI,
    Evaluation,
)
from tfl_research.runtime.conversion.known_forms import Form
from tfl_research.runtime.conversion.round_values import (
    Aggregate,
    Broadcast,
    Call,
    SecureSum,
    Source,
    Struct,
    Tensor,
    Unknown,
)
from tfl_research.runtime.conversion.writing import structure, written
from tfl_research.runtime.graphs.parts import Part
from tfl_research.runtime.graphs.process_shape import is_placed


def initial_state(computation: tff.Computation) -> Part:
    """The computation of the first state.

    Raises:
      Unknown: only TFF knows the computation.
    """
    evaluation = Evaluation()
    value = evaluation.call(evaluation.function(computation), None)
    return written([], values.tensors(value))


def form_of(computation: tff.Computation) -> Form:
    """The form of `process.next`.

    Raises:
      Unknown: only TFF's compiler knows the form, or there is no form.
    """
    evaluation = Evaluation()
    state, client = (
        values.owned(Source(), member) for member in _types(computation.type_signature)
    )
    found = evaluation.call(evaluation.function(computation), Struct([state, client]))
    takes, client_takes, gives = map(values.tensors, (state, client, found))
    sums = _needed(gives, (Aggregate, SecureSum))
    plain = [owner for owner in sums if isinstance(owner, Aggregate)]
    secure = {
        uri: [o for o in sums if isinstance(o, SecureSum) and o.uri == uri]
        for uri in (BITWIDTHS, LARGEST, MODULI)
    }
    reports = [tensor for owner in plain for tensor in owner.value]
    secured = [[owner.value for owner in owners] for owners in secure.values()]
    works = [*reports, *itertools.chain(*secured)]
    sent = _needed(works, (Broadcast,))
    context = [Tensor(owner, 0, owner.tensor.type) for owner in sent]

    def each(name: str) -> list[Tensor]:
        return [tensor for owner in plain for tensor in getattr(owner, name)]

    totals = [
        Tensor(owner, index, tensor.type)
        for owner in plain
        for index, tensor in enumerate(owner.reported)
    ]
    totals += [
        Tensor(owner, 0, owner.value.type)
        for owners in secure.values()
        for owner in owners
    ]
    work_type = structure(
        [structure([t.type for t in some]) for some in (reports, *secured)]
    )
    bounds = {
        uri: written([], [owner.bound for owner in owners])
        for uri, owners in secure.items()
    }
    return Form(
        prepare=written(takes, [owner.tensor for owner in sent]),
        work=written([*client_takes, *context], works, work_type),
        zero=written([], each("zero")),
        accumulate=written([*each("total"), *each("one")], each("accumulated")),
        merge=written([*each("total"), *each("other")], each("merged")),
        report=written(each("total"), each("reported")),
        secure_sum_bitwidth=bounds[BITWIDTHS],
        secure_sum_max_input=bounds[LARGEST],
        secure_modular_sum_modulus=bounds[MODULI],
        update=written([*takes, *totals], gives),
    )


def _types(signature: tff.FunctionType) -> tuple[tff.Type, tff.Type]:
    """The types of the state and of the clients' value, of a usual round."""
    two = [_members(signature.parameter), _members(signature.result)]
    if not all(len(members) == 2 for members in two):
        raise Unknown("a round that does not take and give two values")
    (state, client), results = two
    at_server = all(is_placed(one, tff.SERVER) for one in (state, *results))
    if not at_server or not is_placed(client, tff.CLIENTS):
        raise Unknown("a round with other placements")
    return state, client


def _members(value_type: tff.Type) -> list[tff.Type]:
    if not isinstance(value_type, tff.StructType):
        return []
    return [member for _, member in tff.structure.iter_elements(value_type)]


def _needed(tensors: Sequence[Tensor], kinds: tuple[type, ...]) -> list[Any]:
    """Returns the owners of some kinds that tensors need, in the order of first use.

    The owners that these owners need are not included.
    """
    found: dict[int, Any] = {}
    seen: set[int] = set()
    stack = list(reversed(tensors))
    while stack:
        owner = stack.pop().owner
        if id(owner) in seen:
            continue
        seen.add(id(owner))
        if isinstance(owner, kinds):
            found[id(owner)] = owner
        elif isinstance(owner, Call):
            stack += reversed(owner.arguments)
    return list(found.values())
