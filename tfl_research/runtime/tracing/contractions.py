"""Einstein sums of two tensors as matrix products.

TensorFlow's `Einsum` transposes its arguments in every call, and XLA transposes those
that are summed over several axes. A matrix product takes both orders of an argument's
axes, so that most transpositions are not needed, and equal transpositions of several
products are computed once. Keras' attention layers consist of Einstein sums.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Optional, Union

import tensorflow as tf

EINSUM = "Einsum"

# A size that is known, or a scalar.
_Size = Union[int, tf.Tensor]


def of_node(node: Any, inputs: Sequence[tf.Tensor]) -> Optional[tf.Tensor]:
    """Computes an `Einsum` NodeDef as a product; returns None if it is no product."""
    if len(inputs) != 2:
        return None
    return as_product(node.attr["equation"].s.decode(), *inputs)


def as_product(equation: str, left: tf.Tensor, right: tf.Tensor) -> Optional[tf.Tensor]:
    """Computes the Einstein sum of two tensors as a matrix product.

    Args:
      equation: an equation of letters, such as "abc,cd->abd".
      left, right: the two tensors, of known rank.

    Returns:
      The sum. None if the sum is no matrix product: no letter is summed over, a letter
      that is summed over occurs in one argument only, a letter occurs twice in one
      argument, or the equation has "...". None also if a product would accept
      arguments of unequal sizes that `Einsum` refuses.
    """
    letters = _letters(equation)
    if letters is None:
        return None
    first, second, result = letters
    if len(first) != left.shape.rank or len(second) != right.shape.rank:
        return None
    batch = [c for c in result if c in first and c in second]
    rows = [c for c in result if c not in second]
    columns = [c for c in result if c not in first]
    summed = [c for c in first if c not in result]
    if rows and columns and result.index(rows[0]) > result.index(columns[0]):
        # With the arguments exchanged, the result needs fewer transpositions.
        left, right, first, second = right, left, second, first
        rows, columns = columns, rows
    sizes, others = _sizes(first, left), _sizes(second, right)
    if not _refuses_unequal_sizes(sizes, others, batch):
        return None
    for letter, size in others.items():
        if isinstance(size, int) or letter not in sizes:
            sizes[letter] = size
    a, is_transposed = _as_matrices(left, first, batch, rows, summed, sizes)
    b, is_summed_last = _as_matrices(right, second, batch, columns, summed, sizes)
    product = tf.linalg.matmul(
        a, b, transpose_a=is_transposed, transpose_b=not is_summed_last
    )
    order = [*batch, *rows, *columns]
    product = tf.reshape(product, [sizes[c] for c in order])
    if order == list(result):
        return product
    return tf.transpose(product, [order.index(c) for c in result])


def _letters(equation: str) -> Optional[tuple[str, str, str]]:
    """Reads the letters of arguments and result; returns None for no matrix product."""
    terms, arrow, result = equation.replace(" ", "").partition("->")
    first, comma, second = terms.partition(",")
    if not (arrow and comma and (first + second + result).isalpha()):
        return None
    if any(len(set(part)) != len(part) for part in (first, second, result)):
        return None
    alone = set(first) ^ set(second)
    is_summed = (set(first) & set(second)) - set(result)
    return (first, second, result) if alone <= set(result) and is_summed else None


def _sizes(letters: str, tensor: tf.Tensor) -> dict[str, _Size]:
    known = tensor.shape.as_list()
    dynamic: Any = None if None not in known else tf.shape(tensor)
    return {
        letter: dynamic[place] if size is None else size
        for place, (letter, size) in enumerate(zip(letters, known))
    }


def _refuses_unequal_sizes(
    sizes: dict[str, _Size], others: dict[str, _Size], batch: Sequence[str]
) -> bool:
    """Whether a product fails, as `Einsum` does, if letters have unequal sizes.

    A product would broadcast a batch size of 1. If the sizes of two letters are not
    known, the product compares only how many elements both have together.

    Args:
      sizes, others: the sizes of the two arguments' axes, by letter.
      batch: the letters that occur in both arguments and in the result.
    """
    unknown = []
    for letter in sizes.keys() & others.keys():
        one, other = sizes[letter], others[letter]
        if not (isinstance(one, int) and isinstance(other, int)):
            unknown.append(letter)
        elif one != other:
            return False
    return len(unknown) < 2 and not set(unknown) & set(batch)


def _as_matrices(
    tensor: tf.Tensor,
    letters: str,
    batch: Sequence[str],
    free: Sequence[str],
    summed: Sequence[str],
    sizes: dict[str, _Size],
) -> tuple[tf.Tensor, bool]:
    """Reshapes an argument to `[*batch, free, summed]` or `[*batch, summed, free]`.

    Returns:
      The matrices, and whether the axes are exchanged.
    """
    exchanged = list(letters) == [*batch, *summed, *free]
    if not exchanged and list(letters) != [*batch, *free, *summed]:
        # The last axis stays last where it can. So the products in which a tensor
        # occurs, of predictions and of gradients, transpose the tensor alike.
        exchanged = letters[-1] in free
    groups = (summed, free) if exchanged else (free, summed)
    order = [*batch, *groups[0], *groups[1]]
    if list(letters) != order:
        tensor = tf.transpose(tensor, [letters.index(c) for c in order])
    shape = [sizes[c] for c in batch]
    shape += [math.prod(sizes[c] for c in group) for group in groups]
    return tf.reshape(tensor, shape), exchanged
