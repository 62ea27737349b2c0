"""Computes the numbers of a privacy statement: ε at several δ, rounded up."""

from __future__ import annotations

from tfl_research.privacy.accounting.composition import composed_epsilon
from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.accounting.rounding import rounded_up

# δ at which ε is stated in addition to the run's own δ, so that runs can be compared.
DELTAS = (1e-5, 1e-6, 1e-8, 1e-10)


class Numbers:
    """Computes ε of rounds by δ and accountant, each once.

    Attributes:
      groups: pairs of an event and its number of charges.
      accountant: "pld" or "rdp".
      releases: number of charges that are no rounds.
      rounds: number of charges that are rounds.
    """

    def __init__(
        self, groups: list[tuple[Event, int]], accountant: str, releases: int = 0
    ) -> None:
        self.groups = groups
        self.accountant = accountant
        self.releases = releases
        self.rounds = sum(count for _, count in groups) - releases
        self._composed: dict[tuple[float, str], float] = {}

    @property
    def cross_check(self) -> str | None:
        """The second accountant, "rdp", if it applies to all events."""
        applies = all("rdp" in event.accountants for event, _ in self.groups)
        return "rdp" if self.accountant == "pld" and applies else None

    def epsilon(self, delta: float, accountant: str) -> float:
        """Computes ε at δ."""
        key = delta, accountant
        if key not in self._composed:
            self._composed[key] = composed_epsilon(self.groups, delta, accountant)
        return self._composed[key]


def table(numbers: Numbers, delta: float) -> str:
    """Writes a table of ε at several δ by each accountant that applies."""
    names = [numbers.accountant]
    if numbers.cross_check is not None:
        names.append(numbers.cross_check)
    heads = [f"{f'ε ({name.upper()})':>12}" for name in names]
    lines = ["", f"    {'δ':<10}" + "".join(heads)]
    for row_delta in sorted({*DELTAS, delta}, reverse=True):
        epsilons = [numbers.epsilon(row_delta, name) for name in names]
        cells = [f"{rounded_up(epsilon):>12}" for epsilon in epsilons]
        lines.append(f"    {rounded_up(row_delta):<10}" + "".join(cells))
    return "\n".join(lines) + "\n"
