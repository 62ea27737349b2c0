"""Token ids that reach a Keras model's embedding layers, and those out of range.

An embedding looks a row up for each id. If an id has no row, a graph on a CPU raises an
error, but XLA takes the nearest row, and a GPU takes zeros. So ids are compared with
`input_dim` before training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from tfl_research.data.arrays import structures
from tfl_research.models.modules import modules_of
from tfl_research.tasks.objectives.rules import Wrong, first_entry, rows_where
from tfl_research.tasks.objectives.tracing import Traced


class EmbeddedIds:
    """Computes the ids that reach each embedding, for a client's examples.

    Layers before an embedding, such as a string lookup, are computed. Layers after the
    embedding are not computed. Embeddings within a loop are not checked.

    Args:
      model: a built Keras model. This class changes the model's embedding layers, so
        that they note their inputs.
    """

    def __init__(self, model: tf.keras.Model):
        self._model = model
        self._noted: list[tuple[Any, tf.Tensor]] = []
        self._is_tracing = False
        self._limits: list[tuple[str, int]] = []
        layers = [
            m for m in modules_of(model) if isinstance(m, tf.keras.layers.Embedding)
        ]
        self._ids: Any = None
        if layers and all(_takes_the_input(layer, model) for layer in layers):
            self._limits = [(layer.name, layer.input_dim) for layer in layers]
            self._ids = lambda x: [x for _ in layers]
        elif layers:
            for layer in layers:
                layer.call = self._noting(layer)
            self._ids = Traced("the model", self._traced_ids, is_pure=False)

    def _noting(self, layer: Any) -> Any:
        call = layer.call

        def noting(inputs: Any) -> Any:
            if not self._is_tracing:
                return call(inputs)
            # No row is looked up, since an id out of range would raise an error.
            if isinstance(inputs, tf.RaggedTensor):
                # Rows are padded with id 0, which every embedding has.
                self._noted.append((layer, inputs.to_tensor()))
                shape = [*tf.unstack(tf.shape(inputs.flat_values)), layer.output_dim]
                return inputs.with_flat_values(tf.zeros(shape))
            ids = tf.convert_to_tensor(inputs)
            self._noted.append((layer, ids))
            return tf.zeros([*tf.unstack(tf.shape(ids)), layer.output_dim])

        return noting

    def _traced_ids(self, x: Any) -> list[tf.Tensor]:
        self._noted.clear()
        self._is_tracing = True
        try:
            self._model(x, training=False)
        finally:
            self._is_tracing = False
        graph = tf.compat.v1.get_default_graph()
        held = [(layer, ids) for layer, ids in self._noted if ids.graph is graph]
        self._limits = [(layer.name, layer.input_dim) for layer, _ in held]
        return [ids for _, ids in held]

    def wrong_id(self, examples: Mapping[str, np.ndarray]) -> Optional[Wrong]:
        """Finds a client's first row with an id that an embedding lacks, or None."""
        if self._ids is None:
            return None
        found: Sequence[Any] = self._ids(structures.packed(examples, "x"))
        for ids, (name, input_dim) in zip(found, self._limits):
            values = np.asarray(ids)
            row = None
            if len(values) and values.dtype.kind == "f":
                wrong = values != np.floor(values)
                row = rows_where(wrong)
            if row is not None:
                return Wrong(
                    row,
                    f"token {first_entry(values, wrong, row)} in Embedding {name!r}, "
                    "which would cut it; expected whole numbers",
                )
            wrong = ~((values >= 0) & (values < input_dim))
            row = rows_where(wrong) if len(values) else None
            if row is not None:
                return Wrong(
                    row,
                    f"token {first_entry(values, wrong, row)} in Embedding {name!r}, "
                    f"expected 0 to {input_dim - 1}; give the layer a larger "
                    "input_dim, or the token another id",
                )
        return None


def _takes_the_input(layer: Any, model: tf.keras.Model) -> bool:
    """Whether an embedding's only input is the only input of the model."""
    nodes, inputs = layer.inbound_nodes, model.inputs or []
    return len(nodes) == len(inputs) == 1 and layer.input is inputs[0]
