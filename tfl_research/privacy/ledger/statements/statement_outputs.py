"""Writes which outputs a run released, and which outputs its guarantee leaves out.

Both follow from the table of outputs and from the run's filter.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from tfl_research import outputs
from tfl_research.outputs.files import HELD_OUT_CLIENTS
from tfl_research.outputs.output import DERIVED, EXACT, PRIVATE, PUBLIC, SECRET
from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.ledger.statements import statement_words as words

OF_EVERY_RUN = (
    "hparams.json",
    "columns.json",
    "ledger.jsonl",
    "ledger.jsonl.head",
    "run_id",
    "privacy.txt",
    ".lock",
    "metrics.csv",
    "metrics_copy.jsonl",
    "summary.json",
)
_REPORT = "report.html"


@dataclasses.dataclass(frozen=True)
class GivenOut:
    """The outputs that a run releases.

    Attributes:
      release: the run's filter.
      columns: the columns of metrics.csv, at least the released columns.
      files: files, folders and parts of files that not every run has.
      decided_by: the column or the private choice that selects the best model, or "".
      is_complete: whether the run has come to an end, so that all columns are known.
      evaluated: words for the data of the metrics eval_...
    """

    release: outputs.Release = dataclasses.field(
        default_factory=lambda: outputs.Release(is_private=True)
    )
    columns: Sequence[str] = ()
    files: Sequence[str] = ()
    decided_by: str = ""
    is_complete: bool = True
    evaluated: str = "on the training clients' own test examples"

    def names(self, kind: str) -> list[str]:
        """Returns the names of the released outputs of a class."""
        release = self.release
        columns = [
            name
            for name in self.columns
            if release.shows(name) and release.column(name).kind == kind
        ]
        files = [
            name
            for name in (*OF_EVERY_RUN, *self.files)
            if outputs.file(name).kind == kind
            # Files that the user's own parts write are never withheld.
            and (release.shows_file(name) or not outputs.is_of_table(name))
        ]
        return [*columns, *map(_shown, files)]

    @property
    def withheld(self) -> list[str]:
        """The names of the exact outputs in the table that are withheld."""
        release = self.release
        columns = [o.name for o in outputs.COLUMNS if o.kind == EXACT]
        files = [o.name for o in outputs.FILES if o.kind == EXACT]
        return [
            *map(self._others, (name for name in columns if not release.shows(name))),
            *(_shown(name) for name in files if not release.shows_file(name)),
        ]

    def _others(self, pattern: str) -> str:
        """Writes "the other train_*" if some columns of the pattern are released."""
        if pattern.endswith("*") and self.has(pattern[:-1]):
            return f"the other {pattern}"
        return pattern

    @property
    def looks_at_training(self) -> bool:
        """Whether exact metrics on training clients' test examples are released."""
        names = (*self.columns, *self.files)
        return any(
            name.startswith("eval_") and self.release.shows(name) for name in names
        )

    def has(self, beginning: str) -> bool:
        """Whether a column is released whose name begins with this text."""
        return any(
            name.startswith(beginning) and self.release.shows(name)
            for name in self.columns
        )


def _shown(name: str) -> str:
    """Returns a file's name, with the part of a file in brackets."""
    file, _, part = name.partition(":")
    return f"{file} ({part.replace('_', ' ')})" if part else file


def given_lines(given: GivenOut) -> list[str]:
    """Writes the section "What was given out"."""
    lines = []
    for kind, title in (
        (PRIVATE, "Private, covered by ε"),
        (PUBLIC, "Public, the same for any data"),
        (EXACT, "Exact, not covered by ε"),
        (DERIVED, "Made of the above"),
    ):
        names = given.names(kind)
        lines.append(f"{title}: {', '.join(names) or 'nothing'}.")
    withheld = given.withheld
    lines.append(f"Withheld: {', '.join(withheld) or 'nothing'}.")
    secret = [output.name for output in outputs.FILES if output.kind == SECRET]
    lines.append(f"Stays with the owner of the run: {', '.join(secret)}.")
    lines.append(
        "The printed lines of rounds and results, the progress bar, callbacks, "
        "TensorBoard and MLflow show only the columns that are given out."
    )
    if not given.is_complete:
        lines.append(
            "The run was not complete when this was written. columns.json has the "
            "class of each column that later rounds added."
        )
    lines += [*_evaluations(given), _best(given), words.LENGTH]
    return [f"- {line}" for line in lines]


def _evaluations(given: GivenOut) -> list[str]:
    lines = []
    if given.looks_at_training:
        lines.append(
            f"The metrics eval_... are computed {given.evaluated}. They are exact."
        )
    if given.has("private_accuracy"):
        lines.append(
            "The column private_accuracy is on the training clients' own test "
            "examples, with noise that is charged."
        )
    if given.has("held_out_"):
        lines.append(
            "The metrics held_out_... are on clients that are never trained on. ε "
            "protects the training clients, but not the held-out clients."
        )
    return lines or ["No evaluation is given out."]


def _best(given: GivenOut) -> str:
    if not given.decided_by:
        return "No best model is chosen."
    if not given.release.covers(given.decided_by):
        return (
            f"The best model is chosen by {given.decided_by}, which is exact: ε "
            "covers neither this choice nor an early stop by it."
        )
    return f"The best model is chosen by {given.decided_by}, which ε covers."


def _held_out(given: GivenOut) -> str:
    tables = [
        name
        for name, part in (("clients.csv", HELD_OUT_CLIENTS), (_REPORT, _REPORT))
        if part in given.files
    ]
    if HELD_OUT_CLIENTS not in given.files:
        return "The held-out clients: metrics on them are exact."
    return (
        "The held-out clients: metrics on them are exact, and their names and numbers "
        f"of test examples are in {' and '.join(tables)}."
    )


def outside_lines(event: Event, given: GivenOut, more: Sequence[str]) -> list[str]:
    """Writes the section "Outside the guarantee".

    Args:
      event: the event of each round of the run.
      given: the outputs that are released.
      more: a sentence for each further output that the guarantee does not cover.
    """
    # An update that the client noised may be seen, and so may a threshold on its norm.
    exact_updates = "" if event.noised_by_clients else "single updates, "
    exact = given.names(EXACT)
    conditions: list[tuple[bool, Callable[[], str]]] = [
        (bool(exact), lambda: f"What is given out exactly: {', '.join(exact)}."),
        (
            bool(given.decided_by) and not given.release.covers(given.decided_by),
            lambda: (
                f"The choice of the best model, and an early stop, by "
                f"{given.decided_by}."
            ),
        ),
        (given.has("held_out_"), lambda: _held_out(given)),
        (not event.noised_by_clients, lambda: words.THRESHOLDS),
    ]
    lines = [
        *more,
        *(sentence() for applies, sentence in conditions if applies),
        words.WARNINGS,
        words.TIMES,
        f"Whoever sees {exact_updates}the secret run seed or the sampler's state.",
        (
            "The noise comes from a pseudo-random generator of research grade, which "
            "is not a cryptographic one."
            if event.releases_integers
            else "The noise comes from a floating-point generator of research grade: "
            "it does not resist attacks on its low-order bits or on the generator."
        ),
    ]
    if not event.is_search:
        lines.append(words.UNSEARCHED.get(event.unit, words.UNSEARCHED["client"]))
    return [f"- {line}" for line in lines]
