"""Maps components of a dataset's elements to arrays, and recognises batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

import tensorflow as tf

from tfl_research.data.arrays import structures

Keys = Union[None, str, Sequence[str], Mapping[str, str]]


class Names:
    """The mapping from an element's components to arrays.

    Args:
      x: see `from_datasets`.
      y: see `from_datasets`.
      weight: see `from_datasets`.
    """

    def __init__(self, x: Keys, y: Keys, weight: Optional[str]):
        if x is None and not (y is None and weight is None):
            raise ValueError(
                "y is given without x; give x too: the name of the input in the "
                "elements"
            )
        self._x, self._y, self._weight = x, y, weight

    def flat(self, where: str, element: Any) -> dict[str, Any]:
        """Returns the components of an element, or of its spec, by flat name.

        Raises:
          ValueError: the element has another form.
        """
        if self._x is not None:
            parts = self._chosen(where, element)
        elif isinstance(element, Mapping):
            parts = dict(element)
        elif isinstance(element, tuple) and len(element) in (2, 3):
            parts = dict(zip(("x", "y", structures.SAMPLE_WEIGHT), element))
        elif isinstance(element, tuple):
            raise ValueError(
                f"{where}: elements are tuples of {len(element)}, expected (x, y) or "
                "(x, y, sample_weight)"
            )
        else:
            parts = {"x": element}
        flat: dict[str, Any] = {}
        for name, value in parts.items():
            if name not in ("x", "y", structures.SAMPLE_WEIGHT):
                raise ValueError(
                    f"{where}: elements have the name {name!r}, expected x, y and "
                    "sample_weight; name the input and the label by x= and y="
                )
            if isinstance(value, (tuple, list)):
                raise ValueError(
                    f"{where}: {name} is a {type(value).__name__} of tensors; give a "
                    "dict of them, by the names of the model's inputs"
                )
            try:
                flat.update(structures.flattened(name, value))
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None
        return flat

    def _chosen(self, where: str, element: Any) -> dict[str, Any]:
        if not isinstance(element, Mapping):
            raise ValueError(
                f"{where}: x={self._x!r} names a component of dict elements, but "
                f"elements are {type(element).__name__}"
            )
        chosen: dict[str, Any] = {}
        for name, keys in (
            ("x", self._x),
            ("y", self._y),
            (structures.SAMPLE_WEIGHT, self._weight),
        ):
            if keys is None:
                continue
            if isinstance(keys, str):
                chosen[name] = _component(where, element, keys)
            else:
                pairs = keys if isinstance(keys, Mapping) else {k: k for k in keys}
                chosen[name] = {
                    part: _component(where, element, key) for part, key in pairs.items()
                }
        return chosen


def _component(where: str, element: Mapping[str, Any], key: str) -> Any:
    if key not in element:
        raise ValueError(
            f"{where}: elements have no {key!r}; they have {', '.join(element)}"
        )
    return element[key]


def is_batched(
    where: str, specs: Mapping[str, Any], given: Optional[bool], sequences: bool
) -> bool:
    """Whether elements are batches; raises ValueError if that cannot be decided."""
    shapes = {name: spec.shape for name, spec in specs.items()}
    scalar = [n for n, shape in shapes.items() if shape.rank == 0]
    if given is not None:
        if given and scalar:
            raise ValueError(
                f"{where}: {scalar[0]} has no axis of examples, but batched=True is "
                "given; give batched=False"
            )
        return given
    if scalar:
        return False
    if any(shape.rank is None for shape in shapes.values()):
        raise ValueError(
            f"{where}: components of unknown rank; give batched=True or batched=False"
        )
    first = {shape[0] for shape in shapes.values()}
    if len(first) > 1:
        return False
    sequences = sequences or all(shape.rank == 1 for shape in shapes.values())
    if first == {None} and not sequences and len(shapes) > 1:
        return True
    shown = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    raise ValueError(
        f"{where}: the shapes of elements ({shown}) do not tell whether the elements "
        "are batches; give batched=True or batched=False"
    )


def check_specs(where: str, specs: Mapping[str, Any]) -> None:
    """Raises ValueError unless the components are tensors, dense or ragged."""
    for name, spec in specs.items():
        if isinstance(spec, tf.SparseTensorSpec):
            raise ValueError(
                f"{where}: {name} is sparse; make it dense by tf.sparse.to_dense"
            )
        if not isinstance(spec, (tf.TensorSpec, tf.RaggedTensorSpec)):
            raise ValueError(
                f"{where}: {name} is a {type(spec).__name__}, expected a tensor"
            )
