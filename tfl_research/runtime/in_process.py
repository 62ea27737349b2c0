"""Executes rounds of a TFF process in this Python process, without TFF's worker."""

from __future__ import annotations

import functools
import logging
import pathlib
from collections.abc import Sequence
from typing import Any, Optional

import tensorflow as tf
import tensorflow_federated as tff

from tfl_research import interrupts
from tfl_research.runtime import cores
from tfl_research.runtime.compiler import choice
from tfl_research.runtime.compiler.mode import Mode
from tfl_research.runtime.compiler.xla import CannotCompile, set_flags
from tfl_research.runtime.conversion.process_forms import UnsupportedProcess
from tfl_research.runtime.engine import ClientValues, ClosedOnExit
from tfl_research.runtime.explanation import examine, handed
from tfl_research.runtime.graphs import process_shape
from tfl_research.runtime.graphs.structures import pack, tensors
from tfl_research.runtime.kept_execution import Execution, KeptExecution
from tfl_research.runtime.placement import NONE, placement
from tfl_research.runtime.rounds.local_rounds import LocalRounds
from tfl_research.runtime.tff_local import TffLocalEngine, tff_local
from tfl_research.runtime.tracing.interpreter import CannotTrace
from tfl_research.runtime.workers.connection import ANSWER_SECONDS

_LOG = logging.getLogger(__name__)


class InProcessEngine(ClosedOnExit):
    """Executes TFF processes that compile to a map-reduce form.

    Cohorts are divided into chunks. All cores compute chunks at the same time, and a
    chunk is executed by one compiled program. Clients' datasets are read into tensors
    once a round. If the programs cannot execute a process, TFF's runtime does.

    Attributes:
      mode: how clients are executed; None until the first round chooses a mode.
      choice_reason: the reason for the mode, in words.
      parallel: number of chunks that are computed at the same time.
      explanation: how the process is executed, and why; see `runtime.explain`.
      placement: the devices that execute the programs.
    """

    def __init__(
        self,
        process: tff.templates.IterativeProcess,
        *,
        mode: Optional[Mode] = None,
        chunk_size: Optional[int] = None,
        parallel: Optional[int] = None,
        accelerator: str = NONE,
        choice_file: Optional[pathlib.Path] = None,
        choice_key: bytes = b"",
        choice_made: bool = False,
        answer_seconds: float = ANSWER_SECONDS,
        open_port: bool = False,
    ):
        self._process = process
        self.placement = placement(accelerator)
        self._is_given, self._has_warned = mode is not None, False
        self._keep = KeptExecution(choice_file, choice_key)
        kept = self._keep.read()
        if kept is not None:
            self._keep.check(kept, accelerator, cores.operation_threads())
            mode, parallel = mode or kept.mode, parallel or kept.parallel
        programs, self.explanation = examine(process)
        if programs is None and mode is not None:
            if not self._is_given:
                raise self._refused(mode, self.explanation.reason)
            raise UnsupportedProcess(
                f"mode {mode} is for processes that run in process, but "
                f"{self.explanation.reason}; leave the mode out: TFF's runtime is used"
            )
        self._state_type = process_shape.parameters(process)[0]
        self._output_type = process.next.type_signature.result
        # A GPU executes one chunk at a time.
        at_once = len(self.placement.devices) or cores.available()
        self.parallel = parallel or at_once
        self.mode = mode
        self.choice_reason = "given" if mode is not None else ""
        self._handed: Optional[TffLocalEngine] = None
        self._hand = functools.partial(
            tff_local, answer_seconds=answer_seconds, open_port=open_port
        )
        if programs is None:
            self._hand_over(self.explanation.reason)
            return
        if kept is not None and kept.mode is None:
            self._hand_over(kept.reason)
            return
        self._programs = programs
        self._rounds = LocalRounds(
            programs,
            self.placement,
            parallel=self.parallel,
            chunk_size=chunk_size,
            # On the CPU, clients of small cohorts are never tried all at once.
            one_by_one=not self.placement.devices
            and (mode is None or mode.clients == "folded"),
            not_compiled=self._not_compiled,
        )
        if choice_made:
            self._keep.require(kept)
        set_flags()
        if mode is not None:
            self._check(mode)
            if kept is None:
                self._write(mode, "given")

    def _write(self, mode: Optional[Mode], reason: str) -> None:
        """Writes to the choice file how rounds are executed."""
        self._keep.write(
            Execution(
                mode,
                self.parallel,
                reason,
                self.placement.accelerator,
                cores.operation_threads(),
            )
        )

    def _check(self, mode: Mode) -> None:
        """Refuses a mode that cannot execute this process as TFF does."""
        reasons = choice.refusals(self._programs, mode)
        if mode.clients == "separate" and self.placement.devices:
            reasons = ["it executes clients as sites do, which use no GPU"]
        if reasons:
            raise self._refused(mode, reasons[0])

    def _refused(self, mode: Optional[Mode], reason: object) -> UnsupportedProcess:
        """Words for why a mode that was given, or kept by the run, is refused."""
        way_out = (
            "leave the mode out, or use Mode('folded', 'graph')"
            if self._is_given
            else "the run's earlier rounds were executed in this mode: start over in "
            "another folder"
        )
        return UnsupportedProcess(
            f"mode {mode} cannot execute this process: {reason}; {way_out}"
        )

    def _hand_over(self, reason: str) -> TffLocalEngine:
        """Gives the process to TFF's runtime, which uses no GPU."""
        if self.placement.accelerator != NONE:
            raise UnsupportedProcess(
                f"accelerator {self.placement.accelerator}: TFF's runtime would "
                f"execute this process, on the CPU ({reason}); leave the accelerator "
                "out"
            )
        _LOG.warning("TFF's runtime executes this process: %s", reason)
        self.explanation = handed(self._process, reason)
        self.mode, self.choice_reason = None, reason
        self._handed = self._hand(self._process)
        return self._handed

    def initialize(self) -> Any:
        """The initial server state, leaves as TensorFlow tensors or NumPy arrays."""
        if self._handed is not None:
            return self._handed.initialize()
        try:
            with self.placement.server():
                leaves = self._programs.initialize.run()
        except CannotTrace as error:
            return self._give_up(error).initialize()
        return pack(iter(leaves), self._process.initialize.type_signature.result)

    def next(self, state: Any, cohort: ClientValues) -> tuple[Any, Any]:
        """Executes a round; returns (new state, metrics) with TensorFlow tensors.

        Args:
          state: a state of `initialize` or of an earlier round, from any engine.
          cohort: a cohort of the toolkit, or a list with one value per client of
            the type that the process takes; may be empty. A client's dataset is a
            `tf.data.Dataset` or a list of elements.

        Raises:
          ValueError: a client's value does not have the process' type.
          UserError: a client's computation fails, for instance on a label that is out
            of range.
        """
        if self._handed is not None:
            return self._handed.next(state, cohort)
        try:
            with self.placement.server():
                output = self._output(tensors(state, self._state_type), cohort)
        except CannotTrace as error:
            return self._give_up(error).next(state, cohort)
        packed = pack(iter(output), self._output_type)
        return process_shape.split(packed, self._process)

    def _output(self, state: Sequence[tf.Tensor], cohort: ClientValues) -> Any:
        """Executes a round, and returns the leaves of its output."""
        mode = self.mode or self._chosen(state, cohort)
        return self._rounds.next(state, cohort, mode)

    def _chosen(self, state: Sequence[tf.Tensor], cohort: ClientValues) -> Mode:
        """Chooses the mode, and keeps the choice before a round uses it."""
        try:
            with self.placement.clients(0):
                mode, reason, self._rounds.has_compiled = choice.choose(
                    self._programs,
                    state,
                    self._rounds.chunks(cohort),
                    self.placement.description,
                    fills_cores=self._rounds.fills_cores(cohort),
                    cohort_size=len(cohort),
                )
        except tf.errors.InvalidArgumentError:
            interrupts.check()
            # The round fails on the same client, and names the client.
            return Mode("folded", "graph")
        self._rounds.build(mode, cohort)
        self.mode, self.choice_reason = mode, reason
        self._write(mode, reason)
        return mode

    def _give_up(self, error: CannotTrace) -> TffLocalEngine:
        """Gives the process to TFF's runtime, unless the user chose a mode."""
        if self.mode is not None:
            raise self._refused(self.mode, error) from error
        self._rounds.close()
        engine = self._hand_over(str(error))
        self._write(None, str(error))
        return engine

    def _not_compiled(self, error: CannotCompile) -> None:
        """Refuses the mode if the user chose it; otherwise warns once."""
        if self._is_given:
            raise self._refused(self.mode, error) from error
        if not self._has_warned:
            self._has_warned = True
            _LOG.warning("%s; TensorFlow's executor executes such clients", error)

    def close(self) -> None:
        """Ends the threads; compiled programs remain for other engines."""
        (self._handed or self._rounds).close()


