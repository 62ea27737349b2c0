"""A run seed that the user chose: where it breaks a promise, and what is said of it.

Noise and cohorts are functions of the run seed and the round. Two runs that have one
in common draw the same noise, and the difference of their models is free of it: what
accountants add up for them is no bound.
"""

from __future__ import annotations

from typing import Optional

from tfl_research.flags.declare import FlagError
from tfl_research.flags.run_flags import RunFlags
from tfl_research.storage import RunFolder

_OUTSIDE = (
    "Whoever knows the run seed, which was chosen by --run_seed, and whoever sees "
    "another run that was begun with the same one: their noise is the same, and the "
    "difference of two models is free of it."
)


def check_not_shared(run: RunFlags, flag: str, ledger: Optional[str]) -> None:
    """Refuses a chosen run seed where runs are composed.

    Args:
      run: the run's flags.
      flag: name of the flag that names the ledger.
      ledger: its value; None for a run that is alone.

    Raises:
      FlagError: both are given.
    """
    if run.run_seed is not None and ledger is not None:
        # The seed is a secret, so it is not repeated.
        raise FlagError(
            f"--{flag}={ledger}: its total counts on each run having noise of its "
            "own, and runs of one --run_seed have the same; leave --run_seed out, and "
            "a secret one is drawn"
        )


def outside_lines(folder: RunFolder) -> list[str]:
    """What a chosen run seed leaves outside the guarantee, for the statement."""
    return [_OUTSIDE] if folder.run_seed_given else []
