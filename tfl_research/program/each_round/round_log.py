"""The rounds of a run on disk: metrics.csv, measurements.jsonl and columns.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from tfl_research.outputs import Release
from tfl_research.storage.files import atomic
from tfl_research.storage.metrics import measurements
from tfl_research.storage.metrics.measurements import MeasurementsLog
from tfl_research.storage.metrics.metrics_log import MetricsLog
from tfl_research.storage.run_folder import RunFolder

_NO_DIGESTS: Mapping[str, str] = MappingProxyType({})


class RoundLog:
    """Writes the released columns and measurements of each round.

    Args:
      folder: the folder of the run.
      completed_rounds: number of rounds in the checkpoint; later rounds are dropped.
      release: which columns and measurements are released.
      digests: the value of the attribute `digests` when the checkpoint was written.
        Checkpoints of earlier versions have no digests.
    """

    def __init__(
        self,
        folder: RunFolder,
        completed_rounds: int,
        release: Release,
        digests: Mapping[str, str] = _NO_DIGESTS,
    ):
        self._columns_path = folder.columns_path
        self._release = release
        self._measurements_path = folder.measurements_path
        self._metrics = MetricsLog(
            folder.metrics_path,
            completed_rounds=completed_rounds,
            shows=release.shows,
            copy=folder.metrics_copy_path,
            digest=digests.get("metrics"),
        )
        self._measurements = MeasurementsLog(
            folder.measurements_path,
            completed_rounds=completed_rounds,
            digest=digests.get("measurements"),
        )
        self._describe()

    @property
    def digests(self) -> dict[str, str]:
        """Digests of all rounds so far, for checkpoints."""
        return {
            "metrics": self._metrics.digest,
            "measurements": self._measurements.digest,
        }

    @property
    def rows(self) -> Sequence[Mapping[str, str]]:
        """All rows as text, without empty cells and in the file's order."""
        return self._metrics.rows

    @property
    def dropped_rounds(self) -> tuple[int, ...]:
        """Rounds after the checkpoint, whose rows were dropped."""
        return self._metrics.dropped_rounds

    def measured(self) -> Mapping[int, Mapping[str, np.ndarray]]:
        """Returns metrics that are not scalar numbers, as arrays by round and name."""
        if not self._measurements.names:
            return {}
        return measurements.read(self._measurements_path)

    @property
    def _names(self) -> tuple[str, ...]:
        return (*self._metrics.columns, *self._measurements.names)

    def append(
        self, row: Mapping[str, Any], measurements: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Adds a round.

        Args:
          row: released cells of the round's row of metrics.csv.
          measurements: arrays that the round measured in addition to numbers, by name.

        Returns:
          The measurements that are released.
        """
        names = self._names
        given = {n: each for n, each in measurements.items() if self._release.shows(n)}
        self._metrics.append(row)
        self._measurements.append(int(row["round"]), given)
        if self._names != names:
            self._describe()
        return given

    def _describe(self) -> None:
        """Writes columns.json."""
        described = self._release.described(self._names)
        content = json.dumps({"format": 1, "columns": described}, indent=1) + "\n"
        atomic.write(self._columns_path, content.encode())

    def sync(self) -> None:
        """Makes the rounds durable; call it before a checkpoint that needs them."""
        self._metrics.sync()
        self._measurements.sync()

    def close(self) -> None:
        """Closes the files."""
        self._metrics.close()
        self._measurements.close()
