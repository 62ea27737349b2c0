"""Encodes a nest's leaves as bytes with exact dtypes, and decodes them."""

from __future__ import annotations

import struct
import sys
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from tfl_research.storage import nest

_PYTHON_TYPES = {"bool": bool, "int": int, "float": float, "complex": complex}
_TEXT_TYPES: dict[str, type[Any]] = {"python_bytes": bytes, "python_text": str}
# Names instead of a dtype, for arrays of texts of any length.
_BYTES, _TEXT = "bytes", "text"


def _kind(leaf: Any) -> str:
    for name, python_type in {**_PYTHON_TYPES, **_TEXT_TYPES}.items():
        if type(leaf) is python_type:
            return name
    if isinstance(leaf, np.generic):
        return "scalar"
    return "tensor" if type(leaf).__module__.startswith("tensorflow") else "array"


def _dtype_name(array: np.ndarray) -> str:
    dtype = array.dtype
    if dtype.kind in "OSU":
        return _TEXT if any(isinstance(each, str) for each in array.flat) else _BYTES
    # NumPy's types with byte order and width; TensorFlow's types (bfloat16) have only
    # a name.
    return dtype.name if dtype.kind == "V" else dtype.str


def _as_array(path: str, leaf: Any) -> np.ndarray:
    if isinstance(leaf, (bytes, str)):
        # The array has objects, since NumPy's own texts lose zero bytes at their end.
        array = np.empty((), object)
        array[()] = leaf
        return array
    array = nest.as_array(leaf)
    texts = array.dtype.kind == "O" and (
        all(isinstance(each, bytes) for each in array.flat)
        or all(isinstance(each, str) for each in array.flat)
    )
    if (array.dtype.kind == "O" and not texts) or (
        array.dtype.kind == "V" and array.dtype.names
    ):
        raise ValueError(
            f"state{path} is a {type(leaf).__name__}; expected an array, a number, a "
            "text or a tensor"
        )
    return array


def _content(array: np.ndarray) -> bytes:
    if array.dtype.kind not in "OSU":
        return array.tobytes()
    texts = [t.encode() if isinstance(t, str) else bytes(t) for t in array.flat]
    return b"".join(struct.pack("<Q", len(text)) + text for text in texts)


def _texts(raw: bytes, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Decodes the texts of `_content` to an array of objects."""
    texts: list[Any] = []
    position = 0
    while position < len(raw):
        (length,) = struct.unpack_from("<Q", raw, position)
        position += 8
        text = raw[position : position + length]
        texts.append(text.decode() if dtype == _TEXT else text)
        position += length
    array = np.empty(len(texts), object)
    array[:] = texts
    return array.reshape(shape)


def encode(value: Any) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Returns a JSON description and the bytes of every leaf, in the same order.

    Raises:
      ValueError: a leaf is neither an array, a number, a text nor a tensor.
    """
    described, content = [], []
    for path, leaf in nest.flatten(value):
        array = _as_array(path, leaf)
        raw = _content(array)
        described.append(
            {
                "path": path,
                "kind": _kind(leaf),
                "dtype": _dtype_name(array),
                "shape": list(array.shape),
                "bytes": len(raw),
            }
        )
        content.append(raw)
    return described, content


def _dtypes_fit(stored: str, expected: np.ndarray, kinds: Sequence[str]) -> bool:
    if stored in (_BYTES, _TEXT):
        return expected.dtype.kind in "OSU"
    if expected.dtype.kind in "OSU":
        # Earlier versions stored texts of a fixed length.
        return stored == expected.dtype.str
    if any(kind in _PYTHON_TYPES for kind in kinds):
        # A Python number stands for any width of its kind.
        return np.dtype(stored).kind == expected.dtype.kind
    return stored == _dtype_name(expected)


def decode(
    described: Sequence[dict[str, Any]],
    content: memoryview,
    template: Any,
    any_shape: Collection[str] = (),
) -> tuple[Any, memoryview]:
    """Decodes leaves to the structure of `template`; returns also remaining bytes.

    A leaf has its original type: a Python number or text, a NumPy scalar, a writable
    array, or a TensorFlow tensor for any other array type.

    Args:
      described: the description from `encode`.
      content: the leaves' bytes, and further bytes after them.
      template: a nest of the same structure, shapes and dtypes.
      any_shape: paths of leaves with a shape that may differ from the template's.

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
        fits = shape == expected.shape or path in any_shape
        if not fits or not _dtypes_fit(dtype, expected, (kind, _kind(like))):
            raise ValueError(
                f"its state{path} is {dtype} {list(shape)}, expected "
                f"{_dtype_name(expected)} {list(expected.shape)}"
            )
        if dtype in (_BYTES, _TEXT):
            return _restored_texts(_texts(bytes(raw), shape, dtype), kind, expected)
        # The template's dtype is used if possible: NumPy does not know the names of
        # TensorFlow's types.
        is_templates = dtype == _dtype_name(expected)
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


def _restored_texts(texts: np.ndarray, kind: str, like: np.ndarray) -> Any:
    """Restores the type of texts: a text, a NumPy scalar, an array or a tensor."""
    if kind in _TEXT_TYPES:
        return texts[()]
    if kind == "tensor" and "tensorflow" in sys.modules:
        tensorflow = sys.modules["tensorflow"]
        return tensorflow.constant(texts, tensorflow.string)
    if like.dtype.kind in "SU" or kind == "scalar":
        fixed = texts.astype(
            "U" if any(isinstance(t, str) for t in texts.flat) else "S"
        )
        return fixed[()] if kind == "scalar" else fixed
    return texts
