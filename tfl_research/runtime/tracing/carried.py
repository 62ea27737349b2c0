"""Loops and branches that carry variables and guards along with tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Optional

import tensorflow as tf

from tfl_research.runtime.tracing.interpreter import CannotTrace, State, Value, Variable


@dataclasses.dataclass(frozen=True)
class Carried:
    """The state that a loop or a branch may change.

    Attributes:
      state: the state before the loop.
      keys: the variables that may change.
    """

    state: State
    keys: tuple[str, ...]

    @classmethod
    def of(cls, state: State, values: Iterable[Value]) -> Carried:
        """Makes a `Carried` of the variables among the arguments of functions."""
        keys = {value.key for value in values if isinstance(value, Variable)}
        missing = sorted(keys - set(state.variables))
        if missing:
            raise CannotTrace(
                f"a loop or branch gets the variable {missing[0]} before a first value"
            )
        return cls(state, tuple(sorted(keys)))

    def tensors(self) -> list[tf.Tensor]:
        """Returns the carried tensors, with `violated` last."""
        return [
            *(self.state.variables[key] for key in self.keys),
            self.state.violated,
        ]

    def inside(self, tensors: Sequence[tf.Tensor]) -> State:
        """Returns the state inside of a loop's body, with the body's own tensors."""
        variables = {**self.state.variables, **dict(zip(self.keys, tensors))}
        return State(variables, tensors[len(self.keys)])

    def after(self, inner: State) -> list[tf.Tensor]:
        """Returns the carried tensors at the end of a body.

        Raises:
          CannotTrace: the body changed another variable.
        """
        for key, value in inner.variables.items():
            if key not in self.keys and self.state.variables.get(key) is not value:
                raise CannotTrace(f"a loop or branch changes the variable {key}")
        return [*(inner.variables[key] for key in self.keys), inner.violated]

    def leave(self, tensors: Sequence[tf.Tensor]) -> None:
        """Sets the state to the values after the loop."""
        self.state.variables.update(zip(self.keys, tensors))
        self.state.violated = tensors[len(self.keys)]


# (tensors, state) -> new tensors; changes the state.
Step = Callable[[list[tf.Tensor], State], Sequence[tf.Tensor]]
Condition = Callable[[list[tf.Tensor], State], tf.Tensor]


def loop(
    condition: Condition,
    step: Step,
    start: Sequence[tf.Tensor],
    shapes: Sequence[tf.TensorShape],
    carried: Carried,
    parallel_iterations: int = 1,
    name: Optional[str] = None,
) -> list[tf.Tensor]:
    """Executes a loop, and changes the carried state.

    Args:
      condition: returns whether to go on; does not change the state.
      step: one iteration.
      start: tensors before the first iteration.
      shapes: static shapes of the tensors in all iterations.
      carried: the state that the loop may change.
      parallel_iterations: see `tf.while_loop`.
      name: the name of the loop, in the messages of a compiler.

    Returns:
      The tensors after the last iteration.
    """
    number = len(start)
    common = [
        value.shape.most_specific_compatible_shape(shape)
        for value, shape in zip(start, shapes)
    ]
    common += [tensor.shape for tensor in carried.tensors()]

    def go_on(*values: tf.Tensor) -> tf.Tensor:
        state = carried.inside(values[number:])
        violated = state.violated
        result = condition(list(values[:number]), state)
        if state.violated is not violated:
            raise CannotTrace("a loop's condition has an operation that may fail")
        return result

    def body(*values: tf.Tensor) -> list[tf.Tensor]:
        state = carried.inside(values[number:])
        results = [*step(list(values[:number]), state), *carried.after(state)]
        for result, shape in zip(results, common):
            result.set_shape(shape)
        return results

    results = tf.while_loop(
        go_on,
        body,
        [*start, *carried.tensors()],
        shape_invariants=common,
        parallel_iterations=parallel_iterations,
        name=name,
    )
    carried.leave(results[number:])
    return list(results[:number])
