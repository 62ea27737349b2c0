"""Command-line flags in groups: each a frozen, checked dataclass.

Flags are defined by `Group.define()` and never at import; what they become in
TensorFlow is in `flags.builders`, which is imported once they are checked.
"""

from tfl_research import _lazy
from tfl_research.flags.aggregator_flags import AggregatorFlags
from tfl_research.flags.algorithm_flags import AlgorithmFlags
from tfl_research.flags.app import given, hparams, run_main, value
from tfl_research.flags.attack_flags import AttackFlags
from tfl_research.flags.audit_flags import AuditFlags
from tfl_research.flags.cohort_flags import SamplerFlags, WeightingFlags
from tfl_research.flags.compression_flags import CompressionFlags
from tfl_research.flags.cross_silo_flags import CrossSiloFlags
from tfl_research.flags.declare import FlagError, FlagGroup
from tfl_research.flags.device_flags import DeviceFlags
from tfl_research.flags.heterogeneity_flags import HeterogeneityFlags
from tfl_research.flags.mechanism_flags import MechanismFlags
from tfl_research.flags.optimizer_flags import (
    ClientOptimizerFlags,
    OptimizerFlags,
    ServerOptimizerFlags,
)
from tfl_research.flags.privacy_flags import PrivacyFlags
from tfl_research.flags.record_privacy_flags import RecordPrivacyFlags
from tfl_research.flags.run_flags import RunFlags
from tfl_research.flags.silo_flags import SiloFlags
from tfl_research.flags.sweep_flags import ByzantineGridFlags, PrivacyUtilityFlags
from tfl_research.flags.task_flags import TaskFlags

__all__ = [
    "AggregatorFlags",
    "AlgorithmFlags",
    "AuditFlags",
    "AttackFlags",
    "ByzantineGridFlags",
    "ClientOptimizerFlags",
    "CompressionFlags",
    "CrossSiloFlags",
    "DeviceFlags",
    "FlagError",
    "FlagGroup",
    "HeterogeneityFlags",
    "MechanismFlags",
    "OptimizerFlags",
    "PrivacyFlags",
    "PrivacyUtilityFlags",
    "RecordPrivacyFlags",
    "RunFlags",
    "SamplerFlags",
    "ServerOptimizerFlags",
    "SiloFlags",
    "TaskFlags",
    "WeightingFlags",
    "algorithm_assembly",
    "algorithm_checks",
    "assembly",
    "audit_assembly",
    "attack_assembly",
    "builders",
    "byzantine_grid",
    "given",
    "hparams",
    "private_assembly",
    "record_assembly",
    "run_main",
    "sweep",
    "value",
]
# `builders` imports TensorFlow.
__getattr__, _ = _lazy.attach(
    __name__,
    {
        "algorithm_assembly": "tfl_research.flags.algorithm_assembly",
        "algorithm_checks": "tfl_research.flags.algorithm_checks",
        "assembly": "tfl_research.flags.assembly",
        "audit_assembly": "tfl_research.flags.audit_assembly",
        "attack_assembly": "tfl_research.flags.attack_assembly",
        "builders": "tfl_research.flags.builders",
        "byzantine_grid": "tfl_research.flags.byzantine_grid",
        "private_assembly": "tfl_research.flags.private_assembly",
        "record_assembly": "tfl_research.flags.record_assembly",
        "sweep": "tfl_research.flags.sweep",
    },
)
