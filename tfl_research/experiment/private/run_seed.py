"""A run seed that the user chose: where it breaks the guarantee, and what is said.

Two runs with the same run seed draw the same secret cohorts, and the same noise where
nothing differs that the noise covers. What accountants compose for them is no bound.
"""

from __future__ import annotations

import hashlib
from typing import Optional

from tfl_research.errors import SettingError
from tfl_research.storage import RunFolder

_OUTSIDE = (
    "Whoever knows the run seed, which was chosen by --run_seed, and whoever sees "
    "another run that was begun with the same one: their cohorts are the same, and "
    "so is their noise where nothing else differs."
)


def cohort_seed(run_seed: int) -> int:
    """The seed of a run's secret cohorts.

    Derived from the run seed by SHA-256, so that noise and cohorts share no stream.
    """
    return int.from_bytes(hashlib.sha256(b"cohorts %d" % run_seed).digest(), "big")


def check_not_shared(
    run_seed: Optional[str], setting: str, path: Optional[str]
) -> None:
    """Refuses a chosen run seed where several runs are composed.

    Args:
      run_seed: as given, or None.
      setting: name of the setting that names the shared ledger.
      path: its value; None for a run that is alone.

    Raises:
      SettingError: both are given.
    """
    if run_seed is not None and path is not None:
        # The seed is a secret, so it is not repeated.
        raise SettingError(
            f"--{setting}={path}: its total assumes that each run has noise of its "
            "own, but runs of one --run_seed have the same noise; leave --run_seed "
            "out, and a secret one is drawn"
        )


def outside_lines(folder: RunFolder) -> list[str]:
    """The sentences that say what a chosen run seed leaves outside the guarantee."""
    return [_OUTSIDE] if folder.run_seed_given else []
