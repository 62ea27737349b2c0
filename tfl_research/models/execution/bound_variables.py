"""Makes variables read as tensors while a model is traced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

# The class of bound variables for each class of variables.
_BOUND_KINDS: dict[type, type] = {}


class _Binding:
    """The value of a variable while a model is traced.

    Attributes:
      value: a tensor of the traced graph.
      graph: the traced graph.
      assigned: whether the model assigned a value.
    """

    def __init__(self, value: tf.Tensor, graph: Any):
        self.value = value
        self.graph = graph
        self.assigned = False


class Values:
    """The variables' values in the traced graph; see `bound`."""

    def __init__(self, bindings: Sequence[_Binding]):
        self._bindings = bindings

    def tensors(self) -> list[tf.Tensor]:
        """Returns the values after all assignments so far."""
        return [binding.value for binding in self._bindings]

    def assigned(self) -> list[bool]:
        """Whether the model assigned a value to each variable."""
        return [binding.assigned for binding in self._bindings]


@contextmanager
def bound(
    variables: Sequence[tf.Variable], tensors: Sequence[tf.Tensor]
) -> Iterator[Values]:
    """Makes variables read as tensors of the current graph.

    An assignment to a variable changes its value in the graph, and not the variable. As
    with variables, no gradient flows through an assigned value. The variables' class
    changes, and changes back at the end. So the objects that hold the variables
    (layers, closures, wrappers of mixed precision) need no change.

    Args:
      variables: resource variables, all different.
      tensors: a value of the same shape and dtype for each variable.
    """
    graph = tf.compat.v1.get_default_graph()
    bindings = [_Binding(tensor, graph) for tensor in tensors]
    kinds = [type(variable) for variable in variables]
    try:
        for variable, kind, binding in zip(variables, kinds, bindings):
            vars(variable)["_tfl_binding"] = binding
            variable.__class__ = _bound_kind(kind)
        yield Values(bindings)
    finally:
        for variable, kind in zip(variables, kinds):
            variable.__class__ = kind
            vars(variable).pop("_tfl_binding", None)


def _bound_kind(kind: type) -> type:
    if kind not in _BOUND_KINDS:
        _BOUND_KINDS[kind] = type(f"Bound{kind.__name__}", (_BoundVariable, kind), {})
    return _BOUND_KINDS[kind]


class _BoundVariable:
    """Replaces the methods of a resource variable that read or write its value."""

    _tfl_binding: _Binding
    name: str
    shape: Any
    dtype: Any

    @property
    def handle(self) -> Any:
        # Without a handle, operations treat the variable as a tensor.
        raise AttributeError(
            f"the model uses its weight {self.name} as a variable, as tape.gradient "
            "does, but weights are tensors here; take tf.convert_to_tensor(weight) "
            "first, watch the tensor and use the tensor instead of the weight"
        )

    def value(self) -> tf.Tensor:
        return self._tfl_binding.value

    def read_value(self) -> tf.Tensor:
        return tf.identity(self._tfl_binding.value)

    def read_value_no_copy(self) -> tf.Tensor:
        return self._tfl_binding.value

    def _read_variable_op(self, no_copy: bool = False) -> tf.Tensor:
        del no_copy
        return self._tfl_binding.value

    def _dense_var_to_tensor(
        self, dtype: Any = None, name: Any = None, as_ref: bool = False
    ) -> Any:
        del name, as_ref
        if dtype is not None and not tf.as_dtype(dtype).is_compatible_with(self.dtype):
            return NotImplemented
        return self._tfl_binding.value

    def __tf_tensor__(self, dtype: Any = None, name: Any = None) -> tf.Tensor:
        return tf.convert_to_tensor(self._tfl_binding.value, dtype=dtype, name=name)

    def _as_graph_element(self) -> tf.Tensor:
        return self._tfl_binding.value

    def sparse_read(self, indices: Any, name: Any = None) -> tf.Tensor:
        return tf.gather(self._tfl_binding.value, indices, name=name)

    def gather_nd(self, indices: Any, name: Any = None) -> tf.Tensor:
        return tf.gather_nd(self._tfl_binding.value, indices, name=name)

    def is_initialized(self, name: Any = None) -> tf.Tensor:
        del name
        return tf.constant(True)

    def assign(
        self,
        value: Any,
        use_locking: Any = None,
        name: Any = None,
        read_value: bool = True,
    ) -> Any:
        del use_locking, name, read_value
        binding = self._tfl_binding
        if tf.compat.v1.get_default_graph() is not binding.graph:
            raise ValueError(
                f"the model assigns to its weight {self.name} inside a loop, a branch "
                "or a tf.function of its own; expected assignments outside of them"
            )
        new = tf.cast(value, self.dtype) if _is_tensor(value) else value
        new = tf.stop_gradient(tf.convert_to_tensor(new, self.dtype))
        new.shape.assert_is_compatible_with(self.shape)
        binding.value, binding.assigned = tf.ensure_shape(new, self.shape), True
        return self

    def assign_add(self, delta: Any, *args: Any, **kwargs: Any) -> Any:
        return self.assign(self.value() + tf.convert_to_tensor(delta, self.dtype))

    def assign_sub(self, delta: Any, *args: Any, **kwargs: Any) -> Any:
        return self.assign(self.value() - tf.convert_to_tensor(delta, self.dtype))

    def _lazy_read(self, op: Any) -> Any:
        raise _scattered(self.name)

    def scatter_update(self, sparse_delta: Any, *args: Any, **kwargs: Any) -> Any:
        places = tf.expand_dims(sparse_delta.indices, -1)
        return self.assign(
            tf.tensor_scatter_nd_update(self.value(), places, sparse_delta.values)
        )

    def scatter_add(self, sparse_delta: Any, *args: Any, **kwargs: Any) -> Any:
        places = tf.expand_dims(sparse_delta.indices, -1)
        return self.assign(
            tf.tensor_scatter_nd_add(self.value(), places, sparse_delta.values)
        )

    def scatter_nd_update(self, indices: Any, updates: Any, name: Any = None) -> Any:
        return self.assign(tf.tensor_scatter_nd_update(self.value(), indices, updates))

    def scatter_nd_add(self, indices: Any, updates: Any, name: Any = None) -> Any:
        return self.assign(tf.tensor_scatter_nd_add(self.value(), indices, updates))


def _is_tensor(value: Any) -> bool:
    return isinstance(value, (tf.Tensor, tf.Variable))


def _scattered(name: str) -> ValueError:
    return ValueError(
        f"the model changes parts of its weight {name} in a way that is not supported; "
        "expected assign, assign_add or assign_sub"
    )
