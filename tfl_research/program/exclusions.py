"""Which clients a round excluded, since their update was not finite, and why."""

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

    A process counts them alone. A client with examples that are not finite is found by
    its examples. Others are found by the round itself, which is repeated from the same
    state for halves of the cohort; their results are thrown away. Clients that were
    found in earlier rounds are tried first.

    Args:
      engine: executes the process.
    """

    def __init__(self, engine: Engine):
        self._engine = engine
        self._found: set[str] = set()

    def of_round(self, state: Any, cohort: Any, count: int) -> Excluded:
        """(client, reason) of the clients excluded; none at the sites of a federation.

        Args:
          state: before the round.
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
                "nobody knows which clients were excluded: "
                f"{message_for_command_line(error)}",
                stacklevel=2,
            )
            return ()
        self._found.update(names[index] for index in suspects)
        return [(names[index], reasons.get(index, _ITSELF)) for index in suspects]

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
        """Whether the round excludes one of the clients at `indices`."""
        return bool(self._excluded_of(state, cohort, indices))

    def _excludes_all(self, state: Any, cohort: Cohort, indices: Sequence[int]) -> bool:
        """Whether the round excludes each of the clients at `indices`."""
        return self._excluded_of(state, cohort, indices) == len(cohort)

    def _excluded_of(
        self, state: Any, cohort: Cohort, indices: Sequence[int]
    ) -> Optional[int]:
        """How many clients the round excludes, if the clients at `indices` fill it.

        These clients take part several times, to make a group of the cohort's size:
          another size would be compiled again.
        """
        repeated = itertools.islice(itertools.cycle(indices), len(cohort))
        _, metrics = self._engine.next(state, cohort.select(list(repeated)))
        return excluded(metrics)


def excluded(metrics: Any) -> Optional[int]:
    """How many clients a round excluded, by its metrics; None if they do not say."""
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
