"""Empirical audits by canary clients and membership inference, with intervals.

The estimators need only NumPy and SciPy. Only the parts that a round executes import
TensorFlow. The other packages of `privacy` have the guarantees by theorem.
"""

from typing import TYPE_CHECKING

from tfl_research import _lazy

if TYPE_CHECKING:
    from tfl_research.clients.canary_directions import (
        cosines as cosines,
        direction as direction,
        direction_seed as direction_seed,
    )
    from tfl_research.privacy.audit.canaries import (
        SABOTAGES as SABOTAGES,
        STATISTICS as STATISTICS,
        Canaries as Canaries,
        WithoutExcluded as WithoutExcluded,
    )
    from tfl_research.privacy.audit.claims import ClaimedWeights as ClaimedWeights
    from tfl_research.privacy.audit.gaussian_fit import (
        GaussianEstimate as GaussianEstimate,
        epsilon_between_gaussians as epsilon_between_gaussians,
        estimate_epsilon as estimate_epsilon,
    )
    from tfl_research.privacy.audit.membership import (
        MembershipResult as MembershipResult,
        loss_threshold_attack as loss_threshold_attack,
    )
    from tfl_research.privacy.audit.observer import (
        CanaryObserver as CanaryObserver,
        observed as observed,
    )
    from tfl_research.privacy.audit.one_run import (
        OneRunBound as OneRunBound,
        clopper_pearson_lower_bound as clopper_pearson_lower_bound,
        one_run_lower_bound as one_run_lower_bound,
    )
    from tfl_research.privacy.audit.results import AuditResult as AuditResult
    from tfl_research.privacy.audit.sabotage import sabotaged as sabotaged
    from tfl_research.privacy.audit.sabotaged_account import (
        SabotagedAccount as SabotagedAccount,
    )
else:
    __getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
