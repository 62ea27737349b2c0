"""Command-line flags in groups: each a frozen, checked dataclass.

Flags are defined by `Group.define()` and never at import; what they become in
TensorFlow is in `flags.builders`, which is imported once they are checked.
"""

from typing import TYPE_CHECKING

from tfl_research import _lazy
from tfl_research.flags.aggregator_flags import (
    AggregatorFlags as AggregatorFlags,
)
from tfl_research.flags.algorithm_flags import (
    AlgorithmFlags as AlgorithmFlags,
)
from tfl_research.flags.app import (
    given as given,
    hparams as hparams,
    run_main as run_main,
    value as value,
)
from tfl_research.flags.attack_flags import (
    AttackFlags as AttackFlags,
)
from tfl_research.flags.audit_flags import (
    AuditFlags as AuditFlags,
)
from tfl_research.flags.cohort_flags import (
    SamplerFlags as SamplerFlags,
    WeightingFlags as WeightingFlags,
)
from tfl_research.flags.compression_flags import (
    CompressionFlags as CompressionFlags,
)
from tfl_research.flags.cross_silo_flags import (
    CrossSiloFlags as CrossSiloFlags,
)
from tfl_research.flags.declare import (
    FlagError as FlagError,
    FlagGroup as FlagGroup,
)
from tfl_research.flags.device_flags import (
    DeviceFlags as DeviceFlags,
)
from tfl_research.flags.heterogeneity_flags import (
    HeterogeneityFlags as HeterogeneityFlags,
)
from tfl_research.flags.mechanism_flags import (
    MechanismFlags as MechanismFlags,
)
from tfl_research.flags.optimizer_flags import (
    ClientOptimizerFlags as ClientOptimizerFlags,
    OptimizerFlags as OptimizerFlags,
    ServerOptimizerFlags as ServerOptimizerFlags,
)
from tfl_research.flags.privacy_flags import (
    PrivacyFlags as PrivacyFlags,
)
from tfl_research.flags.record_privacy_flags import (
    RecordPrivacyFlags as RecordPrivacyFlags,
)
from tfl_research.flags.run_flags import (
    RunFlags as RunFlags,
)
from tfl_research.flags.silo_flags import (
    SiloFlags as SiloFlags,
)
from tfl_research.flags.sweep_flags import (
    ByzantineGridFlags as ByzantineGridFlags,
    PrivacyUtilityFlags as PrivacyUtilityFlags,
)
from tfl_research.flags.task_flags import (
    TaskFlags as TaskFlags,
)

if TYPE_CHECKING:
    from tfl_research.flags import (
        algorithm_assembly as algorithm_assembly,
        algorithm_checks as algorithm_checks,
        assembly as assembly,
        attack_assembly as attack_assembly,
        audit_assembly as audit_assembly,
        builders as builders,
        byzantine_grid as byzantine_grid,
        private_assembly as private_assembly,
        record_assembly as record_assembly,
        sweep as sweep,
    )
__getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
