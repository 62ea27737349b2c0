"""`Experiment`: one object that is checked as a whole, run, resumed and swept over.

This package makes a run sound. It checks that the settings fit together, draws up the
privacy plan, and writes records and privacy statements. `configs` has the settings,
`running` runs a checked experiment, `sweeps` has sweeps, and `private` has the parts of
private and audited runs. `cli` has the flags that describe an experiment, and `program`
has the loop over rounds.
"""

from typing import TYPE_CHECKING

from tfl_research import _lazy

if TYPE_CHECKING:
    from tfl_research.experiment import configs as configs, sweeps as sweeps
    from tfl_research.experiment.description import Description as Description
    from tfl_research.experiment.experiment import Experiment as Experiment
    from tfl_research.experiment.own_process.process_experiment import (
        ProcessExperiment as ProcessExperiment,
    )
    from tfl_research.experiment.running.result import Result as Result
else:
    __getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
