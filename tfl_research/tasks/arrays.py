"""Tasks of arrays in memory, with your own data and Keras model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional, Union

import numpy as np

from tfl_research.data import Batching, ClientData, Examples, client_splits, hold_out
from tfl_research.data.client_data import AnyBatching
from tfl_research.tasks.pooled import Pooled
from tfl_research.tasks.task import Card, Task

if TYPE_CHECKING:
    from tfl_research.tasks.objectives import Objective

# Each named objective: the function of `tasks.objectives`, and the metric that picks
# the best model.
OBJECTIVES = {
    "classification": ("multiclass", "accuracy"),
    "binary": ("binary", "auc"),
    "regression": ("regression", "loss"),
    "next_token": ("next_token", "accuracy"),
}
_BATCHING = Batching()
# Arrays by client: "x" and "y", or anything that NumPy turns into arrays.
Clients = Mapping[str, Mapping[str, Any]]


def from_arrays(
    clients: Clients,
    *,
    model: Callable[[], Any],
    objective: Union[str, Objective, Callable[[], Objective]] = "classification",
    test: Union[float, Clients] = 0.2,
    held_out: Union[float, Clients] = 0.0,
    batching: AnyBatching = _BATCHING,
    seed: int = 0,
    name: str = "arrays",
    selection_metric: Optional[str] = None,
    label_names: Sequence[str] = (),
    public_data: bool = False,
    pooled: Sequence[Pooled] = (),
) -> Task:
    """Makes a task of arrays, for data that fit into memory.

    Floats become float32, labels of integers or truth values int32. Nothing else is
    computed from the arrays: one client, or one example, more or less changes no other
    client's examples and no split.

    Args:
      clients: `{client id: {"x": [n, ...], "y": [n, ...]}}`; n differs by client, the
        trailing shapes and the dtypes do not.
      model: a function that returns a new Keras model, which maps x `[batch, ...]` to
        logits; see `Task.build_model`.
      objective: "classification" (labels are classes, a logit for each class),
        "binary" (labels 0 and 1, one logit), "regression" (squared error), "next_token"
        (sequences of token ids, padded with 0), an `Objective`, or a function that
        returns one.
      test: the share of each client's examples that is held out for testing, in
        [0, 1), drawn by `hold_out.examples`; or test arrays by client, where a client
        may be left out.
      held_out: the share of the clients that are never trained on, in [0, 1), drawn
        by `hold_out.clients` for each client by itself, so that of few clients none may
        be drawn; or arrays of further clients.
      batching: how a client's examples become local steps in training.
      seed: seed of both draws.
      name: name of the task, for reports.
      selection_metric: the evaluation metric that picks the best model; "accuracy" for
        classification and next_token, "auc" for binary, and otherwise "loss", unless
        given.
      label_names: names of the classes, for reports.
      public_data: whether the data are published, see `Card.public_data`.
      pooled: what was computed from the rows of several clients or records before they
        were handed over, such as a vocabulary; see `Task.pooled`.

    Raises:
      ValueError: no clients, arrays that disagree in shape, dtype or length, values
        that are not finite, labels that the named objective does not take, test
        arrays of an unknown client, a held-out client that is also trained on, a
        fraction outside [0, 1), an unknown objective, or a model that is not a
        function. The task's `build_model` raises it where the function returns
        anything but an uncompiled Keras model with a logit for each class.

    Example:
      >>> import numpy as np
      >>> from tfl_research import tasks
      >>> def model():
      ...     import tensorflow as tf
      ...     layers = [tf.keras.layers.Input([2]), tf.keras.layers.Dense(3)]
      ...     return tf.keras.Sequential(layers)
      >>> x, y = np.random.rand(10, 2), np.arange(10) % 3
      >>> task = tasks.from_arrays(
      ...     {"north": {"x": x, "y": y}, "south": {"x": x + 1, "y": y}}, model=model
      ... )
      >>> task.train.num_examples("north") + task.test.num_examples("north")
      10
      >>> task.build_model().count_params()
      9
    """
    _check_model(model)
    if not isinstance(clients, Mapping):
        raise ValueError(
            "clients must be arrays by client, {client id: {'x': ..., 'y': ...}}, got "
            f"{type(clients).__name__}"
        )
    build_objective, default_metric = _objective(objective)
    examples_by_client = {i: _examples(i, arrays) for i, arrays in clients.items()}
    num_classes = _num_classes(examples_by_client, objective)
    if not examples_by_client:
        raise ValueError("a task needs at least one client, got none")
    held_out_data: Optional[ClientData] = None
    held_out_ids: tuple[str, ...] = ()
    if isinstance(held_out, Mapping):
        overlap = [i for i in held_out if i in examples_by_client]
        if overlap:
            raise ValueError(f"held_out: client {overlap[0]!r} is also trained on")
        if held_out:
            held_out_data = ClientData.from_arrays(
                {i: _examples(i, arrays) for i, arrays in held_out.items()}
            )
    else:
        _, held_out_ids = hold_out.clients(
            tuple(examples_by_client), fraction=held_out, seed=seed
        )
    # If test arrays are given, all examples in `clients` are for training.
    train, test_data, drawn = client_splits.split_arrays(
        examples_by_client,
        held_out=held_out_ids,
        test_fraction=0.0 if isinstance(test, Mapping) else test,
        seed=seed,
        batching=batching,
    )
    if isinstance(test, Mapping):
        test_data = _given_tests(train, test)
    held_out_data = drawn if held_out_data is None else held_out_data
    for split, part in (("test", test_data), ("held_out", held_out_data)):
        if part is not None and part.specs != train.specs:
            raise ValueError(
                f"{split} has arrays of {dict(part.specs)}, expected "
                f"{dict(train.specs)} as in training"
            )
    card = Card(
        title=name,
        client_unit="client",
        target="y",
        source="arrays in memory",
        licence="that of the data",
        label_names=tuple(label_names),
        public_data=public_data,
    )
    return Task(
        name,
        card,
        train,
        test_data,
        held_out_data,
        _checked(model, num_classes),
        build_objective,
        selection_metric or default_metric,
        pooled=tuple(pooled),
    )


def _examples(client_id: str, arrays: Mapping[str, Any]) -> Examples:
    """The client's x and y as arrays of the dtypes that models take."""
    if not isinstance(arrays, Mapping):
        raise ValueError(
            f"client {client_id!r} must have its arrays by name, {{'x': ..., 'y': "
            f"...}}, got {type(arrays).__name__}"
        )
    missing = [name for name in ("x", "y") if name not in arrays]
    if missing:
        raise ValueError(
            f"client {client_id!r} has no {missing[0]!r}; expected 'x' and 'y', got "
            f"{', '.join(map(repr, arrays)) or 'nothing'}"
        )
    x, y = np.asarray(arrays["x"]), np.asarray(arrays["y"])
    for name, array in (("x", x), ("y", y)):
        if not array.ndim or array.dtype.kind not in "fiub":
            raise ValueError(
                f"client {client_id!r}: {name} must be an array of numbers with an "
                f"axis of examples, got {array.dtype} {list(array.shape)}"
            )
    if len(x) != len(y):
        raise ValueError(
            f"client {client_id!r} has {len(x)} rows of x but {len(y)} of y"
        )
    for name, array in (("x", x), ("y", y)):
        if not np.isfinite(array).all():
            raise ValueError(
                f"client {client_id!r}: {name} has values that are not finite; leave "
                "these examples out or fill them in"
            )
    x = x.astype(np.float32, copy=False) if x.dtype.kind == "f" else x
    kind = np.float32 if y.dtype.kind == "f" else np.int32
    return {"x": x, "y": y.astype(kind, copy=False)}


