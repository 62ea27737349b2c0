"""Pages about runs, and tables and pictures of sweeps.

Pages and pictures are made from files of run folders (settings, metrics, summary,
clients' table, privacy statement) and from counts of labels. `cli.report` and
`cli.dashboard` are the command lines. This package imports no TensorFlow, and reads
neither models nor clients' data.

`run_page` makes report.html of one run, `several` compares runs, and `dashboard` serves
pages of runs in progress. `pictures` has the style of all pictures, and `templates` has
the style of all pages.
"""

from tfl_research.report.run_page.page import write
from tfl_research.report.several.page import compare, compare_sweep
from tfl_research.report.unavailable import ReportUnavailableError

__all__ = ["ReportUnavailableError", "compare", "compare_sweep", "write"]
