"""What the workloads on random data are, in every environment; needs NumPy alone."""

from __future__ import annotations

from typing import Union

from benchmark.images import IMAGES, Images
from benchmark.large import LARGE, SMALL, Large

Spec = Union[Images, Large]

# A round of the contender "roofline" multiplies matrices of this size, so often.
ROOFLINE_SIZE, ROOFLINE_PRODUCTS = 2048, 4
ROOFLINE_FLOPS = 2.0 * ROOFLINE_SIZE**3 * ROOFLINE_PRODUCTS

SPECS: dict[str, Spec] = {**IMAGES, **LARGE}


def get(name: str) -> Spec:
    """The workload of that name, also a small one of `large.SMALL`."""
    return {**SPECS, **SMALL}[name]
