"""Checks the structures, shapes and dtypes that client work and server work return.

Without the check, TensorFlow would silently broadcast a weight to the model's shape.
"""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import autograph
from tfl_research.clients.client_work import ClientResult
from tfl_research.data.arrays import structures
from tfl_research.errors import UserError
from tfl_research.processes.server_work import Aggregated, Nest, ServerWork

_NUMBER = tf.TensorSpec([], tf.float32)


def initial(work: ServerWork, weights: Sequence[tf.Tensor]) -> Nest:
    """Returns the state of `work.initial_state`, after checking it.

    Raises:
      UserError: the state has something else than tensors, or a name that TensorFlow
        does not take.
    """
    state = autograph.converted_as_needed(work.initial_state)(weights)
    _check_nest(f"{type(work).__name__}.initial_state", state)
    return state


def shared(work: ServerWork, weights: Sequence[tf.Tensor], state: Nest) -> Nest:
    """Returns the values of `work.shared`, after checking them; None for no values.

    Raises:
      UserError: see `initial`.
    """
    values = autograph.converted_as_needed(work.shared)(tuple(weights), state)
    if values is not None:
        _check_nest(f"{type(work).__name__}.shared", values)
    return values


def applied(
    work: ServerWork, weights: Sequence[tf.Tensor], state: Nest, mean: Aggregated
) -> tuple[tuple[tf.Tensor, ...], Nest]:
    """Returns the weights and the state of `work.apply`, after checking them.

    Raises:
      UserError: the weights or the state changed their structure, shape or dtype.
    """
    method = f"{type(work).__name__}.apply"
    result = autograph.converted_as_needed(work.apply)(tuple(weights), state, mean)
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise UserError(
            f"{method} returned {_form(result)}; expected the new weights and the new "
            "state, as (weights, state)"
        )
    new_weights, new_state = result
    return (
        _tensors(f"{method}: the weights", new_weights, weights),
        _nest(f"{method}: the state", new_state, state),
    )


def check_sums(sums_type: tff.StructType) -> None:
    """Compares the names of an objective's sums with what TensorFlow takes.

    Raises:
      UserError: TensorFlow takes no argument of such a name.
    """
    for name in (name for name, _ in tff.structure.iter_elements(sums_type)):
        if name is not None and not structures.is_argument(name):
            raise UserError(
                f"the objective's sums have the name {name!r}, expected letters, "
                "digits, '_', '.', '-' and '/' only; give the sum another name"
            )


def waiting(work: ServerWork, weights: Sequence[tf.Tensor], state: Nest) -> Nest:
    """Returns the state of `work.wait`, after checking it.

    Raises:
      UserError: the state changed its structure, shape or dtype.
    """
    new_state = autograph.converted_as_needed(work.wait)(tuple(weights), state)
    return _nest(f"{type(work).__name__}.wait: the state", new_state, state)


def check_aggregation(
    aggregation: tff.templates.AggregationProcess, update_type: tff.Type
) -> None:
    """Checks that an aggregation's result has the type of an update.

    Raises:
      UserError: the result has another type.
    """
    result_type = aggregation.next.type_signature.result.result.member
    if not update_type.is_assignable_from(result_type):
        raise UserError(
            "--aggregator: its result must have the type of an update, "
            f"{update_type.compact_representation()}, got "
            f"{result_type.compact_representation()}"
        )


def trained(
    result: Any,
    weights: Sequence[tf.Tensor],
    client_state: Optional[tf.Tensor],
    sums: Optional[Mapping[str, tf.TensorSpec]] = None,
) -> ClientResult:
    """Returns the result of a client function, after checking it.

    Args:
      result: the result of the client function.
      weights: the server's weights.
      client_state: the client's state before the round; None if clients keep none.
      sums: specs of the objective's sums by name; None for sums that are not checked.

    Raises:
      UserError: the result is no `ClientResult`; the update differs from the weights
        (the state from the former state, the sums from the objective's sums) in
        structure, shape or dtype; clients keep no state; or TensorFlow does not take a
        name in the report.
    """
    if not isinstance(result, ClientResult):
        raise UserError(
            f"the client work returned {_form(result)}; expected a clients.ClientResult"
        )
    update = _tensors("client work: the update", result.update, weights)
    examples = _tensor("client work: num_examples", result.num_examples, _NUMBER)
    result = result._replace(update=list(update), num_examples=examples)
    if sums is not None:
        result = result._replace(sums=_sums(result.sums, sums))
    _check_nest("client work: the report", result.report)
    if client_state is None and result.client_state is not None:
        raise UserError(
            "the client work returned a client_state, but its initial_client_state "
            "returns None, so that clients keep no state; return the first state there"
        )
    if client_state is not None:
        kept = _tensor("client work: client_state", result.client_state, client_state)
        result = result._replace(client_state=kept)
    return result


