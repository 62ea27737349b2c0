"""Data attacks: malicious clients train honestly on examples that they changed.

NumPy changes the examples of malicious clients before they become local steps.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection
from typing import Optional

import numpy as np

from tfl_research.attacks.catalogue import LABEL_FLIPS
from tfl_research.data import ClientData, derived_generator
from tfl_research.data.arrays import structures
from tfl_research.data.cohort import Examples

# (client id, examples) -> examples.
Poison = Callable[[str, Examples], Examples]

# Shortest flat vector that counts as a square image by default.
_SMALLEST_FLAT_IMAGE = 100


def check_labels(clients: ClientData) -> None:
    """Raises ValueError unless the label of an example is one integer."""
    spec = structures.single(clients.specs, "y", "an attack on labels")
    if spec.shape != () or not np.issubdtype(spec.dtype, np.integer):
        raise ValueError(
            "label attacks need one class for each example, got labels of shape "
            f"{spec.shape} and dtype {spec.dtype}"
        )


def class_count(clients: ClientData) -> int:
    """Computes C, the greatest label plus 1; reads the labels of all clients.

    Raises:
      ValueError: the labels are not classes, or there are no examples.
    """
    check_labels(clients)
    greatest = max(
        (
            int(examples["y"].max())
            for _, examples in clients.items()
            if len(examples["y"])
        ),
        default=None,
    )
    if greatest is None:
        raise ValueError("label attacks need labelled examples, got none")
    return max(greatest + 1, 2)


def flip_labels(
    labels: np.ndarray, num_classes: int, kind: str = "reverse"
) -> np.ndarray:
    """Changes labels as a label-flipping client does.

    Tolpegin et al. 2020 (arXiv 2007.08432) flip the labels of chosen classes. Here the
    labels of all classes are flipped, with "reverse" as in Fang et al. 2020 (arXiv
    1911.11815).

    Args:
      labels: integers `[n]` in [0, num_classes).
      num_classes: C, at least 2.
      kind: "reverse", y -> C - 1 - y; or "pairwise", y -> (y + 1) mod C.

    Returns:
      Labels of the same dtype.

    Raises:
      ValueError: the kind is unknown, there are fewer than 2 classes, or a label is out
        of range.
    """
    if kind not in LABEL_FLIPS:
        raise ValueError(f"kind must be one of {', '.join(LABEL_FLIPS)}, got {kind!r}")
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, got {num_classes}")
    if len(labels) and not (labels.min() >= 0 and labels.max() < num_classes):
        raise ValueError(
            f"labels must be in [0, {num_classes}), got {labels.min()} to "
            f"{labels.max()}"
        )
    wide = labels.astype(np.int64)
    flipped = num_classes - 1 - wide
    if kind == "pairwise":
        flipped = (wide + 1) % num_classes
    return flipped.astype(labels.dtype)


@dataclasses.dataclass(frozen=True)
class Trigger:
    """A mark on an example; a backdoored model predicts the target for marked examples.

    Attributes:
      kind: "patch", a square of pixels in the lower right corner of images `[h, w]`,
        `[h, w, channels]` or flat square ones `[h · h]`; or "feature", one entry of a
        vector `[features]`.
      value: new value of the pixels or of the feature.
      size: side of the square, in pixels, at least 1; for "patch".
      feature: index of the entry, at least 0; for "feature".

    Raises:
      ValueError: the kind is unknown, or a number is out of range.
    """

    kind: str
    value: float
    size: int = 3
    feature: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("patch", "feature"):
            raise ValueError(
                f"a trigger must be a patch or a feature, got {self.kind!r}"
            )
        if not math.isfinite(self.value):
            raise ValueError(f"a trigger's value must be finite, got {self.value}")
        if self.size < 1:
            raise ValueError(f"size must be at least 1, got {self.size}")
        if self.feature < 0:
            raise ValueError(f"feature must be at least 0, got {self.feature}")

    @classmethod
    def for_examples(
        cls,
        shape: tuple[int, ...],
        kind: Optional[str] = None,
        *,
        value: Optional[float] = None,
        size: int = 3,
        feature: int = 0,
    ) -> Trigger:
        """Makes a trigger for examples of a shape, with defaults for the shape.

        Args:
          shape: shape of one x.
          kind: by default "patch" for `[h, w]`, `[h, w, channels]` and for flat square
            images of at least 10 · 10 pixels, "feature" for other vectors.
          value: by default 1 for a patch (a bright pixel) and 5 for a feature (far from
            usual values of a feature that is standardised or in [0, 1]).
          size: side of a patch.
          feature: index of the feature.

        Raises:
          ValueError: the trigger does not fit on such examples.
        """
        if kind is None:
            flat = len(shape) == 1
            small = math.prod(shape) < _SMALLEST_FLAT_IMAGE
            is_square = math.isqrt(math.prod(shape)) ** 2 == math.prod(shape)
            kind = "feature" if flat and (small or not is_square) else "patch"
        if value is None:
            value = 1.0 if kind == "patch" else 5.0
        trigger = cls(kind, value, size, feature)
        trigger.check_fits(shape)
        return trigger

    def check_fits(self, shape: tuple[int, ...]) -> None:
        """Raises ValueError unless the trigger fits on an x of this shape."""
        if self.kind == "feature":
            if len(shape) != 1 or self.feature >= shape[0]:
                raise ValueError(
                    f"a trigger on feature {self.feature} needs vectors of at least "
                    f"{self.feature + 1} features, got examples of shape {shape}; "
                    "give a smaller feature"
                )
            return
        side = math.isqrt(shape[0]) if len(shape) == 1 else 0
        is_square = len(shape) == 1 and side * side == shape[0]
        if not (is_square or len(shape) in (2, 3)):
            raise ValueError(f"a trigger patch needs images, got shape {shape}")
        least = side if is_square else min(shape[:2])
        if self.size > least:
            raise ValueError(
                f"a patch of {self.size} pixels does not fit on images of shape "
                f"{shape}; give a smaller size"
            )

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Puts the trigger on examples `[n, ...]`; returns a copy of the same dtype.

        Raises:
          ValueError: the trigger does not fit on the shape, or values are not floats.
        """
        if not np.issubdtype(x.dtype, np.floating):
            raise ValueError(f"a trigger needs float features, got dtype {x.dtype}")
        self.check_fits(x.shape[1:])
        marked = x.copy()
        if self.kind == "feature":
            marked[:, self.feature] = self.value
            return marked
        images = marked
        if x.ndim == 2:
            side = math.isqrt(x.shape[1])
            images = marked.reshape(len(x), side, side)
        images[:, -self.size :, -self.size :] = self.value
        return marked


