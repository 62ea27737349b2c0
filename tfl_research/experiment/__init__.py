"""`Experiment`: one object that is checked as a whole, run, resumed and swept over.

Everything that makes a run sound is here: settings, what goes with what, the privacy
plan, secret cohorts, records and statements. How the object is described by flags is
in `cli`, and how rounds are done in `program`.
"""

from typing import TYPE_CHECKING

from tfl_research import _lazy

if TYPE_CHECKING:
    from tfl_research.experiment import configs as configs, sweeps as sweeps
    from tfl_research.experiment.description import Description as Description
    from tfl_research.experiment.experiment import Experiment as Experiment
    from tfl_research.experiment.result import Result as Result
__getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
