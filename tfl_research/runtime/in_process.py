"""Executes rounds of a TFF process in this Python process, without TFF's worker."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Optional

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.data import Cohort
from tfl_research.errors import UserError
from tfl_research.runtime.compiler import choice, chunks, forms
from tfl_research.runtime.compiler.conversion import UnsupportedProcess
from tfl_research.runtime.compiler.map_reduce import chunk_tensors
from tfl_research.runtime.compiler.mode import Mode
from tfl_research.runtime.compiler.structures import flatten, leaf_types, pack
from tfl_research.runtime.engine import ClientValues, ClosedOnExit
from tfl_research.storage import kept_choice

# Largest number of accumulators that the finishing program takes.
_PARTS = 2


_EIGEN_THREADS = "--xla_cpu_multi_thread_eigen"


def _keep_chunks_to_a_core_each() -> None:
    """Makes XLA compute each chunk on one core, since chunks already use all cores.

    Dividing a client's small matrix products over cores makes rounds slower (W1 of
    scripts/bench: 20 ms a round with division, 16 ms without). XLA reads its flags
    once, at the first compilation. A flag that the user has set does not change.
    """
    given = os.environ.get("XLA_FLAGS", "")
    if _EIGEN_THREADS not in given:
        os.environ["XLA_FLAGS"] = f"{given} {_EIGEN_THREADS}=false".strip()


class InProcessEngine(ClosedOnExit):
    """Executes TFF processes that compile to a map-reduce form.

    Cohorts of the toolkit are divided into chunks. All cores compute chunks at the same
    time, and a chunk is one compiled program. Processes with datasets at the clients
    run in TensorFlow's executor, one client after another.

    Attributes:
      mode: how clients are executed; None until the first round chooses a mode.
      choice_reason: the reason for the mode, in words.
      parallel: number of chunks that are computed at the same time.
    """

    def __init__(
        self,
        process: tff.templates.IterativeProcess,
        *,
        mode: Optional[Mode] = None,
        chunk_size: Optional[int] = None,
        parallel: Optional[int] = None,
        choice_file: Optional[pathlib.Path] = None,
        choice_key: bytes = b"",
        choice_made: bool = False,
    ):
        kept = None
        if choice_file is not None:
            kept = kept_choice.kept(choice_file, _kept_execution, choice_key)
        if kept is not None:
            mode, parallel = mode or kept[0], parallel or kept[1]
        self._programs = forms.claim(process)
        if choice_made and kept is None and self._programs.pure:
            raise UserError(
                f"{choice_file} is missing, so that it is unknown how the run executed "
                "its rounds; restore it, or choose another --output_dir"
            )
        self._process = process
        self._state_type = process.next.type_signature.parameter[0].member
        self._output_type = process.next.type_signature.result
        self._chunk_size = chunk_size
        self.parallel = parallel or chunks.available_cores()
        self._pool: Optional[concurrent.futures.ThreadPoolExecutor] = None
        self._shapes = chunks.Shapes()
        if self.parallel > 1:
            _keep_chunks_to_a_core_each()
        self._choice_file, self._choice_key = choice_file, choice_key
        self.mode = mode
        self.choice_reason = "given" if mode is not None else ""
        if mode is not None and not self._programs.pure:
            raise UnsupportedProcess(
                f"mode {mode} needs client data that are tensors, but this process' "
                "clients hold datasets or variables; leave the mode out, or use "
                "runtime.tff_local(process)"
            )
        if mode is not None and kept is None:
            self._keep_choice()

    def initialize(self) -> Any:
        """The initial server state, leaves as TensorFlow tensors."""
        leaves = self._programs.initialize.run()
        return pack(iter(leaves), self._process.initialize.type_signature.result)

    def next(self, state: Any, cohort: ClientValues) -> tuple[Any, Any]:
        """Executes a round; returns (new state, metrics) with TensorFlow tensors.

        Args:
          state: a state of `initialize` or of an earlier round, from any engine.
          cohort: a cohort of the toolkit, or a list with one value per client of
            the type that the process takes; may be empty.
        """
        leaves = self._state_leaves(state)
        if not self._programs.pure:
            output = self._next_by_datasets(leaves, cohort)
        else:
            if self.mode is None:
                self.mode, self.choice_reason = choice.choose(
                    self._programs, leaves, self._chunks(cohort)
                )
                self._keep_choice()
            output = self._next_by_chunks(leaves, cohort, self.mode)
        new_state, metrics = pack(iter(output), self._output_type)
        return new_state, metrics

    def _keep_choice(self) -> None:
        """Writes the mode to the choice file, before the mode is used."""
        if self._choice_file is None or self.mode is None:
            return
        kept_choice.keep(
            self._choice_file,
            {
                **dataclasses.asdict(self.mode),
                "parallel": self.parallel,
                "reason": self.choice_reason,
            },
            self._choice_key,
        )

    def _state_leaves(self, state: Any) -> list[tf.Tensor]:
        types = leaf_types(self._state_type)
        values = flatten(state, self._state_type)
        return [
            tf.convert_to_tensor(value, tf.as_dtype(leaf.dtype))
            for value, leaf in zip(values, types)
        ]

    def _chunks(self, cohort: ClientValues) -> Iterator[Any]:
        """Yields functions that make the chunks of a cohort, in a fixed order."""
        if isinstance(cohort, Cohort):
            names = [
                name
                for name, _ in tff.structure.iter_elements(self._programs.client_type)
            ]
            division = chunks.divide(
                cohort,
                chunk_size=self._chunk_size,
                parallel=self.parallel,
                shapes=self._shapes,
            )
            for group, shape in zip(division.groups, division.shapes):
                yield lambda group=group, shape=shape: chunks.gather(
                    cohort, group, shape, names
                )
        else:
            yield from self._chunks_of_values(cohort)

    def _chunks_of_values(self, values: Iterable[Any]) -> Iterator[Any]:
        """Makes chunks of a user's values; stacks neighbours of equal shapes."""
        types = leaf_types(self._programs.client_type)
        size = self._chunk_size or chunks.CHUNK_CLIENTS

        def arrays(value: Any) -> list[np.ndarray]:
            leaves = flatten(value, self._programs.client_type)
            return [np.asarray(v, leaf.dtype) for v, leaf in zip(leaves, types)]

        clients = (arrays(value) for value in values)
        for _, run in itertools.groupby(clients, lambda c: [a.shape for a in c]):
            same = list(run)
            for first in range(0, len(same), size):
                part = same[first : first + size]
                pad = chunks.bucket(len(part)) - len(part)
                rows = part + [part[-1]] * pad
                stacked = [np.stack(column) for column in zip(*rows)]
                chunk = chunks.Chunk(stacked, len(part))
                yield lambda chunk=chunk: chunk

    def _next_by_chunks(
        self, state: Sequence[tf.Tensor], cohort: ClientValues, mode: Mode
    ) -> list[tf.Tensor]:
        context = self._programs.start(mode)(state)
        program = self._programs.chunk(mode)

        def compute(make: Any) -> list[tf.Tensor]:
            return run_chunk(program, context, make())

        # The finishing program combines the last accumulators.
        parts: list[list[tf.Tensor]] = []
        for part in self._in_order(compute, self._chunks(cohort)):
            parts.append(part)
            if len(parts) > _PARTS:
                parts[:2] = [self._programs.combine(mode)(parts[0], parts[1])]
        if not parts:
            zero = self._programs.zero.run()
            parts = [list(zero) + self._programs.zero_secure_sums()]
        return self._programs.finish(mode, len(parts))(state, parts)

    def _in_order(self, compute: Any, jobs: Iterator[Any]) -> Iterator[Any]:
        """Yields results in the jobs' order; at most `parallel` jobs run at once."""
        if self.parallel == 1:
            yield from map(compute, jobs)
            return
        if self._pool is None:
            self._pool = concurrent.futures.ThreadPoolExecutor(self.parallel)
        first = itertools.islice(jobs, self.parallel)
        pending = [self._pool.submit(compute, job) for job in first]
        while pending:
            done = pending.pop(0).result()
            pending += [
                self._pool.submit(compute, j) for j in itertools.islice(jobs, 1)
            ]
            yield done

    def _next_by_datasets(
        self, state: Sequence[tf.Tensor], cohort: ClientValues
    ) -> list[tf.Tensor]:
        programs = self._programs
        context = programs.prepare.run(*state)
        accumulator = list(programs.zero.run())
        secure = programs.zero_secure_sums()
        if isinstance(cohort, Cohort):
            cohort = [cohort.batches(index) for index in range(len(cohort))]
        for value in cohort:
            client = _client_tensors(value, programs.client_type)
            reported = programs.work.run(*client, *context)
            count = programs.num_update_leaves
            accumulator = list(programs.accumulate.run(*accumulator, *reported[:count]))
            secure = [a + b for a, b in zip(secure, reported[count:])]
        reported = programs.report.run(*accumulator)
        return programs.update.run(*state, *reported, *programs.reduced_secure(secure))

    def close(self) -> None:
        """Ends the threads; compiled programs remain for other engines."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


def _kept_execution(record: dict[str, Any]) -> tuple[Mode, int]:
    return Mode(record["clients"], record["compiler"]), int(record["parallel"])


def run_chunk(
    program: Any, context: Sequence[tf.Tensor], chunk: chunks.Chunk
) -> list[tf.Tensor]:
    """Executes a chunk program on a chunk's arrays."""
    return program(context, *chunk_tensors(chunk))


