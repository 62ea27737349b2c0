"""Client work: what one client computes in a round, as pure TensorFlow functions.

`aggregators` aggregates updates, and `data` has the clients' examples.
"""

from tfl_research.clients.canary import CanaryWork as CanaryWork
from tfl_research.clients.client_work import (
    ClientFunction as ClientFunction,
    ClientResult as ClientResult,
    ClientWork as ClientWork,
    PersonalFunction as PersonalFunction,
    PersonalModel as PersonalModel,
    WrappedWork as WrappedWork,
    masked_sum as masked_sum,
)
from tfl_research.clients.compressed import CompressedWork as CompressedWork
from tfl_research.clients.compressors import (
    Compressor as Compressor,
    Quantized as Quantized,
    RandomK as RandomK,
    TopK as TopK,
    decoded as decoded,
    encoded_bytes as encoded_bytes,
)
from tfl_research.clients.given_work import GivenWork as GivenWork
from tfl_research.clients.local_loop import (
    LocalLoop as LocalLoop,
    LocalRun as LocalRun,
    LocalSteps as LocalSteps,
    sum_specs as sum_specs,
)
from tfl_research.clients.local_state import (
    LocalState as LocalState,
    with_own_statistics as with_own_statistics,
)
from tfl_research.clients.local_training import (
    LocalTraining as LocalTraining,
    local_training as local_training,
)
from tfl_research.clients.low_rank import LowRank as LowRank
from tfl_research.clients.record_privacy.record_level import (
    RecordLevelTraining as RecordLevelTraining,
    record_level_training as record_level_training,
)