def in_process(
    process: tff.templates.IterativeProcess,
    *,
    mode: Optional[Mode] = None,
    chunk_size: Optional[int] = None,
    parallel: Optional[int] = None,
    accelerator: str = NONE,
    choice_file: Optional[pathlib.Path] = None,
    choice_key: bytes = b"",
    choice_made: bool = False,
    answer_seconds: float = ANSWER_SECONDS,
    open_port: bool = False,
) -> InProcessEngine:
    """Makes an engine that executes `process` in this Python process.

    Example, an engine whose mode stays the same when `program.run` resumes in its
    folder:

        engine = runtime.in_process(process, choice_file=folder.path / "runtime.json")
        program.run(engine=engine, folder=folder, ...)

    Args:
      process: any `tff.templates.IterativeProcess`. TFF's runtime executes a process
        without a map-reduce form, or with operations that the programs do not support
        (`runtime.explain`); a line of the log says so.
      mode: how clients are executed; by default measured in the first round.
      chunk_size: number of clients in a chunk; by default bounded by memory.
      parallel: number of chunks that are computed at the same time; by default the
        number of available cores, or of GPUs.
      accelerator: "gpu" executes clients' work on the GPUs that TensorFlow sees, and
        the server's programs on the CPU; see `runtime.placement.prepare`. "none"
        executes all programs on the CPU.
      choice_file: the file that keeps the mode and `parallel` for later engines of the
        same run, so that their results round alike. An existing choice is used instead
        of a measurement. Without a file, a later engine may measure another mode.
      choice_key: secret; with a key, a choice file that was edited is refused.
      choice_made: whether a missing choice file is refused, since an earlier engine of
        the run has executed rounds.
      answer_seconds, open_port: for TFF's runtime, if it executes the process; see
        `tff_local`.

    Raises:
      UserError: the choice file cannot be read, was edited or is missing, or names
        another accelerator or another number of threads for an operation than this
        process has (`runtime.prepare`); TensorFlow finds no GPU.
      UnsupportedProcess: the process cannot run in the given mode, or on a GPU.
    """
    return InProcessEngine(
        process,
        mode=mode,
        chunk_size=chunk_size,
        parallel=parallel,
        accelerator=accelerator,
        choice_file=choice_file,
        choice_key=choice_key,
        choice_made=choice_made,
        answer_seconds=answer_seconds,
        open_port=open_port,
    )
