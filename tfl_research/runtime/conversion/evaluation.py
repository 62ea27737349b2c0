"""Evaluates a TFF computation to expressions of its arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional

import tensorflow_federated as tff

from tfl_research.runtime.conversion import round_values as values
from tfl_research.runtime.conversion.round_values import (
    Call,
    Intrinsic,
    Lambda,
    Leaf,
    Placed,
    Source,
    Struct,
    Tensor,
    Unknown,
    Value,
)
from tfl_research.runtime.graphs import operations, parts
from tfl_research.runtime.graphs.bodies import Library
from tfl_research.runtime.graphs.parts import Part

BITWIDTHS = "federated_secure_sum_bitwidth"
LARGEST = "federated_secure_sum"
MODULI = "federated_secure_modular_sum"

_MAPS = ("federated_map", "federated_map_all_equal", "federated_apply")
_ZIPS = ("federated_zip_at_clients", "federated_zip_at_server")
_VALUES = ("federated_value_at_clients", "federated_value_at_server")
_EVALS = ("federated_eval_at_clients", "federated_eval_at_server")


class Evaluation:
    """Evaluates building blocks; equal calls give the same tensors."""

    def __init__(self) -> None:
        self._leaves: dict[Any, Leaf] = {}
        self._calls: dict[Any, Call] = {}

    def function(self, computation: tff.Computation) -> Value:
        """A computation as a value that can be called.

        Raises:
          Unknown: it has something that expressions cannot say.
        """
        return self._value(tff.framework.serialize_computation(computation), {})

    def call(self, function: Value, argument: Optional[Value]) -> Value:
        """The result of a call of a function.

        Args:
          function: to call.
          argument: None for a function without a parameter.

        Raises:
          Unknown: it has something that expressions cannot say.
        """
        if isinstance(function, Lambda):
            body = getattr(function.message, "lambda")
            names = dict(function.names)
            if argument is not None:
                names[body.parameter_name] = argument
            return self._value(body.result, names)
        if isinstance(function, Intrinsic) and argument is not None:
            return self._operated(function.uri, argument)
        if not isinstance(function, Leaf):
            raise Unknown(f"a call of a {type(function).__name__}")
        given = [] if argument is None else values.tensors(argument)
        if len(given) != len(function.part.inputs):
            raise Unknown("a call with another number of tensors")
        key = id(function), *(tensor.key for tensor in given)
        if key not in self._calls:
            self._calls[key] = Call(function, given)
        return values.owned(self._calls[key], function.part.result_type)

    def _value(self, message: Any, names: Mapping[str, Value]) -> Value:
        kind = message.WhichOneof("computation")
        part = getattr(message, kind)
        if kind == "tensorflow":
            return self._leaf(message)
        if kind == "block":
            inner = dict(names)
            for local in part.local:
                inner[local.name] = self._value(local.value, inner)
            return self._value(part.result, inner)
        if kind == "call":
            function = self._value(part.function, names)
            argument = None
            if part.HasField("argument"):
                argument = self._value(part.argument, names)
            return self.call(function, argument)
        if kind == "lambda":
            return Lambda(message, names)
        if kind == "reference":
            return names[part.name]
        if kind == "selection":
            return values.members(self._value(part.source, names))[part.index]
        if kind == "struct":
            return Struct([self._value(e.value, names) for e in part.element])
        if kind == "intrinsic":
            return Intrinsic(part.uri)
        if kind == "literal":
            literal = tff.framework.Literal.from_proto(message)
            return self.call(_constant(literal.value, literal.type_signature), None)
        raise Unknown(f"a building block of the kind {kind}")

    def _leaf(self, message: Any) -> Leaf:
        key = message.SerializeToString(deterministic=True)
        if key not in self._leaves:
            computation = tff.framework.deserialize_computation(message)
            part = Part.of_message(message, computation.type_signature)
            _check_pure(part)
            self._leaves[key] = Leaf(part)
        return self._leaves[key]

    def _operated(self, uri: str, argument: Value) -> Value:
        if uri in _MAPS:
            function, value = values.members(argument)
            return Placed(self.call(function, values.zipped(value)))
        if uri in _ZIPS:
            return Placed(values.zipped(argument))
        if uri in _VALUES:
            return Placed(argument)
        if uri in _EVALS:
            return Placed(self.call(argument, None))
        if uri == "federated_broadcast":
            sent = (
                Tensor(values.Broadcast(tensor), 0, tensor.type)
                for tensor in values.tensors(argument)
            )
            return Placed(values.again(argument, sent))
        if uri == "federated_aggregate":
            value, zero, *functions = values.members(argument)
            return _aggregate(value, zero, *(self._taking(f) for f in functions))
        if uri == "federated_sum":
            zeros = [self._zero(tensor) for tensor in values.tensors(argument)]
            zero = values.again(argument, zeros)
            return _aggregate(argument, zero, self._plus, self._plus, _same)
        if uri in (BITWIDTHS, LARGEST, MODULI):
            value, bound = values.members(argument)
            return _secure_sum(uri, value, values.tensors(bound))
        # For example means, whose bodies TFF has.
        raise Unknown(f"the operation {uri}")

    def _taking(self, function: Value) -> Callable[..., Value]:
        """A function of building blocks as one of values."""
        return lambda *given: self.call(
            function, given[0] if len(given) == 1 else Struct(given)
        )

    def _made(self, make: Callable[[Any], Part], kind: tff.TensorType) -> Leaf:
        key = make, str(kind)
        if key not in self._leaves:
            if not parts.is_number(kind):
                raise Unknown(f"a sum of {kind}")
            self._leaves[key] = Leaf(make(kind))
        return self._leaves[key]

    def _zero(self, tensor: Tensor) -> Value:
        return self.call(self._made(parts.zero, tensor.type), None)

    def _plus(self, value: Value, other: Value) -> Value:
        sums = (
            self.call(self._made(parts.plus, one.type), Struct([one, two]))
            for one, two in zip(values.tensors(value), values.tensors(other))
        )
        return values.again(value, sums)


def _constant(number: Any, kind: tff.TensorType) -> Leaf:
    if not parts.is_number(kind):
        raise Unknown(f"a literal of type {kind}")
    return Leaf(parts.constant(number, kind))


def _same(value: Value) -> Value:
    return value


def _aggregate(
    given: Value,
    zero: Value,
    accumulate: Callable[..., Value],
    merge: Callable[..., Value],
    report: Callable[..., Value],
) -> Value:
    value = values.zipped(given)
    total, other = values.alike(Source(), zero), values.alike(Source(), zero)
    one = values.alike(Source(), value)
    accumulated, merged = accumulate(total, one), merge(total, other)
    for result in (accumulated, merged):
        # TFF takes the wider of several types.
        if values.types(result) != values.types(zero):
            raise Unknown("accumulators of several types")
    reported = report(total)
    found = map(
        values.tensors, (value, zero, total, other, one, accumulated, merged, reported)
    )
    return Placed(values.alike(values.Aggregate(*found), reported))


def _secure_sum(uri: str, given: Value, bounds: Sequence[Tensor]) -> Value:
    value = values.tensors(given)
    if len(bounds) == 1:
        bounds = [bounds[0]] * len(value)
    if len(bounds) != len(value):
        raise Unknown("a secure sum with another number of bounds")
    sums = [
        Tensor(values.SecureSum(uri, tensor, bound), 0, tensor.type)
        for tensor, bound in zip(value, bounds)
    ]
    return Placed(values.again(given, sums))


def _check_pure(part: Part) -> None:
    """Refuses a computation that does not depend only on its arguments.

    The result of such a computation depends on how often and in which order it is
    executed. Assertions are allowed, since they may be executed twice.
    """
    if part.initialize_op or part.graph_def.library.gradient:
        raise Unknown("a computation with an initialisation or a gradient of its own")
    for node in Library(part.graph_def).reachable(part.graph_def.node):
        if not operations.is_pure(node.op) and node.op not in operations.ASSERTIONS:
            raise Unknown(f"the operation {node.op}")
