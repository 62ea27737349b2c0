"""Sweeps: lists of experiments that run one after another, and grids that make them.

`report` makes tables and pictures of the results of sweeps.
"""

from typing import TYPE_CHECKING

from tfl_research import _lazy

if TYPE_CHECKING:
    from tfl_research.experiment.sweeps.byzantine import (
        byzantine_grid as byzantine_grid,
    )
    from tfl_research.experiment.sweeps.grids import (
        check_higher_is_better as check_higher_is_better,
        cross_silo as cross_silo,
        heterogeneity as heterogeneity,
        privacy_utility as privacy_utility,
    )
    from tfl_research.experiment.sweeps.point import Point as Point
    from tfl_research.experiment.sweeps.sweep import Sweep as Sweep
else:
    __getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
