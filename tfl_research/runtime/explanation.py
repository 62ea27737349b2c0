"""Says how a process is executed, and why."""

from __future__ import annotations

import dataclasses
from typing import Optional

import tensorflow_federated as tff

from tfl_research.runtime.compiler import choice, forms
from tfl_research.runtime.compiler.map_reduce import MapReduce
from tfl_research.runtime.compiler.mode import Mode
from tfl_research.runtime.conversion.process_forms import UnsupportedProcess
from tfl_research.runtime.graphs import process_shape


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Explains how `runtime.in_process` executes a process; `print` shows the text.

    Attributes:
      runtime: "in_process", or "tff_local" if TFF's runtime executes the process.
      reason: the reason for this runtime.
      client_data: how clients' data reach the computation.
      modes: the ways to execute clients; the first round measures which way is the
        fastest; empty on TFF's runtime.
      not_compiled: the reasons why XLA compiles no chunk; empty if XLA may.
      parts: for each part of a round, how it is added to the programs.
    """

    runtime: str
    reason: str
    client_data: str
    modes: tuple[Mode, ...] = ()
    not_compiled: tuple[str, ...] = ()
    parts: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        lines = [
            f"runtime: {self.runtime} ({self.reason})",
            f"clients' data: {self.client_data}",
        ]
        if self.modes:
            modes = "; ".join(map(str, self.modes))
            lines.append(
                f"clients: {modes} (the first round finds the fastest by measuring)"
            )
        lines += [f"not compiled by XLA: {reason}" for reason in self.not_compiled]
        lines += [f"{name}: {how}" for name, how in self.parts]
        return "\n".join(lines)


def explain(process: tff.templates.IterativeProcess) -> Explanation:
    """Says how `runtime.in_process` executes a process, without executing it.

    Example:

        print(runtime.explain(process))

    Args:
      process: any `tff.templates.IterativeProcess`.
    """
    try:
        return _explained(forms.peek(process))
    except UnsupportedProcess as error:
        return handed(process, str(error))


def examine(
    process: tff.templates.IterativeProcess,
) -> tuple[Optional[MapReduce], Explanation]:
    """The programs of a process, None if TFF's runtime executes it, and why."""
    try:
        programs = forms.claim(process)
    except UnsupportedProcess as error:
        return None, handed(process, str(error))
    explanation = _explained(programs)
    return (programs if explanation.runtime == "in_process" else None), explanation


def handed(process: tff.templates.IterativeProcess, reason: str) -> Explanation:
    """The explanation of a process that TFF's runtime executes."""
    has_clients = process_shape.client_type(process) is not None
    data = "as they are given, by TFF" if has_clients else "none"
    return Explanation("tff_local", reason, data)


def _explained(programs: MapReduce) -> Explanation:
    if programs.untraceable:
        return Explanation(
            "tff_local",
            "; ".join(programs.untraceable),
            "as they are given, by TFF",
        )
    data = "tensors"
    if programs.layout.has_sequences:
        data = (
            "datasets, read into tensors once a round; full batches in a loop that XLA "
            "may compile, others in TensorFlow's executor"
        )
    modes = choice.candidates(programs)
    if programs.vectorises:
        modes.append(Mode("vectorised", modes[0].compiler))
    parts = tuple((name, graph.how) for name, graph in programs.parts.items())
    return Explanation(
        "in_process",
        "all operations are pure, or the runtime keeps their state and effects",
        data,
        tuple(modes),
        tuple(programs.not_for_xla),
        parts,
    )
