"""Federated-learning research on TensorFlow Federated.

An algorithm is assembled once from tasks, client work, an aggregator and a server
optimizer into a TFF process; a runtime executes it and a ledger accounts for it.
"""

from tfl_research import _lazy

_PACKAGES = (
    "aggregators",
    "algorithms",
    "attacks",
    "clients",
    "data",
    "devices",
    "flags",
    "privacy",
    "processes",
    "program",
    "report",
    "runtime",
    "sampling",
    "tasks",
)
__all__ = list(_PACKAGES)
__getattr__, __dir__ = _lazy.attach(
    __name__, {name: f"{__name__}.{name}" for name in _PACKAGES}
)