def label_flipping(num_classes: int, kind: str = "reverse") -> Poison:
    """Makes the `Poison` of a label-flipping client; see `flip_labels`."""

    def poison(client_id: str, examples: Examples) -> Examples:
        del client_id
        return {**examples, "y": flip_labels(examples["y"], num_classes, kind)}

    return poison


def backdooring(trigger: Trigger, target: int, share: float, seed: int) -> Poison:
    """Makes a backdoor client's `Poison`: some examples get the trigger and the target.

    Bagdasaryan et al. 2018 (arXiv 1807.00459), section 4.2, mix backdoored examples
    into every minibatch. Here a share of the client's examples is backdoored. The share
    is drawn once, and the shuffle mixes the examples.

    Args:
      trigger: the trigger on the backdoored examples.
      target: the label of the backdoored examples.
      share: share of the client's examples, in (0, 1]; rounded, at least one example.
      seed: seed of the draw.

    Raises:
      ValueError: the share or the target is out of range.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1], got {share}")
    if target < 0:
        raise ValueError(f"target must be at least 0, got {target}")

    def poison(client_id: str, examples: Examples) -> Examples:
        size = structures.num_examples(examples)
        count = min(max(math.floor(share * size + 0.5), 1), size)
        generator = derived_generator("backdoor", seed, client_id)
        rows = generator.permutation(size)[:count]
        x, y = examples["x"].copy(), examples["y"].copy()
        x[rows], y[rows] = trigger.apply(x[rows]), target
        return {**examples, "x": x, "y": y}

    return poison


def poisoned(
    clients: ClientData, malicious: Collection[str], poison: Poison
) -> ClientData:
    """Returns the same clients, with changed examples at the malicious clients."""
    honest, chosen = clients.load, frozenset(malicious)

    def load(client_id: str) -> Examples:
        examples = honest(client_id)
        return poison(client_id, examples) if client_id in chosen else examples

    return dataclasses.replace(clients, load=load, holders=None)


def triggered(clients: ClientData, trigger: Trigger, target: int) -> ClientData:
    """Makes test examples that measure the success of a backdoor.

    These are all examples of other classes than the target, with the trigger and with
    the target as label. The accuracy on these examples is the backdoor's success rate.
    """
    honest = clients.load

    def load(client_id: str) -> Examples:
        examples = honest(client_id)
        others = examples["y"] != target
        chosen = {name: array[others] for name, array in examples.items()}
        return {
            **chosen,
            "x": trigger.apply(chosen["x"]),
            "y": np.full_like(chosen["y"], target),
        }

    return dataclasses.replace(clients, load=load, roles=None, holders=None)
