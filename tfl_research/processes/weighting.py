"""How much each client's update counts."""

from __future__ import annotations

import dataclasses
from typing import Optional

import tensorflow as tf

KINDS = ("uniform", "examples", "capped")


@dataclasses.dataclass(frozen=True)
class ClientWeighting:
    """Computes a client's weight from its number of examples n.

    - "uniform": 1 for every client that has examples.
    - "examples": n (FedAvg, McMahan et al. 2017).
    - "capped": min(n / cap, 1). The weight is bounded by 1, so differential privacy
      allows it (McMahan et al. 2018, arXiv 1710.06963, section 3).

    A client without examples has weight 0 under every weighting.

    Attributes:
      kind: "uniform", "examples" or "capped".
      cap: w-hat of the paper, in examples; for "capped" only.

    Raises:
      ValueError: the kind is unknown; "capped" has no cap, or a cap that is not
        positive; or another kind has a cap.
    """

    kind: str
    cap: Optional[float] = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(
                f"client weighting must be one of {', '.join(KINDS)}, got {self.kind!r}"
            )
        if (self.kind == "capped") != (self.cap is not None):
            raise ValueError(
                "give a weight cap with 'capped' weighting and only with it, got "
                f"{self.kind!r} with cap {self.cap}"
            )
        if self.cap is not None and self.cap <= 0:
            raise ValueError(f"the weight cap must be positive, got {self.cap}")

    def weight(self, num_examples: tf.Tensor) -> tf.Tensor:
        """Computes the weight, float32 `[]`, from float32 `num_examples`."""
        if self.kind == "uniform":
            return tf.cast(num_examples > 0, tf.float32)
        if self.kind == "examples":
            return num_examples
        return tf.minimum(num_examples / self.cap, 1.0)


def uniform() -> ClientWeighting:
    """Makes the weighting under which every client with examples counts the same."""
    return ClientWeighting("uniform")


def by_examples() -> ClientWeighting:
    """Makes the weighting by which clients count by their number of examples."""
    return ClientWeighting("examples")


def capped(cap: float) -> ClientWeighting:
    """Makes the weighting by min(n / cap, 1) of a client's number of examples n.

    Raises:
      ValueError: the cap is not positive.
    """
    return ClientWeighting("capped", cap)
