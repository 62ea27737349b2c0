"""Client work: pure per-client TensorFlow functions, and Keras models as functions.

How updates are aggregated, and which data a client holds, is not decided here.
"""

from tfl_research.clients.canary import CanaryWork
from tfl_research.clients.client_work import (
    ClientFunction,
    ClientResult,
    ClientWork,
    PersonalFunction,
    masked_sum,
)
from tfl_research.clients.compressed import CompressedWork
from tfl_research.clients.compressors import (
    Compressor,
    Quantized,
    RandomK,
    TopK,
    decoded,
    encoded_bytes,
)
from tfl_research.clients.functional_model import (
    FunctionalModel,
    from_keras,
    initialized,
)
from tfl_research.clients.local_loop import LocalLoop, LocalRun, LocalSteps
from tfl_research.clients.local_training import LocalTraining, local_training
from tfl_research.clients.low_rank import LowRank
from tfl_research.clients.record_level import (
    RecordLevelTraining,
    record_level_training,
)

__all__ = [
    "CanaryWork",
    "ClientFunction",
    "ClientResult",
    "ClientWork",
    "CompressedWork",
    "Compressor",
    "FunctionalModel",
    "LocalLoop",
    "LocalRun",
    "LocalSteps",
    "LocalTraining",
    "PersonalFunction",
    "LowRank",
    "Quantized",
    "RandomK",
    "RecordLevelTraining",
    "TopK",
    "decoded",
    "encoded_bytes",
    "from_keras",
    "initialized",
    "local_training",
    "masked_sum",
    "record_level_training",
]
