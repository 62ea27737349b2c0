"""Turns a failed computation's error into one line that names the client or server."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence

import tensorflow as tf

from tfl_research import interrupts
from tfl_research.errors import UserError
from tfl_research.runtime.compiler import chunks
from tfl_research.runtime.compiler.chunk_execution import in_graph
from tfl_research.runtime.compiler.map_reduce import MapReduce

# The text that TensorFlow adds to a kernel's message.
_ADDED = re.compile(
    r"Graph execution error:|Detected at node|<stack traces unavailable>|Stack trace"
    r"|\[\[\{\{node|\d+ root error|\(\d+\) |^File \"|^\[\["
)


def message(error: tf.errors.OpError) -> str:
    """A kernel's message in one line, without TensorFlow's additions."""
    return in_one_line(str(error.message)) or type(error).__name__


def in_one_line(text: str) -> str:
    """A message of TensorFlow in one line, without what TensorFlow adds."""
    lines = [line.strip() for line in text.splitlines()]
    kept = [line for line in lines if line and not _ADDED.search(line)]
    return re.sub(r"\{\{.*?\}\} ?", "", " ".join(kept or lines)).strip()


def named(
    programs: MapReduce,
    context: Sequence[tf.Tensor],
    chunk: chunks.Chunk,
    error: tf.errors.OpError,
) -> UserError:
    """The error of a chunk's first client whose computation also fails alone.

    Raises:
      Interrupt: a signal came, and its exception may have become the error.
    """
    interrupts.check()
    for index in range(chunk.count):
        alone = chunks.Chunk([leaf[index : index + 1] for leaf in chunk.leaves], 1)
        try:
            in_graph(programs, context, alone)
        except tf.errors.OpError as own:
            return UserError(f"{chunk.names[index]}: {message(own)}")
    return UserError(f"a client of the cohort: {message(error)}")


@contextlib.contextmanager
def at_server() -> Iterator[None]:
    """Turns a kernel's failure in the block into a line that names the server.

    Raises:
      UserError: a kernel failed, for example because of an assertion.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        raise UserError(f"the server's computation: {message(error)}") from error


@contextlib.contextmanager
def reading(index: int) -> Iterator[None]:
    """Turns a failure in a client's dataset into a line that names the client.

    Raises:
      UserError: the dataset failed.
    """
    try:
        yield
    except tf.errors.OpError as error:
        raise UserError(
            f"client {index} of the cohort: reading its dataset failed "
            f"({message(error)})"
        ) from error
