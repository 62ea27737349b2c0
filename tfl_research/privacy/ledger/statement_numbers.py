"""The numbers of a privacy statement: ε at several δ, rounded up."""

from __future__ import annotations

from tfl_research.privacy.accounting.composition import composed_epsilon
from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.accounting.rounding import rounded_up

# δ for which ε is stated besides the run's own, so that runs can be compared.
DELTAS = (1e-5, 1e-6, 1e-8, 1e-10)


class Numbers:
    """ε of rounds by δ and accountant, each composed once."""

    def __init__(self, groups: list[tuple[Event, int]], accountant: str) -> None:
        self.groups = groups
        self.accountant = accountant
        self.rounds = sum(rounds for _, rounds in groups)
        self._known: dict[tuple[float, str], float] = {}

    @property
    def cross_check(self) -> str | None:
        """The other accountant, where it applies to every event."""
        applies = all("rdp" in event.accountants for event, _ in self.groups)
        return "rdp" if self.accountant == "pld" and applies else None

    def epsilon(self, delta: float, accountant: str) -> float:
        """ε at δ."""
        key = delta, accountant
        if key not in self._known:
            self._known[key] = composed_epsilon(self.groups, delta, accountant)
        return self._known[key]


def table(numbers: Numbers, delta: float) -> str:
    """ε at several δ by each accountant that applies."""
    names = [numbers.accountant]
    if numbers.cross_check is not None:
        names.append(numbers.cross_check)
    heads = [f"{f'ε ({name.upper()})':>12}" for name in names]
    lines = ["", f"    {'δ':<10}" + "".join(heads)]
    for one in sorted({*DELTAS, delta}, reverse=True):
        cells = [f"{rounded_up(numbers.epsilon(one, name)):>12}" for name in names]
        lines.append(f"    {rounded_up(one):<10}" + "".join(cells))
    return "\n".join(lines) + "\n"
