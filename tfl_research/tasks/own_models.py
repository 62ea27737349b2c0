"""Models and objectives that come with one's own data: which are refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Optional, Union

import numpy as np

from tfl_research.data import Examples
from tfl_research.data.sequences import Sequences

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


def with_labels(client_id: str, examples: Examples, named: object) -> Examples:
    """The client's examples, with labels as the named objective takes them.

    Classes that came as whole floats become int32.

    Raises:
      ValueError: labels that the objective does not take; names client and row.
    """
    if named not in ("classification", "binary"):
        return examples
    y = examples["y"]
    wrong = (y != np.floor(y)) | (y < 0)
    expected = "classes 0, 1, 2, ... as whole numbers"
    if named == "binary":
        wrong, expected = wrong | (y > 1), "labels 0 and 1"
    if wrong.any():
        row = int(np.argwhere(wrong)[0][0])
        raise ValueError(
            f"client {client_id!r}: objective {named!r} takes {expected}, got "
            f"{y[wrong].flat[0]} in row {row} of y; objective='regression' takes real "
            "numbers"
        )
    return {**examples, "y": y.astype(np.int32, copy=False)}


def num_classes(clients: Mapping[str, Examples], named: object) -> Optional[int]:
    """Classes by the largest label; None where labels are no classes."""
    if named != "classification":
        return None
    return 1 + max(int(each["y"].max(initial=0)) for each in clients.values())


def checked(
    build_model: Callable[[], Any], classes: Optional[int]
) -> Callable[[], Any]:
    """The function, of whose models those that cannot be trained are refused."""
    if is_functional(build_model):
        return build_model

    def checked_model() -> Any:
        import tensorflow as tf

        model = build_model()
        theirs = {"VariableModel", "ReconstructionModel", "FunctionalModel"}
        if _kinds(model) & {("tensorflow_federated", name) for name in theirs}:
            return model
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
        if classes is not None and model.outputs:
            logits = model.outputs[0].shape[-1]
            if logits is not None and logits < classes:
                raise ValueError(
                    f"the model has {logits} logits, but the largest label is "
                    f"{classes - 1}; give its last layer {classes} units"
                )
        return model

    return checked_model


def _kinds(value: object) -> set[tuple[str, str]]:
    """The packages and names of a value's classes; they need no TensorFlow."""
    return {(k.__module__.split(".")[0], k.__name__) for k in type(value).__mro__}


def is_functional(model: object) -> bool:
    """Whether the model is a functional model, of TFF or of this package."""
    owners = "tensorflow_federated", "tfl_research"
    return any((owner, "FunctionalModel") in _kinds(model) for owner in owners)


def check_builder(model: object) -> None:
    """Raises ValueError unless the model is a function that returns one.

    A functional model may stand for such a function.
    """
    # A Keras model can be called too.
    if is_functional(model):
        return
    if not callable(model) or ("keras", "Model") in _kinds(model):
        raise ValueError(
            "model must be a function that returns a new Keras model each time, got "
            f"{type(model).__name__}"
        )


def objective(
    chosen: Union[str, Objective, Callable[[], Objective]],
    sequences: Optional[Sequences] = None,
) -> tuple[Callable[[], Objective], str]:
    """The builder of the objective, and the metric that picks the best model.

    Args:
      chosen: see `from_arrays`.
      sequences: of the labels; their pad does not count in "next_token".
    """
    if isinstance(chosen, str):
        if chosen not in OBJECTIVES:
            raise ValueError(
                f"objective must be one of {', '.join(OBJECTIVES)}, an Objective or a "
                f"function that returns one, got {chosen!r}"
            )
        function, metric = OBJECTIVES[chosen]

        def by_name() -> Objective:
            # Objectives need TensorFlow, whose import takes seconds.
            from tfl_research.tasks import objectives

            build: Callable[..., Objective] = getattr(objectives, function)
            if sequences is not None and function == "next_token":
                return build(pad_id=sequences.pad)
            return build()

        return by_name, metric
    if callable(chosen):
        return chosen, "loss"
    return (lambda: chosen), "loss"
