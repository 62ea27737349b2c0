"""Command lines: flags of the experiments and the programs of `scripts/`.

Only this package imports absl and argparse. `experiment` defines what a run does.
"""

from typing import TYPE_CHECKING

from tfl_research import _lazy

if TYPE_CHECKING:
    from tfl_research.cli.preset import (
        COMMON as COMMON,
        Given as Given,
        Output as Output,
        PersonalEvaluation as PersonalEvaluation,
        Preset as Preset,
    )
    from tfl_research.cli.program import execute as execute, main as main
else:
    __getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
