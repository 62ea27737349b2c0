"""Empirical audits: canary clients and membership inference, with intervals.

What a mechanism promises by theorem is in the rest of `privacy`; estimators here need
NumPy and SciPy, and only what takes part in a round imports TensorFlow.
"""

from tfl_research import _lazy

_MODULES = {
    "AuditResult": "results",
    "Canaries": "canaries",
    "CanaryObserver": "observer",
    "ClaimedWeights": "claims",
    "GaussianEstimate": "gaussian_fit",
    "MembershipResult": "membership",
    "OneRunBound": "one_run",
    "SABOTAGES": "canaries",
    "STATISTICS": "canaries",
    "WithoutExcluded": "canaries",
    "clopper_pearson_lower_bound": "one_run",
    "cosines": "directions",
    "direction": "directions",
    "direction_seed": "directions",
    "epsilon_between_gaussians": "gaussian_fit",
    "estimate_epsilon": "gaussian_fit",
    "loss_threshold_attack": "membership",
    "observed": "observer",
    "one_run_lower_bound": "one_run",
    "sabotaged": "sabotage",
}
__all__ = list(_MODULES)
__getattr__, __dir__ = _lazy.attach(
    __name__, {name: f"{__name__}.{module}" for name, module in _MODULES.items()}
)
