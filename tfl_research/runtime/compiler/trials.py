"""Tries whether constants as arguments change the bits of a program's results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from tfl_research import _tff_compat, interrupts
from tfl_research.runtime.compiler.families import Program

# How many numbers of the results must depend on a constant, so that equal bits are no
# chance: joining two products changes a tenth of the numbers or more.
_NUMBERS = 256
# Largest number of executions with other values, if results have few numbers.
_MOST = 64


def calling(
    program: Program, constants: Sequence[float]
) -> Callable[..., list[tf.Tensor]]:
    """The program as a function of structures of tensors.

    Args:
      program: to call.
      constants: that the program has.
    """
    call = program.call
    given = [tf.constant(constants[index]) for index in program.lifted]

    def run(*values: Any) -> list[tf.Tensor]:
        # A function without results, if clients send nothing, returns None.
        results = list(call(*given, *tf.nest.flatten(values)) or ())
        _tff_compat.free_attributes(results)
        return results

    return run


def agree(lifted: Program, reference: Program, values: Sequence[Any]) -> Optional[bool]:
    """Whether both give the same bits with the reference's constants.

    Values can hide a difference: zeros stay zeros for any factor, and a few numbers may
    be equal by chance. So both programs also get values near the given ones, and enough
    numbers of the results must depend on each constant.

    Args:
      lifted: the program with arguments.
      reference: the program that contains its constants, except common arguments.
      values: the arguments of both programs without the constants.

    Returns:
      Whether the bits are equal. False also if too few numbers depend on a constant.
      None if the programs fail on the values, so that the trial shows nothing.
    """
    constants = reference.constants
    theirs, ours = calling(reference, constants), calling(lifted, constants)
    tried = set(lifted.lifted) - set(reference.lifted)
    others = {i: calling(lifted, _changed(constants, i)) for i in tried}
    dependent = dict.fromkeys(others, 0)
    generator = np.random.default_rng(0)
    given: Any = values
    try:
        for number in range(1, _MOST + 1):
            found = ours(*given)
            if _differing(found, theirs(*given)):
                return False
            for index, other in others.items():
                if dependent[index] < _NUMBERS:
                    dependent[index] += _differing(found, other(*given))
            fewest = min(dependent.values())
            if number > 1 and fewest >= _NUMBERS:
                return True
            if number > 1 and fewest * _MOST < _NUMBERS * number:
                return False
            given = tf.nest.map_structure(lambda v: _near(v, generator), values)
    except tf.errors.OpError:
        interrupts.check()
        return None
    return False


def _changed(constants: Sequence[float], index: int) -> list[float]:
    changed = list(constants)
    changed[index] *= 1.25
    return changed


def _near(value: Any, generator: np.random.Generator) -> tf.Tensor:
    """Changes floats slightly; tensors of other dtypes do not change."""
    tensor = tf.convert_to_tensor(value)
    if not tensor.dtype.is_floating:
        return tensor
    near = tf.cast(tensor, tf.float32).numpy()
    for start in (near, 1.0):
        near = near + 0.1 * start * generator.standard_normal(tensor.shape, np.float32)
    return tf.cast(near, tensor.dtype)


def _differing(results: Sequence[tf.Tensor], others: Sequence[tf.Tensor]) -> int:
    """How many numbers of the results have other bits."""
    return sum(
        int(np.count_nonzero((_bytes(a) != _bytes(b)).any(axis=1)))
        for a, b in zip(results, others)
    )


def _bytes(result: tf.Tensor) -> np.ndarray:
    numbers = np.ascontiguousarray(result).reshape(-1)
    return numbers.view(np.uint8).reshape(len(numbers), result.dtype.size)
