"""XLA's settings, and what it cannot compile told from what clients' values do."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import tensorflow as tf

from tfl_research import interrupts
from tfl_research.private_worker import xla_flags

# What TensorFlow raises where XLA cannot compile a program. Bad values of clients raise
# the same.
_ERRORS = (
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
    tf.errors.InvalidArgumentError,
    tf.errors.NotFoundError,
    tf.errors.UnimplementedError,
)
_NODE = re.compile(r"\{\{node (?P<name>[^}]+)\}\}")
# Where the names of the places begin at which an operation was made.
_TRACE = re.compile(r"\s*(Stack trace for op definition|\[\[|File \"|$)")
# What TensorFlow says before the reason for the parts of a program on one thread.
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
    """A mode cannot compile clients that are executed one after another without XLA."""


# Gets the reason why a program was not executed by XLA; may raise an error.
Refused = Callable[[CannotCompile], None]


def executed(
    by_mode: Callable[[], list[tf.Tensor]],
    by_graph: Callable[[], list[tf.Tensor]],
    refused: Refused,
    what: str = "XLA cannot compile",
) -> list[tf.Tensor]:
    """The results of a compiled program, or of the plain one in its place.

    Where XLA would compute something from bad values, on which TensorFlow fails, and
    where a mode cannot compile the program, TensorFlow executes the plain one.

    Args:
      by_mode: executes the program; its last result is whether a guard was violated.
      by_graph: executes the clients one after another in TensorFlow's executor, without
        that result.
      refused: is called if the mode cannot compile the program.
      what: begins the reason.

    Raises:
      tf.errors.OpError: the plain program fails too.
    """
    try:
        *results, violated = by_mode()
    except _ERRORS as error:
        interrupts.check()
        # A kernel that fails on a client's values fails here again.
        results = by_graph()
        refused(CannotCompile(_reason(what, error)))
        return results
    return by_graph() if violated else results


def said_by(error: Exception) -> str:
    """The first line of an error; of one that AutoGraph repeats, the error's own text.

    `tf.vectorized_map` lets AutoGraph put "in user code:" and a trace before it.
    """
    text = str(error).strip()
    own = _OWN_TEXT.findall(text) if text.startswith("in user code:") else []
    return own[-1] if own else text.partition("\n")[0]


def _reason(what: str, error: tf.errors.OpError) -> str:
    """A compiler's reason in one line, with the operation that it stopped at."""
    text = _PREAMBLE.sub("", str(error.message), count=1)
    kept = []
    for line in text.strip().splitlines():
        if _TRACE.match(line):
            break
        kept.append(line.strip())
    said = _NODE.sub(lambda found: found["name"], " ".join(kept))[:_LONGEST]
    found = _NODE.search(text)
    where = "the clients' work"
    if found is not None and found["name"] not in said:
        where = f"the operation {found['name']} of the clients' work"
    return f"{what} {where} ({said or type(error).__name__})"
