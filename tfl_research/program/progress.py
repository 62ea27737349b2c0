"""The output of a run: a line for each round, and a progress bar on a terminal."""

from __future__ import annotations

import math
import shutil
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from typing import Any, Optional, TextIO

import tqdm

from tfl_research.outputs import Release
from tfl_research.outputs.columns import EVALUATED
from tfl_research.privacy.accounting.rounding import rounded_up
from tfl_research.storage.files import safe_text

# A column of metrics.csv, and the column's text in a line.
Part = tuple[str, str]
_WITHOUT_TIME = "{l_bar}{bar}| {n_fmt}/{total_fmt}{postfix}"
# Seconds between two lines with the rate, if there is no progress bar.
_RATE_EVERY = 10.0

# The width of a terminal that does not report its width, in characters.
_WIDTH = 80

# Begins the part of a line that ε does not cover.
NOT_COVERED = "| not covered:"
_CLIENT_MEAN = "eval_client_mean_"
# The ending of columns in which secure sums count clients with clipped numbers.
_CLIPPED_CLIENTS = "clipped_clients"
_SHOWN_METRICS = (
    ("private_accuracy", "private accuracy"),
    ("train_loss", "loss"),
    ("train_accuracy", "accuracy"),
    ("eval_loss", "eval loss"),
    ("eval_accuracy", "eval accuracy"),
    ("eval_auc", "eval auc"),
    ("held_out_accuracy", "held-out accuracy"),
)


def _number(value: float) -> str:
    return f"{value:.4g}"


def _metrics(cells: Mapping[str, Any]) -> list[Part]:
    """Returns the metrics that a printed line shows: all metrics of the test splits."""
    shown = dict(_SHOWN_METRICS)
    for column in cells:
        # Each metric of an evaluation also has its mean over clients.
        metric = column[len(_CLIENT_MEAN) :]
        if column.startswith(_CLIENT_MEAN) and f"eval_{metric}" not in shown:
            shown[f"eval_{metric}"] = f"eval {metric}"
    return [
        (name, f"{label} {_number(cells[name])}")
        for name, label in shown.items()
        if cells.get(name) is not None
    ]


def privacy_text(cells: Mapping[str, Any], budget: Optional[float] = None) -> str:
    """Returns ε and δ of a row as text.

    Args:
      cells: the row.
      budget: the ε that the run must not exceed.
    """
    epsilon = cells["epsilon"]
    if math.isinf(epsilon):
        return "ε inf"
    spent = f"ε {rounded_up(epsilon)}" + ("" if budget is None else f" of {budget:g}")
    return f"{spent} (δ {rounded_up(cells['delta'], 2)})"


