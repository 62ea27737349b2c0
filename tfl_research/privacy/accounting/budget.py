"""Defaults and warnings about δ."""

from __future__ import annotations

# The largest default δ; a larger δ is no small probability, even for few clients.
LARGEST_DEFAULT_DELTA = 1e-3


def default_delta(num_clients: int) -> float:
    """Returns δ = n^-1.1 for n clients, at most 0.001.

    This is the rule of McMahan et al. 2018 (arXiv 1710.06963). It keeps δ below 1/n:
    with δ >= 1/n, a mechanism that publishes all data of one random client would count
    as private. For fewer than about 530 clients, n^-1.1 is above 0.001, and δ is 0.001.

    Raises:
      ValueError: num_clients is below 1.
    """
    if num_clients < 1:
        raise ValueError(f"num_clients must be at least 1, got {num_clients}")
    return min(float(num_clients) ** -1.1, LARGEST_DEFAULT_DELTA)


def delta_warning(delta: float, num_clients: int) -> str | None:
    """Returns a warning if δ is too large for the population, otherwise None."""
    if delta * num_clients < 1:
        return None
    return (
        f"delta = {delta:g} is at least 1/clients = {1 / num_clients:g}: publishing "
        "one random client's data in full would satisfy such a guarantee; "
        f"use --delta={default_delta(num_clients):.2g} or smaller"
    )
