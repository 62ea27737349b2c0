"""Refuses integers that are too large for a Keras model that takes floats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

import numpy as np

from tfl_research.data.arrays import structures
from tfl_research.data.arrays.exactness import rounded_integers
from tfl_research.tasks.objectives.rules import Wrong


class FloatInputs:
    """Checks that a model's float inputs can represent a client's integers.

    Keras silently converts a model's inputs to the types of its `Input`. A model
    without `Input` does not convert.

    Args:
      model: a built Keras model.
      arrays: a client's inputs by flat name.
    """

    def __init__(self, model: Any, arrays: Mapping[str, np.ndarray]):
        names = [name for name in arrays if structures.of(name) == "x"]
        inputs = list(getattr(model, "inputs", None) or [])
        by_name = dict(zip(getattr(model, "input_names", None) or [], inputs))
        found = {"x": inputs[0]} if names == ["x"] and len(inputs) == 1 else {}
        if names != ["x"]:
            found = {n: by_name[n[2:]] for n in names if n[2:] in by_name}
        self._names = [
            name
            for name, tensor in found.items()
            if arrays[name].dtype.kind in "iu" and tensor.dtype.is_floating
        ]

    def wrong_number(self, examples: Mapping[str, np.ndarray]) -> Optional[Wrong]:
        """Finds a client's first row with an integer that is too large, or None."""
        for name in self._names:
            rounded = rounded_integers(examples[name])
            if rounded.any():
                row = int(np.argwhere(rounded)[0][0])
                return Wrong(
                    row,
                    f"{examples[name][rounded].flat[0]} of {name} would be rounded in "
                    "float32, which the model's input takes; give the input an integer "
                    "dtype, as Input(..., dtype='int64'), or scale the numbers",
                )
        return None
