"""TFF aggregation factories for model updates, and robust rules of stacked updates.

Mechanisms of differential privacy live in `privacy`, and what clients compute in
`clients`.
"""

from tfl_research import _lazy
from tfl_research.aggregators.breakdown import RULES, RobustRule, check_cohort
from tfl_research.aggregators.with_privacy import (
    check_with_privacy,
    check_with_secure_sum,
    check_with_sparse_updates,
    is_noised_at_clients,
)

__all__ = [
    "RULES",
    "AttackedFactory",
    "NormClippingFactory",
    "RepeatedMeanFactory",
    "RobustRule",
    "StackingFactory",
    "TrustedRootFactory",
    "check_cohort",
    "check_with_privacy",
    "check_with_secure_sum",
    "check_with_sparse_updates",
    "clipping",
    "compression",
    "is_noised_at_clients",
    "mean",
    "robust",
    "rules",
    "secure",
    "zeroing",
]
# Everything else imports TensorFlow.
_AVERAGING = "tfl_research.aggregators.averaging"
__getattr__, _ = _lazy.attach(
    __name__,
    {
        "AttackedFactory": "tfl_research.aggregators.attacked",
        "NormClippingFactory": "tfl_research.aggregators.norm_clipping",
        "RepeatedMeanFactory": "tfl_research.aggregators.repeated_mean",
        "StackingFactory": "tfl_research.aggregators.stacking",
        "TrustedRootFactory": "tfl_research.aggregators.trusted_root",
        "clipping": _AVERAGING,
        "compression": _AVERAGING,
        "mean": _AVERAGING,
        "robust": _AVERAGING,
        "rules": "tfl_research.aggregators.rules",
        "secure": _AVERAGING,
        "zeroing": _AVERAGING,
    },
)
