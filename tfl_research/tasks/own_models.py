"""Checks the models and objectives that come with a user's own data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from tfl_research.data import Examples
from tfl_research.data.arrays.exactness import rounded_integers
from tfl_research.data.arrays.sequences import Sequences
from tfl_research.data.conversion import Place
from tfl_research.tasks.named_objectives import named

if TYPE_CHECKING:
    from tfl_research.tasks.objectives import Objective

# The names of the default objective, and of a TFF model's own objective.
ASSUMED, MODEL = "classification", "model"


def with_labels(place: Place, examples: Examples, objective_name: object) -> Examples:
    """Returns a client's examples, with labels in the form of the named objective.

    Classes that are whole floats become int32.

    Raises:
      ValueError: the objective does not take a label; the message names client and row.
    """
    if objective_name == "regression":
        rounded = rounded_integers(examples["y"])
        if rounded.any():
            row = int(np.argwhere(rounded)[0][0])
            raise ValueError(
                f"{place.row(row)}: {examples['y'][rounded].flat[0]} would be rounded "
                "in float32, and the loss is computed in float32; scale the labels"
            )
    if objective_name not in ("classification", "binary"):
        return examples
    y = examples["y"]
    wrong = (y != np.floor(y)) | (y < 0)
    expected = "classes 0, 1, 2, ... as whole numbers"
    if objective_name == "binary":
        wrong, expected = wrong | (y > 1), "labels 0 and 1"
    if wrong.any():
        row = int(np.argwhere(wrong)[0][0])
        raise ValueError(
            f"{place.row(row)}: {y[wrong].flat[0]}, but objective {objective_name!r} "
            f"expects {expected}; objective='regression' takes real numbers"
        )
    return {**examples, "y": y.astype(np.int32, copy=False)}


def check_tokens(place: Place, examples: Examples, pads: Mapping[str, Any]) -> None:
    """Checks that no sequence has more labels than tokens.

    Args:
      place: names the labels and their rows in an error.
      examples: a client's arrays; nothing is checked unless x is one array of tokens.
      pads: the declared padding values of x and y, by name.

    Raises:
      ValueError: a sequence has more labels; the message names client and row.
    """
    if "x" not in examples or examples["x"].ndim != 2 or examples["y"].ndim != 2:
        return
    # The padding of labels is 0 unless another value is declared.
    known = {"x": pads.get("x"), "y": pads.get("y", 0)}
    lengths = {name: _lengths(examples[name], pad) for name, pad in known.items()}
    wrong = lengths["y"] > lengths["x"]
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"{place.row(row)}: {lengths['y'][row]} labels for the "
            f"{lengths['x'][row]} tokens of x; each token needs one label, the token "
            "after it: give x=tokens[:-1] and y=tokens[1:]"
        )


def _lengths(rows: np.ndarray, pad: Any) -> np.ndarray:
    """Returns the rows' lengths without padding at the end, int64 `[n]`."""
    if pad is None or not rows.size:
        return np.full(len(rows), rows.shape[1])
    real = rows != pad
    last = rows.shape[1] - np.argmax(real[:, ::-1], axis=1)
    return np.where(real.any(axis=1), last, 0)


def _kinds(value: object) -> set[tuple[str, str]]:
    """Returns packages and names of a value's classes; this needs no TensorFlow."""
    return {(k.__module__.split(".")[0], k.__name__) for k in type(value).__mro__}


def is_functional(model: object) -> bool:
    """Whether the model is a functional model, of TFF or of this package."""
    owners = "tensorflow_federated", "tfl_research"
    return any((owner, "FunctionalModel") in _kinds(model) for owner in owners)


def check_builder(model: object) -> None:
    """Raises ValueError unless the model is a function that returns a model.

    A functional model is accepted in the place of such a function.
    """
    # A Keras model can be called too.
    if is_functional(model):
        return
    if not callable(model) or ("keras", "Model") in _kinds(model):
        raise ValueError(
            "model must be a function that returns a new Keras model each time, got "
            f"{type(model).__name__}"
        )


def needs_labels(chosen: object) -> bool:
    """Whether the objective is a name or a Keras loss: these need labels."""
    is_keras = any(package == "keras" for package, _ in _kinds(chosen))
    return is_keras or isinstance(chosen, (str, Mapping, list, tuple))


def objective(
    chosen: Any, model: Any, sequences: Optional[Sequences] = None
) -> tuple[Callable[[], Objective], str]:
    """Returns the objective's builder, and the metric that picks the best model.

    Args:
      chosen: see `from_arrays`.
      model: the model, or its builder.
      sequences: the sequences of the labels; their pad does not count in "next_token".

    Raises:
      ValueError: see `named_objectives.named`; or the pad of tokens is not an integer.
    """
    if chosen is None:
        return _assumed, named(ASSUMED)[1]
    if isinstance(chosen, str) and chosen == MODEL:

        def of_model() -> Objective:
            from tfl_research.tasks.objectives import of_tff_models

            return of_tff_models.of_model(model)

        return of_model, "loss"
    if sequences is None or not isinstance(chosen, str) or chosen != "next_token":
        return named(chosen)
    pad = sequences.pad
    if not isinstance(pad, int):
        raise ValueError(
            f"sequences: the padding of tokens must be an integer, got {pad!r}"
        )
    return named(chosen, pad_id=pad)


def _assumed() -> Objective:
    return dataclasses.replace(named(ASSUMED)[0](), is_assumed=True)
