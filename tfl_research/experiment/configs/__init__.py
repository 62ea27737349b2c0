"""Settings of the parts of an experiment: plain dataclasses that check themselves.

`algorithms`, `privacy` and `aggregators` have the settings of algorithms, mechanisms
and aggregators. `experiment.compatibility` says which parts fit together. This package
builds no part.
"""

from tfl_research.experiment.configs.attack import Attack as Attack
from tfl_research.experiment.configs.audit import Audit as Audit
from tfl_research.experiment.configs.baseline import Baseline as Baseline
from tfl_research.experiment.configs.cohorts import (
    Cohorts as Cohorts,
    Weighting as Weighting,
)
from tfl_research.experiment.configs.compression import Compression as Compression
from tfl_research.experiment.configs.devices import Devices as Devices
from tfl_research.experiment.configs.process_privacy import (
    ProcessPrivacy as ProcessPrivacy,
)
from tfl_research.experiment.configs.record_privacy import (
    RecordLevelPrivacy as RecordLevelPrivacy,
)
from tfl_research.experiment.configs.release import Release as Release
from tfl_research.experiment.configs.runtime import Runtime as Runtime
from tfl_research.experiment.configs.secure_sums import SecureSums as SecureSums
from tfl_research.experiment.configs.silos import Silos as Silos
from tfl_research.experiment.configs.task import (
    Batches as Batches,
    TaskChoice as TaskChoice,
)
from tfl_research.experiment.configs.training import Training as Training
from tfl_research.experiment.configs.user_privacy import (
    UserLevelPrivacy as UserLevelPrivacy,
)
