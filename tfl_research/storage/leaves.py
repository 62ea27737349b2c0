"""A nest's leaves as bytes with exact dtypes, and back."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfl_research.storage import nest

_PYTHON_TYPES = {"bool": bool, "int": int, "float": float}


def _kind(leaf: Any) -> str:
    for name, python_type in _PYTHON_TYPES.items():
        if type(leaf) is python_type:
            return name
    if isinstance(leaf, np.generic):
        return "scalar"
    return "tensor" if type(leaf).__module__.startswith("tensorflow") else "array"


def _dtype_name(dtype: np.dtype) -> str:
    # NumPy's types with byte order and width; TensorFlow's types (bfloat16) have only
    # a name.
    return dtype.name if dtype.kind == "V" else dtype.str


def _as_array(path: str, leaf: Any) -> np.ndarray:
    array = np.asarray(leaf)
    if array.dtype.kind == "O" or (array.dtype.kind == "V" and array.dtype.names):
        raise ValueError(
            f"state{path} is a {type(leaf).__name__}; expected an array, a number or "
            "a tensor"
        )
    return array


def encode(value: Any) -> tuple[list[dict[str, Any]], list[bytes]]:
    """A JSON description of every leaf, and every leaf's bytes, in the same order.

    Raises:
      ValueError: a leaf that is neither an array, a number nor a tensor.
    """
    described, content = [], []
    for path, leaf in nest.flatten(value):
        array = _as_array(path, leaf)
        described.append(
            {
                "path": path,
                "kind": _kind(leaf),
                "dtype": _dtype_name(array.dtype),
                "shape": list(array.shape),
                "bytes": array.nbytes,
            }
        )
        content.append(array.tobytes())
    return described, content


def _dtypes_fit(stored: str, expected_dtype: np.dtype, kinds: Sequence[str]) -> bool:
    if any(kind in _PYTHON_TYPES for kind in kinds):
        # A Python number stands for any width of its kind.
        return np.dtype(stored).kind == expected_dtype.kind
    return stored == _dtype_name(expected_dtype)


def decode(
    described: Sequence[dict[str, Any]], content: memoryview, template: Any
) -> tuple[Any, memoryview]:
    """The stored leaves in the structure of `template`, and the remaining bytes.

    A leaf has its original type: a Python number, a NumPy scalar, a writable array, or
    a TensorFlow tensor for any other array type.

    Raises:
      ValueError: structure, shape or dtype differ from the template's.
    """
    stored: dict[str, tuple[dict[str, Any], memoryview]] = {}
    for description in described:
        size = description["bytes"]
        stored[description["path"]] = (description, content[:size])
        content = content[size:]
    template_leaves = dict(nest.flatten(template))
    for path in template_leaves:
        if path not in stored:
            raise ValueError(f"it has no state{path}")
    for path in stored:
        if path not in template_leaves:
            raise ValueError(f"it has a state{path}, which the process has not")

    def restored(path: str, like: Any) -> Any:
        description, raw = stored[path]
        expected = _as_array(path, like)
        shape, dtype = tuple(description["shape"]), description["dtype"]
        kind = description["kind"]
        if shape != expected.shape or not _dtypes_fit(
            dtype, expected.dtype, (kind, _kind(like))
        ):
            raise ValueError(
                f"its state{path} is {dtype} {list(shape)}, expected "
                f"{_dtype_name(expected.dtype)} {list(expected.shape)}"
            )
        # The template's dtype if possible: NumPy does not know the names of
        # TensorFlow's types.
        is_templates = dtype == _dtype_name(expected.dtype)
        exact = expected.dtype if is_templates else np.dtype(dtype)
        array = np.frombuffer(raw, exact).reshape(shape).copy()
        if kind in _PYTHON_TYPES:
            return _PYTHON_TYPES[kind](array[()])
        if kind == "scalar":
            return array[()]
        # A template with tensors has imported TensorFlow; otherwise an array will do.
        if kind == "tensor" and "tensorflow" in sys.modules:
            return sys.modules["tensorflow"].constant(array)
        return array

    return nest.map_with_path(restored, template), content