def _client_tensors(value: Any, client_type: tff.Type) -> list[tf.Tensor]:
    """A client's leaves as tensors; a dataset becomes a variant tensor."""
    tensors = []
    for leaf, leaf_type in zip(flatten(value, client_type), leaf_types(client_type)):
        if isinstance(leaf_type, tff.SequenceType):
            tensors.append(tf.data.experimental.to_variant(_dataset(leaf)))
        else:
            tensors.append(tf.convert_to_tensor(leaf, tf.as_dtype(leaf_type.dtype)))
    return tensors


def _dataset(value: Any) -> tf.data.Dataset:
    if isinstance(value, tf.data.Dataset):
        return value
    elements = list(value)
    return tf.data.Dataset.from_generator(
        lambda: iter(elements),
        output_signature=tf.nest.map_structure(
            lambda e: tf.TensorSpec(np.shape(e), np.asarray(e).dtype), elements[0]
        ),
    )


def in_process(
    process: tff.templates.IterativeProcess,
    *,
    mode: Optional[Mode] = None,
    chunk_size: Optional[int] = None,
    parallel: Optional[int] = None,
    choice_file: Optional[pathlib.Path] = None,
    choice_key: bytes = b"",
    choice_made: bool = False,
) -> InProcessEngine:
    """Makes an engine that executes `process` in this Python process.

    Example, an engine whose mode stays the same when `program.run` resumes in its
    folder:

        engine = runtime.in_process(process, choice_file=folder.path / "runtime.json")
        program.run(engine=engine, folder=folder, ...)

    Args:
      process: any `tff.templates.IterativeProcess` that has a map-reduce form.
      mode: how clients are executed; by default measured in the first round.
      chunk_size: number of clients in a chunk; by default bounded by memory.
      parallel: number of chunks that are computed at the same time; by default the
        number of available cores.
      choice_file: keeps the mode and `parallel` for later engines of the same run, so
        that they round alike; what it holds comes before a measurement. None keeps
        nothing: a later engine may measure another mode.
      choice_key: secret; with a key, a choice file that was edited is refused.
      choice_made: whether a missing choice file is refused, since an earlier engine of
        the run has executed rounds.

    Raises:
      UserError: the choice file cannot be read, was edited or is missing.
      UnsupportedProcess: the process has no map-reduce form, or a mode was given
        that it cannot run in.
    """
    return InProcessEngine(
        process,
        mode=mode,
        chunk_size=chunk_size,
        parallel=parallel,
        choice_file=choice_file,
        choice_key=choice_key,
        choice_made=choice_made,
    )
