"""The methods of a class that trains at a site, and checks of their results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from tfl_research.errors import SettingError


class NumPyClient(Protocol):
    """The methods of a client, as in Flower's `NumPyClient`."""

    def get_parameters(self, config: dict[str, Any]) -> Sequence[np.ndarray]:
        """Returns the model's weights as a list of arrays."""
        ...

    def fit(
        self, parameters: Sequence[np.ndarray], config: dict[str, Any]
    ) -> tuple[Sequence[np.ndarray], int, Mapping[str, float]]:
        """Trains the model on the client's examples.

        Args:
          parameters: the weights to begin with.
          config: has `server_round`, from 1.

        Returns:
          The new weights, the number of examples, and means of metrics by name.
        """
        ...

    def evaluate(
        self, parameters: Sequence[np.ndarray], config: dict[str, Any]
    ) -> tuple[float, int, Mapping[str, float]]:
        """Returns the mean loss, the number of examples, and means of metrics."""
        ...


def checked(
    parameters: Any, shapes: Sequence[tuple[int, ...]], what: str
) -> list[np.ndarray]:
    """Converts a class's parameters to float32 arrays of these shapes.

    Raises:
      SettingError: the number of arrays or a shape differs.
    """
    arrays = [np.asarray(value, np.float32) for value in parameters]
    if [array.shape for array in arrays] != list(shapes):
        raise SettingError(
            f"{what} has arrays of shapes {[a.shape for a in arrays]}, but the task's "
            f"model has {list(shapes)}; both must be the same model, with arrays in "
            "this order"
        )
    return arrays
