"""Digests of TFF computations."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any


class BuildingBlocks:
    """Digests the building blocks of one computation, without the names in it.

    Args:
      content: returns the content to digest of a TensorFlow computation, which is a
        `Computation` of TFF's protocol; the `repr` of the content is digested.
    """

    def __init__(self, content: Callable[[Any], Any]):
        self._content, self._bound = content, 0

    def _bind(self, name: str, names: Mapping[str, int]) -> dict[str, int]:
        """Adds a name to the names in scope; names are numbered in order of binding."""
        self._bound += 1
        return {**names, name: self._bound}

    def digest(self, message: Any) -> str:
        """SHA-256 of a serialised computation, a `Computation` of TFF's protocol."""
        return self._digest(message, {})

    def _digest(self, message: Any, names: Mapping[str, int]) -> str:
        kind = message.WhichOneof("computation")
        part = getattr(message, kind)
        content: Any
        if kind == "tensorflow":
            content = self._content(message)
        elif kind == "block":
            content = []
            for local in part.local:
                content.append(self._digest(local.value, names))
                names = self._bind(local.name, names)
            content.append(self._digest(part.result, names))
        elif kind == "call":
            content = [self._digest(part.function, names)]
            if part.HasField("argument"):
                content.append(self._digest(part.argument, names))
        elif kind == "lambda":
            inner = self._bind(part.parameter_name, names)
            content = self._digest(part.result, inner)
        elif kind == "reference":
            content = names[part.name]
        elif kind == "selection":
            content = (self._digest(part.source, names), part.index)
        elif kind == "struct":
            content = [
                (element.name, self._digest(element.value, names))
                for element in part.element
            ]
        else:
            # Intrinsics, placements, literals and data have no local names.
            content = part.SerializeToString(deterministic=True)
        type_bytes = message.type.SerializeToString(deterministic=True)
        return hashlib.sha256(repr((kind, type_bytes, content)).encode()).hexdigest()
