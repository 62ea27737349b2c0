"""Chooses δ and noise of record-level runs, where every client has its own ε."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tfl_research.privacy.accounting.budget import default_delta
from tfl_research.privacy.accounting.calibration import calibrate_event
from tfl_research.privacy.accounting.composition import composed_epsilon
from tfl_research.privacy.accounting.events import Event
from tfl_research.privacy.accounting.events.record_event import RecordEvent


def default_record_deltas(event: RecordEvent) -> tuple[float, ...]:
    """Returns δ_k = n_k^-1.1, at most 0.001, for each client's n_k records.

    See `budget.default_delta`. A client without records gets the δ of one record.
    """
    return tuple(default_delta(max(1, records)) for _, records in event.clients)


def calibrate_record_noise(
    event: RecordEvent,
    target_epsilon: float,
    rounds: int,
    deltas: Sequence[float],
    accountant: str | None = None,
    spent: Sequence[tuple[Event, int]] = (),
) -> float:
    """Finds the smallest noise multiplier at which no client exceeds the target.

    Args:
      event: the event of a round; its noise multiplier is ignored.
      target_epsilon: largest ε_k allowed after the last round, above 0.
      rounds: the number of rounds of the run, at least 1.
      deltas: δ_k of each client.
      accountant: "pld", "rdp" or None for the tightest.
      spent: pairs (event, count) that every client is charged in addition.

    Returns:
      The smallest multiple of 0.001, see `calibration.calibrate_event`.

    Raises:
      ValueError: an argument is outside its range, no client holds records, or no noise
        meets the target.
    """
    check_deltas(event, deltas)
    # The most sampled client first: its noise mostly suffices for the others.
    order = sorted(range(len(deltas)), key=lambda k: -event.sampling_rates[k])
    calibrated: set[tuple[float, float]] = set()
    noise_multiplier = 0.0
    for index in order:
        client, rate = event.of_client(index), event.sampling_rates[index]
        if client.clients[0][1] == 0 or (rate, deltas[index]) in calibrated:
            continue
        calibrated.add((rate, deltas[index]))
        if noise_multiplier > 0:
            noised = dataclasses.replace(client, noise_multiplier=noise_multiplier)
            groups = [(noised, rounds), *spent]
            if composed_epsilon(groups, deltas[index], accountant) <= target_epsilon:
                continue
        needed = calibrate_event(
            client, target_epsilon, rounds, deltas[index], accountant, spent
        )
        noise_multiplier = max(noise_multiplier, needed)
    if noise_multiplier == 0:
        raise ValueError("no client holds records: there is nothing to calibrate")
    return noise_multiplier


def check_deltas(event: RecordEvent, deltas: Sequence[float]) -> None:
    """Checks that there is one δ for each client.

    Raises:
      ValueError: the number of deltas is not the number of clients.
    """
    if len(deltas) != len(event.clients):
        raise ValueError(
            f"deltas must be one for each of {len(event.clients)} clients, got "
            f"{len(deltas)}"
        )
