"""The filter of a run: which outputs the run releases, and which of them ε covers."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any

from tfl_research.outputs.columns import COLUMNS, column
from tfl_research.outputs.files import CLIENTS, FILES, file
from tfl_research.outputs.output import EXACT, NOBODY, PRIVATE, PUBLIC, Output

ALL = "all"


@dataclasses.dataclass(frozen=True)
class Release:
    """Decides for one run which outputs are released; by default, all of them.

    A run without privacy releases every output. With `withholds`, a private run
    withholds the exact outputs, except the outputs in `named`. Without `withholds`, a
    private run releases the exact outputs and marks them as not covered by ε.

    Attributes:
      is_private: whether the run has a privacy guarantee.
      withholds: whether exact outputs are withheld.
      named: columns and files that are released although ε does not cover them, or
        "all".
      public: columns that are exact in the table but public in this run: cohort sizes,
        if the settings alone decide them.
      unproven: beginnings of the names of columns that are private in the table but
        exact in this run: the clip of a mechanism that the toolkit does not know, or
        the total noise of clients, which tells how many clients there are.
      proven: beginnings of the names of columns that are exact in the table but covered
        by the run's event, as the user of an own process declares.

    Example:
      >>> from tfl_research import outputs
      >>> release = outputs.Release(is_private=True, withholds=True)
      >>> release.row({"round": 1, "cohort_size": 12, "epsilon": 0.5})
      {'round': 1, 'epsilon': 0.5}
    """

    is_private: bool = False
    withholds: bool = False
    named: frozenset[str] = frozenset()
    public: frozenset[str] = frozenset()
    unproven: frozenset[str] = frozenset()
    proven: frozenset[str] = frozenset()

    @functools.cached_property
    def _shown(self) -> dict[str, bool]:
        return {}

    def column(self, name: str) -> Output:
        """Returns the output for a column, with its class in this run."""
        output = column(name)
        if name in self.public:
            return dataclasses.replace(output, name=name, kind=PUBLIC, whose=NOBODY)
        if name.startswith(tuple(self.unproven)):
            return dataclasses.replace(output, name=name, kind=EXACT, paid_by="")
        if output.kind == EXACT and name.startswith(tuple(self.proven)):
            return dataclasses.replace(
                output, name=name, kind=PRIVATE, paid_by="rounds"
            )
        return dataclasses.replace(output, name=name)

    def shows(self, name: str) -> bool:
        """Whether a column is released."""
        if name not in self._shown:
            self._shown[name] = self._gives(self.column(name))
        return self._shown[name]

    def shows_file(self, name: str) -> bool:
        """Whether a file, or a part of a file, is released."""
        return self._gives(file(name))

    def _gives(self, output: Output) -> bool:
        if not self.withholds or output.kind != EXACT:
            return True
        return ALL in self.named or output.name in self.named

    def shows_split(self, split: str) -> bool:
        """Whether any column or file has metrics of an evaluated split.

        Args:
          split: "eval", "held_out", or a further split of the task.
        """
        if self.shows(f"{split}_*") or (split == "eval" and self.shows_file(CLIENTS)):
            return True
        return any(name.startswith(f"{split}_") for name in self.named)

    def shows_any(self, pattern: str) -> bool:
        """Whether any released column's name begins with a text such as "train_"."""
        return self.shows(f"{pattern}*") or any(
            name.startswith(pattern) for name in self.named
        )

    def covers(self, name: str) -> bool:
        """Whether a column needs no warning: ε covers it, or the run has no privacy."""
        return not self.is_private or self.column(name).kind in (PRIVATE, PUBLIC)

    def row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the released cells of a row, in the row's order."""
        if not self.withholds:
            return dict(row)
        return {name: cell for name, cell in row.items() if self.shows(name)}

    def described(self, names: Iterable[str]) -> dict[str, dict[str, str]]:
        """Returns the content of columns.json: the entry of each released column."""
        return {name: self.column(name).record() for name in names if self.shows(name)}


def withheld_names() -> list[str]:
    """Lists the outputs that a private run withholds unless they are named."""
    return [output.name for output in (*COLUMNS, *FILES) if output.kind == EXACT]


def is_withheld_name(name: str) -> bool:
    """Whether a name is that of a column or file that the table calls exact."""
    if name.endswith("*"):
        return False
    for table in (COLUMNS, FILES):
        found = next((output for output in table if output.matches(name)), None)
        if found is not None:
            return found.kind == EXACT
    return False
