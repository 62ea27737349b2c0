"""What became of a start that something was done to, as its user sees it."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Optional

from tfl_research.cli import last_resort

IDENTICAL = "identical"
REFUSED = "refused in one line"
SAID = "said so"
ACCEPTED = "accepted"
BAD = ("traceback", "silent change", "several lines", "hangs", "ends with 0")
# Lines that a run without faults prints.
_USUAL = ("round ", "resumes ", "untrained", "complete ", "results: ", "interrupted by")
_SECONDS = 20


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a start ended.

    Attributes:
      kind: `IDENTICAL`, `REFUSED`, `SAID`, `ACCEPTED`, or one of `BAD`.
      text: what was printed of it.
    """

    kind: str
    text: str = ""

    @property
    def good(self) -> bool:
        return self.kind not in BAD


class _TooLong(BaseException):
    pass


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Raises after some time in the main thread: a named pipe is waited for forever."""

    def stop(*_: Any) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def of(
    command: Callable[[io.StringIO], Any],
    is_same: Optional[Callable[[], bool]] = None,
) -> Outcome:
    """Runs a command as a program does, and says what became of it.

    Args:
      command: what is run; prints to the stream that it is given, returns an exit code
        or anything else for 0.
      is_same: whether the results are those without a fault; None where there are no
        results to compare.
    """
    out, errors = io.StringIO(), io.StringIO()

    def guarded() -> int:
        code = command(out)
        return code if type(code) is int else 0

    told: list[str] = []
    try:
        with _limited(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with contextlib.redirect_stderr(errors):
                code = last_resort.guarded("error", guarded)
        told = [str(w.message) for w in caught if w.category is UserWarning]
    except _TooLong:
        return Outcome("hangs")
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(bool(error.code))
    except BaseException as error:  # noqa: BLE001, it is the outcome.
        return Outcome("traceback", repr(error))
    printed = errors.getvalue()
    if "the traceback" in printed or "Traceback" in printed or code == 1:
        return Outcome("traceback", printed)
    if code != 0:
        return _of_refusal(printed)
    if is_same is None:
        return Outcome(ACCEPTED, printed)
    if is_same():
        return Outcome(IDENTICAL, printed)
    lines = out.getvalue().splitlines()
    told += [line for line in lines if line and not line.startswith(_USUAL)]
    told += [line for line in printed.splitlines() if line]
    return Outcome(SAID, "; ".join(told)) if told else Outcome("silent change")


def _of_refusal(printed: str) -> Outcome:
    lines = printed.splitlines()
    # argparse prints how a command is used before the error.
    if lines and lines[0].startswith("usage:"):
        lines = lines[-1:]
    lines = [line for line in lines if not line.startswith("warning: ")]
    if len(lines) != 1:
        return Outcome("several lines" if lines else "silent change", printed)
    return Outcome(REFUSED, lines[0])


def counts(outcomes: dict[str, Outcome]) -> dict[str, int]:
    """How many outcomes there are of each kind."""
    found: dict[str, int] = {}
    for outcome in outcomes.values():
        found[outcome.kind] = found.get(outcome.kind, 0) + 1
    return found


def report(name: str, outcomes: dict[str, Outcome]) -> None:
    """Prints the counts, and fails for every bad outcome.

    Raises:
      AssertionError: names the cases.
    """
    sys.stdout.write(f"{name}: {len(outcomes)} cases: {counts(outcomes)}\n")
    bad = {case: outcome for case, outcome in outcomes.items() if not outcome.good}
    if bad:
        lines = [f"{case}: {o.kind}: {o.text[-600:]}" for case, o in bad.items()]
        raise AssertionError(f"{name}: {len(bad)} bad outcomes:\n" + "\n".join(lines))
