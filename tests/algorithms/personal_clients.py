"""One client's local steps and what client work makes of them, without a process."""

from __future__ import annotations

from typing import Any, Optional

import numpy as np
import rounds
import tensorflow as tf


def steps(task: Any, name: str, state: Optional[np.ndarray] = None) -> dict[str, Any]:
    """A client's local steps in round one."""
    batches = task.train.cohort([name], seed=0, round_number=1).batches(0)
    if state is not None:
        batches["client_state"] = np.asarray(state, np.float32)
    return {key: tf.constant(value) for key, value in batches.items()}


def personal(
    task: Any, work: Any, theta: Any, batches: Any, *shared: Any
) -> np.ndarray:
    """A client's personal model, as a vector."""
    model = task.functional_model()
    function = work.build_personal(model, task.build_objective())
    return rounds.vector(function(tensors(theta), batches, tf.constant(0), *shared))


def result(task: Any, work: Any, theta: Any, batches: Any) -> Any:
    """What the client work makes of the local steps."""
    model = task.functional_model()
    function = work.build(model, task.build_objective())
    return function(tensors(theta), batches, tf.constant(0))


def tensors(theta: Any) -> list[tf.Tensor]:
    """theta as the model's weights."""
    return [tf.constant(weights) for weights in rounds.arrays(theta)]