def for_terminal(text: str) -> str:
    """Wraps a line at the terminal's width; all lines but the first are indented."""
    width = max(shutil.get_terminal_size((_WIDTH, 24)).columns - 1, 20)
    return "\n".join(
        textwrap.wrap(
            text,
            width,
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        or [text]
    )


def stage(stream: TextIO, text: str = "") -> None:
    """Shows on a terminal what a start is doing; the next line replaces this line.

    Args:
      stream: where to print; nothing is printed if the stream is no terminal.
      text: says what is done now; "" removes the line.
    """
    if stream.isatty():
        stream.write(f"\r\x1b[K{text}{'...' if text else ''}")
        stream.flush()


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _clipped(row: Mapping[str, Any]) -> list[Part]:
    """Returns the largest count of clients whose numbers a secure sum clipped."""
    counts = {n: int(c) for n, c in row.items() if n.endswith(_CLIPPED_CLIENTS) and c}
    if not counts:
        return []
    name = max(counts, key=lambda each: counts[each])
    return [(name, f"clients clipped by secure sums {counts[name]}")]


def _devices(cells: Mapping[str, Any]) -> list[Part]:
    """Describes the outcome of simulated devices or silos; empty for other rounds."""
    parts = [("abandoned", "abandoned")] if cells.get("abandoned") else []
    for name, label in (
        ("selected", "selected"),
        ("dropped_out", "dropped out"),
        ("late", "late"),
    ):
        if name in cells:
            parts.append((name, f"{label} {cells[name]}"))
    if "simulated_seconds" in cells:
        clock = _duration(cells["simulated_seconds"])
        parts.append(("simulated_seconds", f"clock {clock}"))
        if "bytes_up" in cells and "bytes_down" in cells:
            sent = (cells["bytes_down"] + cells["bytes_up"]) / 1e6
            parts.append(("bytes_up", f"{sent:.4g} MB"))
    return parts


def breakdown_line(
    row: Mapping[str, Any],
    release: Release = Release(),  # noqa: B008
) -> Optional[str]:
    """Returns a warning for a round that was skipped or aggregated by a stand-in rule.

    Args:
      row: a row of metrics.csv; `aggregator_skipped` or `aggregator_fell_back` is 1
        in such a round, see `aggregators.StackingFactory`.
      release: whether ε covers these columns.

    Returns:
      A line with the round, the cohort and the action; None for other rounds.
    """
    if row.get("aggregator_skipped"):
        done = "the round is skipped, and the model stays as it was"
    elif row.get("aggregator_fell_back"):
        done = "the rule of --on_breakdown takes its place"
    else:
        return None
    counts = f"cohort {row.get('cohort_size', 'withheld')}"
    if row.get("aggregator_excluded"):
        counts += f", {row['aggregator_excluded']:g} excluded"
    return (
        f"warning: round {row['round']}: the aggregation rule cannot keep its bound "
        f"({counts}): {done}"
        + ("" if release.covers("aggregator_skipped") else "; not covered by ε")
    )


class Progress:
    """Prints completed rounds.

    Without a progress bar, each `print_every`-th round has a line. With a progress bar,
    the bar shows the newest round. Rounds with an evaluation have a line in both cases.
    Lines above a bar are wrapped at the terminal's width.

    Args:
      rounds: number of planned rounds.
      stream: where to print; standard output by default.
      bar: whether to draw a progress bar; by default on a terminal.
      print_every: rounds from one printed line to the next, at least 1.
      release: says which columns ε covers; a line marks values that ε does not cover.
        Rows have only columns that are released.
      private: whether the run has an account. Otherwise lines have no ε.
      budget: the ε that the run must not exceed, if there is one.
    """

    def __init__(
        self,
        rounds: int,
        *,
        stream: Optional[TextIO] = None,
        bar: Optional[bool] = None,
        print_every: int = 1,
        release: Release = Release(),  # noqa: B008
        private: bool = True,
        budget: Optional[float] = None,
    ):
        self._rounds = rounds
        self._private, self._budget = private, budget
        self._stream = sys.stdout if stream is None else stream
        self._print_every = print_every
        self._draw = self._stream.isatty() if bar is None else bar
        self._bar: Any = None
        self._release = release
        # The rate leaves out the first round, which compiles the programs.
        self._first_end: Optional[float] = None
        self._last_rate = time.monotonic()

    def say(self, text: str) -> None:
        """Prints a line, above the progress bar if there is a bar.

        Control characters are escaped, since a line can have clients' names.
        """
        text = safe_text.printable(text)
        if self._draw:
            text = for_terminal(text)
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            self._stream.write(text + "\n")
            self._stream.flush()

    def begin(self, completed: int) -> None:
        """Draws the progress bar, before the first round of a start.

        Args:
          completed: number of rounds that earlier starts completed.
        """
        if self._draw and completed < self._rounds:
            self._bar = tqdm.tqdm(
                total=self._rounds,
                initial=completed,
                file=self._stream,
                unit="round",
                dynamic_ncols=True,
                bar_format=None if self._tells_time else _WITHOUT_TIME,
                postfix="compiling the first round",
            )

    def round_done(self, row: Mapping[str, Any], excluded: str = "") -> None:
        """Prints a round's line and moves the progress bar.

        Args:
          row: released cells of the round's row of metrics.csv.
          excluded: a text that names the excluded clients and the reasons. "" if no
            client was excluded, or if the run does not release this.
        """
        evaluated = any(name.startswith(EVALUATED) for name in row)
        due = self._bar is None and row["round"] % self._print_every == 0
        if due or evaluated:
            self.say(self._line(row, excluded))
        if self._bar is not None:
            self._bar.set_postfix_str(self._beside_bar(row), refresh=False)
            self._bar.update()

    def _beside_bar(self, row: Mapping[str, Any]) -> str:
        """Returns a round's ε, loss and accuracy as text for the end of the bar."""
        parts = []
        if self._private:
            spent = privacy_text(row, self._budget).split(" (")[0]
            parts.append(("epsilon", spent))
        for name, label in (("train_loss", "loss"), ("train_accuracy", "accuracy")):
            if row.get(name) is not None:
                parts.append((name, f"{label} {_number(row[name])}"))
        return self._joined(parts)

    @property
    def _tells_time(self) -> bool:
        return self._release.shows("round_seconds")

    def shows_metric(self, cells: Mapping[str, Any]) -> bool:
        """Whether a line has any metric of these cells."""
        return bool(_metrics(cells))

    def untrained_line(self, cells: Mapping[str, float]) -> str:
        """Returns the line with the untrained model's metrics."""
        return self._joined([("round", "untrained"), *_metrics(cells)])

    def _line(self, row: Mapping[str, Any], excluded: str) -> str:
        parts = [("round", f"round {row['round']}/{self._rounds}")]
        if "cohort_size" in row:
            parts.append(("cohort_size", f"cohort {row['cohort_size']}"))
        parts += _metrics(row)
        if row.get("excluded_clients"):
            who = f" ({excluded})" if excluded else ""
            count = f"excluded {row['excluded_clients']}{who}"
            parts.append(("excluded_clients", count))
        parts += _clipped(row)
        parts += _devices(row)
        if self._private:
            parts.append(("epsilon", privacy_text(row, self._budget)))
        if "round_seconds" in row:
            parts.append(("round_seconds", f"{row['round_seconds']:.2f} s"))
        if self._bar is None and self._tells_time:
            parts.append(("round_seconds", self._rate(row["round"])))
        return self._joined([(name, text) for name, text in parts if text])

    def _joined(self, parts: Sequence[Part]) -> str:
        """Joins the parts of a line: first those that ε covers, then the others."""
        covered = [text for name, text in parts if self._release.covers(name)]
        other = [text for name, text in parts if not self._release.covers(name)]
        if not other:
            return "  ".join(covered)
        return f"{'  '.join(covered)} {NOT_COVERED} {'  '.join(other)}"

    def _rate(self, round_number: int) -> str:
        now = time.monotonic()
        if self._first_end is None:
            self._first_end, self._first_round = now, round_number
            return ""
        done = round_number - self._first_round
        elapsed = now - self._first_end
        if now - self._last_rate < _RATE_EVERY or elapsed <= 0:
            return ""
        self._last_rate = now
        left = _duration((self._rounds - round_number) * elapsed / done)
        return f"{done / elapsed:.3g} rounds/s, {left} left"

    def close(self) -> None:
        """Leaves the progress bar on the screen, as it was at the last round."""
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()
            self._bar = None
