"""What a run keeps on disk: its folder, checkpoints, metrics and clients' states.

When any of this is written is decided by `program`.
"""

from typing import TYPE_CHECKING

from tfl_research import _lazy

if TYPE_CHECKING:
    from tfl_research.storage.checkpoints import (
        Checkpoint as Checkpoint,
        CheckpointStore as CheckpointStore,
    )
    from tfl_research.storage.client_states import ClientStates as ClientStates
    from tfl_research.storage.metrics_log import MetricsLog as MetricsLog
    from tfl_research.storage.run_folder import RunFolder as RunFolder
__getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
