"""Computes ε of rounds: events, privacy losses, composition, calibration, planning.

This package uses only NumPy, SciPy and dp_accounting. `privacy.mechanisms` adds the
noise, and `privacy.ledger` records the events of a run.
"""

from typing import TYPE_CHECKING

from tfl_research import _lazy

if TYPE_CHECKING:
    from tfl_research.privacy.accounting.budget import default_delta as default_delta
    from tfl_research.privacy.accounting.composition import (
        ACCOUNTANTS as ACCOUNTANTS,
        EpsilonCurve as EpsilonCurve,
        composed_epsilon as composed_epsilon,
    )
else:
    __getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
