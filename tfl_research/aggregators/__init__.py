"""TFF aggregation factories for model updates, and robust rules of stacked updates.

Mechanisms of differential privacy live in `privacy`, and what clients compute in
`clients`.
"""

from typing import TYPE_CHECKING

from tfl_research import _lazy
from tfl_research.aggregators.breakdown import (
    RULES as RULES,
    RobustRule as RobustRule,
    check_cohort as check_cohort,
)
from tfl_research.aggregators.with_privacy import (
    check_with_privacy as check_with_privacy,
    check_with_secure_sum as check_with_secure_sum,
    check_with_sparse_updates as check_with_sparse_updates,
    is_noised_at_clients as is_noised_at_clients,
)

if TYPE_CHECKING:
    from tfl_research.aggregators import rules as rules
    from tfl_research.aggregators.attacked import AttackedFactory as AttackedFactory
    from tfl_research.aggregators.averaging import (
        clipping as clipping,
        compression as compression,
        mean as mean,
        robust as robust,
        secure as secure,
        zeroing as zeroing,
    )
    from tfl_research.aggregators.norm_clipping import (
        NormClippingFactory as NormClippingFactory,
    )
    from tfl_research.aggregators.repeated_mean import (
        RepeatedMeanFactory as RepeatedMeanFactory,
    )
    from tfl_research.aggregators.stacking import StackingFactory as StackingFactory
    from tfl_research.aggregators.trusted_root import (
        TrustedRootFactory as TrustedRootFactory,
    )
__getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
