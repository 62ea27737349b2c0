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
from tfl_research.sampling.own import (
    ACCOUNTED_LIKE,
    NAMES,
    OWN_SAMPLERS,
    OwnCohorts,
    SamplerSettings,
    names,
    register,
)
from tfl_research.sampling.repeated import Repeated
from tfl_research.sampling.samplers import (
    FixedSize,
    Full,
    Poisson,
    Sampler,
    Shuffled,
)
from tfl_research.sampling.successive import Successive

__all__ = [
    "ACCOUNTED_LIKE",
    "KINDS",
    "NAMES",
    "NEIGHBOURING_RELATIONS",
    "OWN_SAMPLERS",
    "Accompanied",
    "Amplification",
    "CyclicPoisson",
    "FixedSize",
    "Full",
    "MinSeparation",
    "OwnCohorts",
    "Poisson",
    "Repeated",
    "Sampler",
    "SamplerSettings",
    "Shuffled",
    "Successive",
    "names",
    "register",
]
