"""Refuses or warns of a run seed that the user chose, which can break the guarantee.

Two runs with the same run seed draw the same secret cohorts. They also draw the same
noise, if nothing differs on which the noise depends. Accountants assume independent
noise, so the composed ε of such runs is no bound.
"""

from __future__ import annotations

import hashlib
from typing import Optional

from tfl_research.errors import SettingError
from tfl_research.storage import RunFolder

_OUTSIDE = (
    "Whoever knows the run seed, which was chosen by --run_seed, and whoever sees "
    "another run with the same run seed: such runs have the same cohorts, and the same "
    "noise if nothing else differs."
)


def cohort_seed(run_seed: int) -> int:
    """Returns the seed of a run's secret cohorts.

    SHA-256 derives the seed from the run seed, so that noise and cohorts share no
    stream.
    """
    return int.from_bytes(hashlib.sha256(b"cohorts %d" % run_seed).digest(), "big")


def check_not_shared(
    run_seed: Optional[str], setting: str, path: Optional[str]
) -> None:
    """Refuses a chosen run seed if a ledger composes several runs.

    Args:
      run_seed: the run seed that the user gave, or None.
      setting: the name of the setting that names the shared ledger.
      path: the value of that setting; None for a run without a shared ledger.

    Raises:
      SettingError: both are given.
    """
    if run_seed is not None and path is not None:
        # The message does not show the seed, which is a secret.
        raise SettingError(
            f"--{setting}={path}: its total assumes that each run has noise of its "
            "own, but runs of one --run_seed have the same noise; leave --run_seed "
            "out, and a secret seed is drawn"
        )


def outside_lines(folder: RunFolder) -> list[str]:
    """Writes sentences about what a chosen run seed leaves outside the guarantee."""
    return [_OUTSIDE] if folder.run_seed_given else []
