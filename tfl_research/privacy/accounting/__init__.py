"""Events of rounds, their loss distributions, composition, calibration and planning.

NumPy, SciPy and dp_accounting only: what adds the noise is in `privacy.mechanisms`, and
what was spent in `privacy.ledger`.
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
__getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
