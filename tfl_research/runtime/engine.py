"""The protocol of engines, which execute TFF processes."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Optional, Protocol, TypeVar, Union

from tfl_research.data import Cohort

# A cohort of the toolkit, or the client values that a user's own process takes.
ClientValues = Union[Cohort, Sequence[Any]]
_T = TypeVar("_T")


class Engine(Protocol):
    """Executes a TFF iterative process; a context manager that frees its resources.

    States are nests with leaves that `numpy.asarray` accepts. Every engine of a process
    accepts the states of the other engines of the process.
    """

    def initialize(self) -> Any:
        """The initial server state."""
        ...

    def next(self, state: Any, cohort: ClientValues) -> tuple[Any, Any]:
        """Executes a round; returns (new server state, metrics)."""
        ...

    def close(self) -> None:
        """Frees processes and memory; can be called several times."""
        ...

    def __enter__(self) -> Engine: ...

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None: ...


class ClosedOnExit:
    """A context manager that closes the engine at the end of the block."""

    def close(self) -> None:
        """Frees the resources of the engine."""
        raise NotImplementedError

    def __enter__(self: _T) -> _T:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()
