"""Finds the clients that a round excluded because their update was not finite."""

from __future__ import annotations

import collections
import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Optional

import numpy as np

from tfl_research import interrupts
from tfl_research.data import Cohort, SiteCohort
from tfl_research.errors import message_for_command_line
from tfl_research.program.interfaces import Engine

# The measurement of a round: an array of texts `[clients, 2]`, id and reason.
NAME = "excluded_by_client"
_ITSELF = "its update is not finite, although its examples are"
Excluded = Sequence[tuple[str, str]]


class Exclusions:
    """Finds the clients that a round excluded.

    A process only counts the excluded clients. A client with examples that are not
    finite is found by its examples. To find other clients, this class repeats the round
    from the same state with halves of the cohort, and throws the results away. It first
    tries the clients that it found in earlier rounds.

    Args:
      engine: executes the process.
    """

    def __init__(self, engine: Engine):
        self._engine = engine
        self._found: set[str] = set()

    def of_round(self, state: Any, cohort: Any, count: int) -> Excluded:
        """Finds (client, reason) of each excluded client.

        The result is empty at the sites of a federation.

        Args:
          state: the state before the round.
          cohort: the cohort of the round.
          count: how many clients the round excluded.
        """
        if (
            count < 1
            or not isinstance(cohort, Cohort)
            or isinstance(cohort, SiteCohort)
        ):
            return ()
        reasons = {
            index: reason
            for index, name in enumerate(cohort.client_ids)
            if (reason := _not_finite(cohort.load(name), cohort.orders[index]))
        }
        names = cohort.client_ids
        suspects = sorted(reasons)
        try:
            if len(suspects) != count:
                before = {i for i, name in enumerate(names) if name in self._found}
                suspects = sorted(before.union(reasons))
                if len(suspects) != count or not self._excludes_all(
                    state, cohort, suspects
                ):
                    suspects = sorted(self._search(state, cohort, range(len(cohort))))
        except Exception as error:  # noqa: BLE001, the round itself went well.
            interrupts.check()
            warnings.warn(
                "it is not known which clients were excluded: "
                f"{message_for_command_line(error)}",
                stacklevel=2,
            )
            return ()
        self._found.update(names[index] for index in suspects)
        return [(names[index], reasons.get(index, _ITSELF)) for index in suspects]

    def _search(
        self, state: Any, cohort: Cohort, indices: Sequence[int]
    ) -> Iterator[int]:
        """Yields the positions, out of `indices`, of the clients that were excluded."""
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
        """Whether the round excludes one of the clients at `indices`."""
        return bool(self._excluded_of(state, cohort, indices))

    def _excludes_all(self, state: Any, cohort: Cohort, indices: Sequence[int]) -> bool:
        """Whether the round excludes each of the clients at `indices`."""
        return self._excluded_of(state, cohort, indices) == len(cohort)

    def _excluded_of(
        self, state: Any, cohort: Cohort, indices: Sequence[int]
    ) -> Optional[int]:
        """Counts the excluded clients of a round with only the clients at `indices`.

        These clients take part several times, so that the group has the cohort's size.
        A group of another size would be compiled again.
        """
        repeated = itertools.islice(itertools.cycle(indices), len(cohort))
        _, metrics = self._engine.next(state, cohort.select(list(repeated)))
        return excluded(metrics)


def excluded(metrics: Any) -> Optional[int]:
    """Reads from metrics how many clients a round excluded; None if not measured."""
    if not isinstance(metrics, Mapping) or not isinstance(
        metrics.get("cohort"), Mapping
    ):
        return None
    count = metrics["cohort"].get("excluded")
    return None if count is None else int(count)


def _not_finite(examples: Mapping[str, Any], order: np.ndarray) -> Optional[str]:
    """Names the first value in the round's examples that is not finite, or None."""
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
    """Makes the measurement of a round."""
    texts = np.empty((len(found), 2), object)
    for row, pair in enumerate(found):
        texts[row] = pair
    return texts


def totals(measured: Mapping[int, Mapping[str, np.ndarray]]) -> list[dict[str, Any]]:
    """Sums up the exclusions of all rounds by client, for summary.json.

    Args:
      measured: the measurements of the rounds.

    Returns:
      A record for each client: `client`, `reason` (the last reason), `rounds` (number
      of rounds) and `last_round`. Clients with the most rounds come first.
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
    """Lists clients and reasons for a printed line; "" without clients."""
    parts = [f"{client}: {reason}" for client, reason in found[:shown]]
    if len(found) > shown:
        parts.append(f"{len(found) - shown} more")
    return "; ".join(parts)
