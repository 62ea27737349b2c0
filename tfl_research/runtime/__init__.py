"""Engines that execute TFF processes, and TFF's workers, which some engines start.

`graphs`, `tracing`, `conversion` and `compiler` make programs of a process. `rounds`
executes a round by these programs, and `workers` lets workers execute it. `processes`
assembles the processes.
"""

from tfl_research.runtime.compiler.mode import Mode as Mode
from tfl_research.runtime.conversion.process_forms import (
    UnsupportedProcess as UnsupportedProcess,
)
from tfl_research.runtime.digests import (
    computation_digests as computation_digests,
    is_unrepeatable_operation as is_unrepeatable_operation,
    unrepeatable_operations as unrepeatable_operations,
)
from tfl_research.runtime.engine import ClientValues as ClientValues, Engine as Engine
from tfl_research.runtime.explanation import (
    Explanation as Explanation,
    explain as explain,
)
from tfl_research.runtime.graphs.process_shape import as_process as as_process
from tfl_research.runtime.in_process import (
    InProcessEngine as InProcessEngine,
    in_process as in_process,
)
from tfl_research.runtime.keyed import KeyedEngine as KeyedEngine
from tfl_research.runtime.placement import prepare as prepare
from tfl_research.runtime.plain_leaves import plain_leaves as plain_leaves
from tfl_research.runtime.remote import RemoteEngine as RemoteEngine, remote as remote
from tfl_research.runtime.tff_local import (
    TffLocalEngine as TffLocalEngine,
    tff_local as tff_local,
)
from tfl_research.runtime.workers.remote_worker import (
    WorkerUnavailable as WorkerUnavailable,
)
from tfl_research.runtime.workers.worker import (
    NotIsolated as NotIsolated,
    Worker as Worker,
)
