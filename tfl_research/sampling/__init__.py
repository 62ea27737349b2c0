"""Cohort samplers, each with its amplification of privacy.

This package imports neither TensorFlow nor accountants, and reads no client's data.
`devices` has samplers that simulate devices.
"""

from tfl_research.sampling.accompanied import Accompanied
from tfl_research.sampling.amplification import (
    KINDS,
    NEIGHBOURING_RELATIONS,
    Amplification,
)
from tfl_research.sampling.min_separation import CyclicPoisson, MinSeparation
from tfl_research.sampling.repeated import Repeated
from tfl_research.sampling.samplers import (
    FixedSize,
    Full,
    Poisson,
    Sampler,
    Shuffled,
)
from tfl_research.sampling.successive import Successive

# What settings and mechanisms call the samplers.
NAMES = (
    "poisson",
    "fixed",
    "shuffled",
    "full",
    "min_separation",
    "cyclic_poisson",
)

__all__ = [
    "KINDS",
    "NAMES",
    "NEIGHBOURING_RELATIONS",
    "Accompanied",
    "Amplification",
    "CyclicPoisson",
    "FixedSize",
    "Full",
    "MinSeparation",
    "Poisson",
    "Repeated",
    "Sampler",
    "Shuffled",
    "Successive",
]
