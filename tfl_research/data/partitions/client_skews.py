"""Skews of IID clients: of their features, or of the meaning of labels.

Each function returns client data whose examples are changed when they are loaded, in
the same way on every load. The change of a client depends on its index in `client_ids`
when the skew is made. Later subsets and splits keep the change, so a client's training
and test examples are changed alike.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np

from tfl_research.data.arrays import structures
from tfl_research.data.batching import derived_generator
from tfl_research.data.client_data import ClientData
from tfl_research.data.cohort import Examples

# Clients whose changed examples stay in memory: training and evaluation load the same
# clients again and again.
_CACHED_CLIENTS = 256


def client_angles(num_clients: int, degrees: float) -> np.ndarray:
    """Evenly spaced angles, float64 `[clients]`, from `-degrees` to `degrees`.

    A single client is not rotated.

    Raises:
      ValueError: there are no clients, or `degrees` is not in [0, 180].
    """
    _check_clients(num_clients)
    if not 0 <= degrees <= 180:
        raise ValueError(f"degrees must be from 0 to 180, got {degrees}")
    if num_clients == 1:
        return np.zeros(1)
    return np.linspace(-degrees, degrees, num_clients)


def client_noise_levels(num_clients: int, level: float) -> np.ndarray:
    """Standard deviations that grow with the client, float64 `[clients]`.

    Client i of N, counted from 1, gets `level * i / N` (Li et al. 2022,
    arXiv 2102.02079; the level is a standard deviation, as in their code).

    Raises:
      ValueError: there are no clients, or `level` is not above 0 and finite.
    """
    _check_clients(num_clients)
    if not (level > 0 and math.isfinite(level)):
        raise ValueError(f"level must be above 0 and finite, got {level}")
    return level * np.arange(1, num_clients + 1) / num_clients


def concept_labels(
    num_concepts: int, num_classes: int, generator: np.random.Generator
) -> np.ndarray:
    """The permutation of labels of each concept.

    Concept 0 does not change labels. The classes form a circle in random order, and
    concept g moves every label by g places along the circle. No two concepts agree on
    any label.

    Args:
      num_concepts: between 1 and `num_classes`.
      num_classes: labels are 0 to `num_classes - 1`.
      generator: draws the order on the circle.

    Returns:
      Int64 `[concepts, classes]`; row g is the permutation of concept g.

    Raises:
      ValueError: `num_concepts` is out of its range.
    """
    if not 1 <= num_concepts <= num_classes:
        raise ValueError(
            f"num_concepts must be from 1 to the number of classes, {num_classes}, "
            f"got {num_concepts}"
        )
    circle = generator.permutation(num_classes)
    labels = np.empty((num_concepts, num_classes), np.int64)
    for concept in range(num_concepts):
        labels[concept, circle] = np.roll(circle, -concept)
    return labels


def client_concepts(num_clients: int, num_concepts: int) -> np.ndarray:
    """The concept of each client, int64 `[clients]`: assigned in turns."""
    return np.arange(num_clients) % num_concepts


def rotate_images(
    images: np.ndarray, degrees: float, *, background: float
) -> np.ndarray:
    """Images turned counter-clockwise about their centre, interpolated bilinearly.

    Multiples of 90 degrees move pixels only and are exact.

    Args:
      images: `[n, height, width, ...]`, height and width equal.
      degrees: any finite angle.
      background: value of pixels outside of the original image.

    Raises:
      ValueError: images that are not square, or an angle that is not finite.
    """
    if images.ndim < 3 or images.shape[1] != images.shape[2]:
        raise ValueError(
            f"expected square images [n, side, side, ...], got {images.shape}"
        )
    if not math.isfinite(degrees):
        raise ValueError(f"degrees must be finite, got {degrees}")
    quarters, remainder = divmod(degrees, 90.0)
    if remainder == 0:
        return np.rot90(images, int(quarters) % 4, axes=(1, 2)).copy()
    if not len(images):
        return images.copy()
    # Imported here, since few users rotate images.
    from scipy import ndimage

    turned: np.ndarray = ndimage.rotate(
        images,
        degrees,
        axes=(2, 1),
        reshape=False,
        order=1,
        mode="constant",
        cval=background,
    )
    return turned


def rotation(
    data: ClientData,
    degrees: float,
    *,
    background: float = 0.0,
    image_shape: tuple[int, ...] | None = None,
) -> ClientData:
    """Feature skew: client k's images are turned by its own angle.

    Ghifary et al. 2015 (arXiv 1508.07680) use rotated images as domains, and Ghosh et
    al. 2020 (arXiv 2006.04088) as clients' distributions, with a few angles. Here every
    client has another angle, see `client_angles`.

    Args:
      data: x is `[n, side, side, ...]`.
      degrees: the largest angle, from 0 to 180.
      background: value of pixels outside of the original image.
      image_shape: shape of an image, if x has flattened images.

    Raises:
      ValueError: `degrees` is out of its range, the images are not square, or there is
        not one array x.
    """
    x_shape = structures.single(data.specs, "x", "rotation").shape
    shape = image_shape or x_shape
    if len(shape) < 2 or shape[0] != shape[1]:
        raise ValueError(f"rotation expects square images, got x of {shape}")
    if math.prod(shape) != math.prod(x_shape):
        raise ValueError(
            f"x of shape {x_shape} and images of shape {shape} have different numbers "
            "of values; give the shape of an image as image_shape"
        )
    angles = client_angles(len(data), degrees)

    def turned(place: int, _: str, examples: Examples) -> Examples:
        x = examples["x"]
        images = x.reshape(len(x), *shape)
        images = rotate_images(images, float(angles[place]), background=background)
        return {**examples, "x": images.reshape(x.shape).astype(x.dtype)}

    return _changed(data, turned)


def noise(data: ClientData, level: float, *, seed: int, part: str = "") -> ClientData:
    """Feature skew: Gaussian noise whose level grows with the client.

    Li et al. 2022 (NIID-Bench, arXiv 2102.02079). Noised features are not clipped to
    their range.

    Args:
      data: x is of a floating-point type.
      level: the last client's standard deviation, in units of the features.
      seed: the seed of the noise.
      part: name of a part of the data (training or test set); parts with the same
        client ids get independent noise.

    Raises:
      ValueError: `level` is not above 0 and finite, or x is not one floating-point
        array.
    """
    dtype = structures.single(data.specs, "x", "noise").dtype
    if np.dtype(dtype).kind != "f":
        raise ValueError(f"noise expects floating-point features, got {dtype}")
    levels = client_noise_levels(len(data), level)

    def noised(place: int, client_id: str, examples: Examples) -> Examples:
        x = examples["x"]
        generator = derived_generator("feature_noise", seed, part, client_id)
        feature_noise = generator.standard_normal(x.shape) * levels[place]
        return {**examples, "x": (x + feature_noise).astype(x.dtype)}

    return _changed(data, noised)


def concept_shift(
    data: ClientData, num_concepts: int, *, num_classes: int, seed: int
) -> ClientData:
    """Concept shift: groups of clients have different labels for the same features.

    Labels are permuted by group as in Sattler et al. 2019 (arXiv 1910.01991), so
    that clients form the clusters that IFCA assumes (Ghosh et al. 2020,
    arXiv 2006.04088). Client k is in group `k mod num_concepts`; see
    `concept_labels` for the permutations.

    Args:
      data: y holds labels from 0 to `num_classes - 1`.
      num_concepts: groups, between 1 and `num_classes`.
      num_classes: C.
      seed: the seed of the permutations.

    Raises:
      ValueError: `num_concepts` is out of its range, or y is not one array of
        integers. Loading a client raises it for a label out of its range.
    """
    dtype = structures.single(data.specs, "y", "concept shift").dtype
    if np.dtype(dtype).kind not in "iu":
        raise ValueError(f"concept shift expects integer labels, got {dtype}")
    generator = derived_generator("concept_shift", seed)
    labels = concept_labels(num_concepts, num_classes, generator)
    concepts = client_concepts(len(data), num_concepts)

    def relabelled(place: int, client_id: str, examples: Examples) -> Examples:
        y = examples["y"]
        # NumPy takes -1 for the last class.
        wrong = y[(y < 0) | (y >= num_classes)]
        if len(wrong):
            raise ValueError(
                f"concept shift expects labels from 0 to {num_classes - 1}, and client "
                f"{client_id} has the label {wrong[0]}; change the label, or leave the "
                "example out"
            )
        y = labels[concepts[place]][y].astype(y.dtype)
        return {**examples, "y": y}

    return _changed(data, relabelled)


def _check_clients(num_clients: int) -> None:
    if num_clients < 1:
        raise ValueError(f"num_clients must be at least 1, got {num_clients}")


def _changed(
    data: ClientData, change: Callable[[int, str, Examples], Examples]
) -> ClientData:
    """The data with `change(place, client id, examples)` applied on loading."""
    places = {client_id: place for place, client_id in enumerate(data.client_ids)}

    @functools.lru_cache(maxsize=_CACHED_CLIENTS)
    def load(client_id: str) -> Examples:
        return change(places[client_id], client_id, data.load(client_id))

    return dataclasses.replace(data, load=load, holders=None)
