"""The ways in which a cohort's clients can be executed."""

from __future__ import annotations

import dataclasses

CLIENT_MODES = ("folded", "vectorised", "separate")
COMPILERS = ("xla", "graph")


@dataclasses.dataclass(frozen=True)
class Mode:
    """How the clients of a chunk are executed.

    Attributes:
      clients: "folded" (one after another in one program), "vectorised" (all at once)
        or "separate" (each in its own program, as at the sites of a federation; reports
        are added up one by one in the order of the cohort). If XLA cannot compile a
        client's program, "separate" executes the client in TensorFlow's executor, as a
        site does, with a warning; other modes are refused.
      compiler: "xla" or "graph" (TensorFlow's own executor). If clients hold datasets,
        XLA compiles only the loops over full batches.

    Raises:
      ValueError: an attribute has another value.
    """

    clients: str = "folded"
    compiler: str = "xla"

    def __post_init__(self) -> None:
        if self.clients not in CLIENT_MODES:
            raise ValueError(f"clients must be one of {CLIENT_MODES}: {self.clients!r}")
        if self.compiler not in COMPILERS:
            raise ValueError(f"compiler must be one of {COMPILERS}: {self.compiler!r}")

    def __str__(self) -> str:
        return f"{self.clients}, {self.compiler}"
