"""`Experiment`: one object that is checked as a whole, run, resumed and swept over.

This package makes a run sound: it checks which settings go together, draws up the
privacy plan, and writes records and statements. The settings are in `configs`, sweeps
in `sweeps`, and the parts of private and audited runs in `private`. The flags that
describe an experiment are in `cli`, and the loop over rounds is in `program`.
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
    from tfl_research.experiment.result import Result as Result
else:
    __getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
