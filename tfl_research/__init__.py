"""Federated-learning research on TensorFlow Federated.

An algorithm is assembled once from tasks, client work, an aggregator and a server
optimizer into a TFF process; a runtime executes it and a ledger accounts for it.
"""

from typing import TYPE_CHECKING

from tfl_research import _lazy

if TYPE_CHECKING:
    from tfl_research import (
        aggregators as aggregators,
        algorithms as algorithms,
        attacks as attacks,
        cli as cli,
        clients as clients,
        data as data,
        devices as devices,
        models as models,
        privacy as privacy,
        processes as processes,
        program as program,
        report as report,
        runtime as runtime,
        sampling as sampling,
        storage as storage,
        tasks as tasks,
    )
__getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
