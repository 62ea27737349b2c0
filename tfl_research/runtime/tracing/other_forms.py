"""Operations that programs execute in another form than the process' graph has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import tensorflow as tf

from tfl_research.runtime.tracing import contractions, normalization, rows, xla_forms
from tfl_research.runtime.tracing.xla_forms import Formed


def may_have(node: Any, *, for_xla: bool) -> bool:
    """Whether a NodeDef may have another form.

    Args:
      node: a node of a graph that is traced.
      for_xla: whether XLA compiles the program.
    """
    if node.op == contractions.EINSUM or normalization.may_vary(node):
        return True
    return for_xla and (rows.may_be_indexed(node) or xla_forms.has_form(node))


def of(node: Any, inputs: Sequence[tf.Tensor]) -> Optional[Formed]:
    """Computes a node in another form, if it has another form.

    Args:
      node: a NodeDef for which `may_have` is true.
      inputs: the values of the node's inputs.

    Returns:
      The values of the node's outputs; None if the operation is executed unchanged.
    """
    if node.op == contractions.EINSUM:
        product = contractions.of_node(node, inputs)
        return None if product is None else Formed([product])
    if normalization.may_vary(node):
        outputs = normalization.plain(node, inputs)
        return None if outputs is None else Formed(outputs)
    if rows.may_be_indexed(node):
        return rows.indexed(node, inputs)
    return xla_forms.formed(node, inputs)