def _sums(
    given: Any, expected: Mapping[str, tf.TensorSpec]
) -> collections.OrderedDict[str, tf.Tensor]:
    """Returns the sums in the objective's order, after checking them."""
    names = ", ".join(map(repr, expected))
    if not isinstance(given, Mapping):
        raise UserError(
            f"client work: the sums must be a dict with the objective's sums {names}, "
            f"got {_form(given)}"
        )
    missing = [name for name in expected if name not in given]
    if missing:
        raise UserError(
            f"client work: the sums lack {', '.join(map(repr, missing))}; expected "
            f"the objective's sums {names}, for example from the toolkit's client work"
        )
    extra = [name for name in given if name not in expected]
    if extra:
        raise UserError(
            f"client work: the sums have {', '.join(map(repr, extra))}, which the "
            f"objective's sums {names} do not have, so no metric would show it; leave "
            "it out, or add it to the objective's example_sums"
        )
    return collections.OrderedDict(
        (name, _tensor(f"client work: the sum {name!r}", given[name], spec))
        for name, spec in expected.items()
    )


def _tensors(
    what: str, given: Any, expected: Sequence[tf.Tensor]
) -> tuple[tf.Tensor, ...]:
    if not isinstance(given, (tuple, list)) or len(given) != len(expected):
        raise UserError(
            f"{what} must be a list of {len(expected)} tensors, got {_form(given)}"
        )
    return tuple(
        _tensor(f"{what}, tensor {place}", new, old)
        for place, (new, old) in enumerate(zip(given, expected))
    )


def _nest(what: str, given: Nest, expected: Nest) -> Nest:
    try:
        tf.nest.assert_same_structure(expected, given)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{what} must have the same structure as before, "
            f"{_structure(expected)}, got {_structure(given)}"
        ) from error
    pairs = zip(tf.nest.flatten(given), tf.nest.flatten(expected))
    leaves = [
        _tensor(f"{what}, tensor {place}", new, old)
        for place, (new, old) in enumerate(pairs)
    ]
    return tf.nest.pack_sequence_as(given, leaves)


def _check_nest(what: str, nest: Nest) -> None:
    """Raises UserError for a name that TensorFlow does not take, or for no tensor."""
    if isinstance(nest, Mapping):
        for name, value in nest.items():
            if not isinstance(name, str) or not structures.is_argument(name):
                raise UserError(
                    f"{what} has the name {name!r}, expected letters, digits, '_', "
                    "'.', '-' and '/' only; give it another name"
                )
            _check_nest(what, value)
    elif isinstance(nest, (tuple, list)):
        for value in nest:
            _check_nest(what, value)
    elif nest is None:
        raise UserError(f"{what} has None, expected tensors; give () for nothing")


def _tensor(what: str, given: Any, expected: Any) -> tf.Tensor:
    try:
        if not tf.is_tensor(given):
            given = tf.convert_to_tensor(given)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{what} must be {_form(expected)}, got {_form(given)}"
        ) from error
    fits = given.shape.is_compatible_with(expected.shape)
    if given.dtype != expected.dtype or not fits:
        raise UserError(f"{what} must be {_form(expected)}, got {_form(given)}")
    if given.shape.is_fully_defined() or not expected.shape.is_fully_defined():
        return given
    return tf.ensure_shape(given, expected.shape)


def _structure(value: Nest) -> str:
    return str(tf.nest.map_structure(lambda _: ".", value))


def _form(value: Any) -> str:
    if isinstance(value, (tf.Tensor, tf.TensorSpec)):
        return f"{value.dtype.name} of shape {list(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return type(value).__name__
