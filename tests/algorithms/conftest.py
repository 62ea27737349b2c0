"""The task that the algorithms' tests share."""

from __future__ import annotations

import pytest
import rounds


@pytest.fixture(scope="session")
def six_clients(make_linear_task):
    """Six clients of a linear model, one of them without examples."""
    return make_linear_task(rounds.examples(), rounds.BATCHING)


@pytest.fixture(scope="session")
def run_algorithm(six_clients):
    """name of `rounds.ALGORITHMS` -> its `rounds.Run` over `rounds.COHORTS`."""
    runs = {}

    def get(name: str) -> rounds.Run:
        if name not in runs:
            process = rounds.built(name, six_clients)
            cohorts = rounds.cohorts_of(
                six_clients, 2 if name == "mime" else 1, stale=name == "fed_buff"
            )
            runs[name] = rounds.run(process, cohorts)
        return runs[name]

    return get
