"""Mechanisms, accountants, calibration and the ledger of what was spent.

The only importer of tensorflow_privacy and dp_accounting; TensorFlow is imported
by the mechanisms alone, and nothing here knows of tasks or of the round loop.
"""

from tfl_research import _lazy

_MODULES = {
    "ACCOUNTANTS": "accounting",
    "BudgetExceededError": "shared_ledger",
    "ChargeError": "round_account",
    "ClientLedgers": "client_ledgers",
    "DiscreteGaussianEvent": "discrete_gaussian_event",
    "DistributedPlan": "distributed_plan",
    "EpsilonCurve": "accounting",
    "Event": "events",
    "GaussianEvent": "gaussian_event",
    "HyperparameterSearchEvent": "search_event",
    "Ledger": "ledger",
    "LocalGaussianEvent": "local_gaussian_event",
    "MatrixEvent": "matrix_event",
    "Mechanism": "mechanisms",
    "NO_RUN": "identity",
    "Population": "identity",
    "RecordAccount": "record_account",
    "RecordEvent": "record_event",
    "RoundAccount": "round_account",
    "SharedLedger": "shared_ledger",
    "SkellamEvent": "skellam_event",
    "TreeEvent": "tree_event",
    "adaptive_gaussian_mechanism": "mechanisms",
    "banded_matrix_mechanism": "correlated_mechanisms",
    "bounded_weight_mechanism": "mechanisms",
    "calibrate_distributed": "distributed_calibration",
    "calibrate_event": "calibration",
    "calibrate_noise_multiplier": "calibration",
    "calibrate_record_noise": "record_account",
    "composed_epsilon": "accounting",
    "composed_zcdp": "accounting",
    "default_delta": "budget",
    "default_record_deltas": "record_account",
    "delta_warning": "budget",
    "discrete_gaussian_mechanism": "distributed_sum",
    "epsilon_curve": "accounting",
    "event_from_dict": "events",
    "factorization": "factorization",
    "gaussian_mechanism": "mechanisms",
    "local_gaussian_mechanism": "local_gaussian",
    "local_gaussian_rule": "local_rule",
    "plan_distributed": "distributed_plan",
    "resolve_accountant": "accounting",
    "run_id": "identity",
    "skellam_mechanism": "distributed_sum",
    "tree_mechanism": "correlated_mechanisms",
}
__all__ = list(_MODULES)
__getattr__, __dir__ = _lazy.attach(
    __name__, {name: f"{__name__}.{module}" for name, module in _MODULES.items()}
)
