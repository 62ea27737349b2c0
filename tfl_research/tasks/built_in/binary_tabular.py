"""Shared code of tasks with a binary target and tabular features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

from tfl_research.data import ClientData
from tfl_research.tasks.pooled import Pooled
from tfl_research.tasks.task import Card, Task

if TYPE_CHECKING:
    from tfl_research.tasks.objectives import Objective

MODELS = ("logistic", "mlp")


def check_model(model: str) -> None:
    """Raises ValueError unless the model is "logistic" or "mlp"."""
    if model not in MODELS:
        raise ValueError(f"model must be {' or '.join(MODELS)}, got {model!r}")


def binary_task(
    name: str,
    card: Card,
    model: str,
    train: ClientData,
    test: ClientData,
    held_out: Optional[ClientData],
    pooled: tuple[Pooled, ...] = (),
) -> Task:
    """Makes a task whose model maps float32 `[features]` to a logit.

    The AUC selects the best model.

    Args:
      name: the task's name in the registry.
      card: facts about the data.
      model: "logistic" or "mlp" (one hidden layer of 32).
      train: training splits.
      test: the same clients' test splits.
      held_out: clients that are never trained on, or None.
      pooled: see `Task.pooled`.
    """
    (num_features,) = train.specs["x"].shape

    def build_model() -> Any:
        # Only the model needs TensorFlow.
        from tfl_research.models.architectures import tabular_models

        return tabular_models.build(model, num_features)

    def build_objective() -> Objective:
        from tfl_research.tasks import objectives

        return objectives.binary()

    # With few positive labels, accuracy hardly changes.
    return Task(
        *(name, card, train, test, held_out, build_model, build_objective),
        selection_metric="auc",
        pooled=pooled,
    )
