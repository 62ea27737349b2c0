"""The four hospitals of the task heart, each with a CSV file of its own."""

from __future__ import annotations

import pathlib

from tfl_research.storage.files import atomic

LABEL = "disease"
_NAMES = {
    "cleveland": "Cleveland",
    "hungary": "Hungary",
    "switzerland": "Switzerland",
    "va_long_beach": "VA Long Beach",
}
NAMES = tuple(_NAMES)
# The id, the hospital's name, and the number behind the label are no features.
_NO_FEATURES = ["id", "dataset", "num"]


def table(name: str) -> str:
    """Returns the patients of a hospital as the text of a CSV file.

    Raises:
      ValueError: the package with the data is not installed.
    """
    from tfl_research.tasks.built_in import heart

    patients = heart.read_patients()
    own = patients[patients["dataset"] == _NAMES[name]]
    own = own.assign(
        **{LABEL: (own["num"].astype(int) > 0).map({True: "yes", False: "no"})}
    )
    return str(own.drop(columns=_NO_FEATURES).to_csv(index=False))


def write(name: str, folder: pathlib.Path) -> pathlib.Path:
    """Writes a hospital's file `folder/NAME.csv` if it is missing; returns its path."""
    path = folder / f"{name}.csv"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        atomic.write(path, table(name).encode(), mode=0o600)
    return path
