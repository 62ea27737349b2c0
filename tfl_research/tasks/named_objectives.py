"""Makes objectives from names or Keras losses, without an import of TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tfl_research.errors import users_line

if TYPE_CHECKING:
    from tfl_research.tasks.objectives import Objective

# By name: the function of `tasks.objectives`, and the metric that picks the best
# model.
NAMES = {
    "classification": ("multiclass", "accuracy"),
    "binary": ("binary", "auc"),
    "multi_label": ("multi_label", "accuracy"),
    "regression": ("regression", "loss"),
    "next_token": ("next_token", "accuracy"),
}
_FIX = (
    f"expected one of {', '.join(NAMES)}, a loss of Keras or its name, an Objective, a "
    "function that returns one, or 'model' (of a TFF model)"
)


def named(objective: Any, *, pad_id: int = 0) -> tuple[Callable[[], Objective], str]:
    """Returns the builder of an objective, and the metric that picks the best model.

    Args:
      objective: a name ("classification", "binary", "multi_label", "regression" or
        "next_token"); a loss of Keras, its name ("mse"), or a dict or list of losses
        for a model of several outputs (`objectives.from_keras`); an `Objective`, or a
        function without arguments that returns an `Objective`.
      pad_id: the label of padding, for "next_token".

    Raises:
      ValueError: the objective has another form. The builder checks a Keras loss later,
        since this function does not import TensorFlow.

    Example:
      >>> from tfl_research.tasks.named_objectives import named
      >>> named("binary")[1]
      'auc'
    """
    if isinstance(objective, str) and objective in NAMES:
        function, metric = NAMES[objective]

        def by_name() -> Objective:
            from tfl_research.tasks import objectives

            if objective == "next_token":
                return objectives.next_token(pad_id)
            build: Callable[[], Objective] = getattr(objectives, function)
            return build()

        return by_name, metric
    if isinstance(objective, str) and not objective:
        raise ValueError(f"objective is empty; {_FIX}")
    if isinstance(objective, (str, Mapping, list, tuple)) or _is_keras(objective):
        return _from_keras(objective), "loss"
    if _is_objective(objective):
        return (lambda: objective), "loss"
    if callable(objective):
        return _called(objective), "loss"
    raise ValueError(f"objective is {objective!r}; {_FIX}")


def _is_keras(value: Any) -> bool:
    return any(kind.__module__.split(".")[0] == "keras" for kind in type(value).__mro__)


def _is_objective(value: Any) -> bool:
    # Objectives need TensorFlow, whose import takes seconds.
    name = "tfl_research.tasks.objectives.objective", "Objective"
    return any((k.__module__, k.__name__) == name for k in type(value).__mro__)


def _from_keras(loss: Any) -> Callable[[], Objective]:
    def build() -> Objective:
        from tfl_research.tasks import objectives

        try:
            return objectives.from_keras(loss=loss)
        except ValueError as error:
            if isinstance(loss, str):
                raise ValueError(f"objective {loss!r}: {error}; {_FIX}") from error
            raise

    return build


def _called(function: Callable[..., Any]) -> Callable[[], Objective]:
    """Makes a builder of a function that returns an objective, or that is a loss."""

    def build() -> Objective:
        from tfl_research.tasks import objectives

        arguments = objectives.required_arguments(function)
        if arguments == 2:
            return objectives.from_keras(loss=function)
        try:
            found = function()
        except ValueError:  # Of the toolkit, which says what is wrong.
            raise
        except Exception as error:
            said = " ".join(str(error).split())[:200]
            raise ValueError(
                f"objective: the function failed ({type(error).__name__}: {said}"
                f"{users_line(error)})"
            ) from error
        if not isinstance(found, objectives.Objective):
            raise ValueError(
                f"objective: the function returns {type(found).__name__}; {_FIX}"
            )
        return found

    return build