def _given_tests(train: ClientData, test: Clients) -> ClientData:
    unknown = [i for i in test if i not in set(train.client_ids)]
    if unknown:
        raise ValueError(
            f"test: {unknown[0]!r} is not one of the {len(train)} clients to train on"
        )
    nothing = {n: np.zeros((0, *s.shape), s.dtype) for n, s in train.specs.items()}
    return ClientData.from_arrays(
        {i: _examples(i, test[i]) if i in test else nothing for i in train.client_ids}
    )


def _num_classes(clients: Mapping[str, Examples], objective: object) -> Optional[int]:
    """Classes by the largest label; None where labels are no classes."""
    if objective == "classification":
        expected = "classes 0, 1, 2, ... as integers; give y.astype(int)"
        top: Optional[int] = None
    elif objective == "binary":
        expected, top = "labels 0 and 1", 1
    else:
        return None
    largest = 0
    for client_id, arrays in clients.items():
        y = arrays["y"]
        wrong = y[(y != np.floor(y)) | (y < 0) | (y > (y if top is None else top))]
        if len(y) and (wrong.size or (top is None and y.dtype.kind == "f")):
            shown = wrong.flat[0] if wrong.size else f"{y.dtype} labels"
            raise ValueError(
                f"client {client_id!r}: objective {objective!r} takes {expected}, got "
                f"{shown}; objective='regression' takes real numbers"
            )
        largest = max(largest, int(y.max(initial=0)))
    return largest + 1 if top is None else None


def _checked(
    build_model: Callable[[], Any], num_classes: Optional[int]
) -> Callable[[], Any]:
    """The function, of whose models those that cannot be trained are refused."""

    def checked() -> Any:
        import tensorflow as tf

        model = build_model()
        if not isinstance(model, tf.keras.Model):
            raise ValueError(
                f"model must return a Keras model, got {type(model).__name__}"
            )
        if model.optimizer is not None:
            raise ValueError(
                "model returns a compiled model; leave compile() out: the experiment "
                "has the optimizers, and the task the objective"
            )
        # Only models that say their outputs can be checked.
        if num_classes is not None and model.outputs:
            logits = model.outputs[0].shape[-1]
            if logits is not None and logits < num_classes:
                raise ValueError(
                    f"the model has {logits} logits, but the largest label is "
                    f"{num_classes - 1}; give its last layer {num_classes} units"
                )
        return model

    return checked


def _check_model(model: object) -> None:
    # A Keras model can be called too; its class says what it is, without TensorFlow.
    kinds = {
        (kind.__module__.split(".")[0], kind.__name__) for kind in type(model).__mro__
    }
    if not callable(model) or ("keras", "Model") in kinds:
        raise ValueError(
            "model must be a function that returns a new Keras model each time, got "
            f"{type(model).__name__}"
        )


def _objective(
    objective: Union[str, Objective, Callable[[], Objective]],
) -> tuple[Callable[[], Objective], str]:
    """The builder of the objective, and the metric that picks the best model."""
    if isinstance(objective, str):
        if objective not in OBJECTIVES:
            raise ValueError(
                f"objective must be one of {', '.join(OBJECTIVES)}, an Objective or a "
                f"function that returns one, got {objective!r}"
            )
        function, metric = OBJECTIVES[objective]

        def by_name() -> Objective:
            # Objectives need TensorFlow, whose import takes seconds.
            from tfl_research.tasks import objectives

            build: Callable[[], Objective] = getattr(objectives, function)
            return build()

        return by_name, metric
    if callable(objective):
        return objective, "loss"
    return (lambda: objective), "loss"
