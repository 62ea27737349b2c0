"""Which clients a round excluded, since their update was not finite, and why."""

from __future__ import annotations

import collections
import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Optional

import numpy as np

from tfl_research.data import Cohort, SiteCohort
from tfl_research.errors import message_for_command_line
from tfl_research.program.interfaces import Engine

# The measurement of a round: an array of texts `[clients, 2]`, id and reason.
NAME = "excluded_by_client"
_ITSELF = "its update is not finite, although its examples are"
Excluded = Sequence[tuple[str, str]]


class Exclusions:
    """Finds the clients that a round excluded.

    A process counts them alone. A client whose examples are not finite is found by
    them. Others are found by the round itself, which is repeated from the same state
    for halves of the cohort; their results are thrown away. Clients that are found once
    are tried first in later rounds.

    Args:
      engine: executes the process.
    """

    def __init__(self, engine: Engine):
        self._engine = engine
        self._found: dict[str, str] = {}

    def of_round(self, state: Any, cohort: Any, count: int) -> Excluded:
        """(client, reason) of the clients excluded; none at the sites of a federation.

        Args:
          state: before the round.
          cohort: of the round.
          count: how many clients the round excluded.
        """
        if (
            count < 1
            or not isinstance(cohort, Cohort)
            or isinstance(cohort, SiteCohort)
        ):
            return ()
        known = [i for i, name in enumerate(cohort.client_ids) if name in self._found]
        if len(known) != count:
            for index, name in enumerate(cohort.client_ids):
                reason = _not_finite(cohort.load(name), cohort.orders[index])
                if reason is not None:
                    self._found[name] = reason
            known = [i for i, n in enumerate(cohort.client_ids) if n in self._found]
        if len(known) != count:
            try:
                known = sorted(self._search(state, cohort, range(len(cohort))))
            except Exception as error:  # noqa: BLE001, the round itself went well.
                warnings.warn(
                    f"cannot tell which clients were excluded: "
                    f"{message_for_command_line(error)}",
                    stacklevel=2,
                )
                return ()
            for index in known:
                self._found.setdefault(cohort.client_ids[index], _ITSELF)
        names = [cohort.client_ids[index] for index in known]
        return [(name, self._found[name]) for name in names]

    def _search(
        self, state: Any, cohort: Cohort, indices: Sequence[int]
    ) -> Iterator[int]:
        """Yields the positions of the clients excluded, some of those at `indices`."""
        if len(indices) == 1:
            yield from indices
            return
        half = len(indices) // 2
        first, second = indices[:half], indices[half:]
        in_first = self._excludes(state, cohort, first)
        if in_first:
            yield from self._search(state, cohort, first)
        if not in_first or self._excludes(state, cohort, second):
            yield from self._search(state, cohort, second)

    def _excludes(self, state: Any, cohort: Cohort, indices: Sequence[int]) -> bool:
        """Whether the round excludes one of the clients at `indices`.

        They take part several times, as many together as in the cohort: another size
        would be compiled anew.
        """
        repeated = itertools.islice(itertools.cycle(indices), len(cohort))
        _, metrics = self._engine.next(state, cohort.select(list(repeated)))
        return bool(excluded(metrics))


def excluded(metrics: Any) -> Optional[int]:
    """How many clients a round excluded, by its metrics; None if they do not say."""
    if not isinstance(metrics, Mapping) or not isinstance(
        metrics.get("cohort"), Mapping
    ):
        return None
    count = metrics["cohort"].get("excluded")
    return None if count is None else int(count)


def _not_finite(examples: Mapping[str, Any], order: np.ndarray) -> Optional[str]:
    """Which of a client's examples is not finite, of those that the round used."""
    used = np.unique(order[order >= 0])
    for name, array in examples.items():
        values = np.asarray(array)
        if values.dtype.kind not in "fc" or not len(values):
            continue
        rows = values[used].reshape(len(used), -1)
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(bad):
            value = rows[bad[0]][~np.isfinite(rows[bad[0]])][0]
            return f"{name} is {value} in its example {int(used[bad[0]])}"
    return None


def array(found: Excluded) -> np.ndarray:
    """The measurement of a round."""
    texts = np.empty((len(found), 2), object)
    for row, pair in enumerate(found):
        texts[row] = pair
    return texts


def totals(measured: Mapping[int, Mapping[str, np.ndarray]]) -> list[dict[str, Any]]:
    """The exclusions of all rounds by client, for summary.json.

    Args:
      measured: the measurements of the rounds.

    Returns:
      `client`, `reason` (the last one), `rounds` (how many) and `last_round`, those
      with the most rounds first.
    """
    counts: collections.Counter[str] = collections.Counter()
    last: dict[str, tuple[int, str]] = {}
    for number in sorted(measured):
        for client, reason in measured[number].get(NAME, ()):
            counts[client] += 1
            last[client] = number, reason
    return [
        {"client": c, "reason": last[c][1], "rounds": n, "last_round": last[c][0]}
        for c, n in counts.most_common()
    ]


def words(found: Sequence[Sequence[str]], shown: int = 3) -> str:
    """Clients and reasons for a printed line; "" for none."""
    parts = [f"{client}: {reason}" for client, reason in found[:shown]]
    if len(found) > shown:
        parts.append(f"{len(found) - shown} more")
    return "; ".join(parts)
