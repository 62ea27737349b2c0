"""Sets XLA's flags, and tells XLA's compile errors from bad client values."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import tensorflow as tf

from tfl_research import interrupts
from tfl_research.private_worker import xla_flags

# Errors that TensorFlow raises if XLA cannot compile a program. Bad values of clients
# raise the same errors.
_ERRORS = (
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
    tf.errors.UnimplementedError,
)
_NODE = re.compile(r"\{\{node (?P<name>[^}]+)\}\}")
# The beginning of the list of places where an operation was made.
_TRACE = re.compile(r"\s*(Stack trace for op definition|\[\[|File \"|$)")
# TensorFlow's words before the reason, for the parts of a program on one thread.
_PREAMBLE = re.compile(
    r"\s*Graph execution error:\s*Detected at node.*?"
    r"(<stack traces unavailable>|\nNode: [^\n]*)\n",
    re.DOTALL,
)
_LONGEST = 300
# An error at the end of a trace.
_OWN_TEXT = re.compile(r"^\s*\w*(?:Error|Exception): (.+)$", re.MULTILINE)


def set_flags() -> None:
    """Sets XLA's flags of this process; see `xla_flags.with_flags`."""
    os.environ["XLA_FLAGS"] = xla_flags.with_flags(os.environ.get("XLA_FLAGS", ""))


class CannotCompile(ValueError):
    """A mode cannot compile clients, which are then executed one by one without XLA."""


# A function that gets the reason why XLA did not execute a program; it may raise.
Refused = Callable[[CannotCompile], None]


def executed(
    by_mode: Callable[[], list[tf.Tensor]],
    by_graph: Callable[[], list[tf.Tensor]],
    refused: Refused,
    what: str = "XLA cannot compile",
) -> list[tf.Tensor]:
    """Returns the results of a compiled program, or of the plain program instead.

    TensorFlow executes the plain program if the mode cannot compile the program, or if
    XLA computed results from bad values, on which TensorFlow fails.

    Args:
      by_mode: executes the program; its last result is whether a guard was violated.
      by_graph: executes the clients one after another in TensorFlow's executor, without
        that result.
      refused: is called if the mode cannot compile the program.
      what: the beginning of the reason.

    Raises:
      tf.errors.OpError: the plain program fails too.
    """
    try:
        *results, violated = by_mode()
    except _ERRORS as error:
        interrupts.check()
        # If a kernel failed on a client's values, it fails here again.
        results = by_graph()
        refused(CannotCompile(_reason(what, error)))
        return results
    return by_graph() if violated else results


def said_by(error: Exception) -> str:
    """Returns the first line of an error, without text that TensorFlow put before.

    `tf.vectorized_map` makes AutoGraph put "in user code:" and a trace before the text.
    A program puts "Graph execution error:" and the places of operations before it.
    """
    text = str(error).strip()
    own = _OWN_TEXT.findall(text) if text.startswith("in user code:") else []
    if isinstance(error, tf.errors.OpError):
        own = [_NODE.sub(lambda found: found["name"], _before_trace(error))]
    return own[-1] if own and own[-1] else text.partition("\n")[0]


def _before_trace(error: tf.errors.OpError) -> str:
    """Returns the text between TensorFlow's words and the places of operations."""
    kept = []
    for line in _PREAMBLE.sub("", str(error.message), count=1).strip().splitlines():
        if _TRACE.match(line):
            break
        kept.append(line.strip())
    return " ".join(kept)


def _reason(what: str, error: tf.errors.OpError) -> str:
    """A compiler's reason in one line, with the operation that it stopped at."""
    text = _PREAMBLE.sub("", str(error.message), count=1)
    said = _NODE.sub(lambda found: found["name"], _before_trace(error))[:_LONGEST]
    found = _NODE.search(text)
    where = "the clients' work"
    if found is not None and found["name"] not in said:
        where = f"the operation {found['name']} of the clients' work"
    return f"{what} {where} ({said or type(error).__name__})"
