"""Pages about runs, and tables and pictures of sweeps.

They are made from files of run folders (settings, metrics, summary, clients' table,
privacy statement) and from counts of labels. `cli.report` and `cli.dashboard` are the
command lines. Nothing here imports TensorFlow or reads models and clients' data.

`run_page` is report.html of one run, `several` compares runs, `dashboard` serves pages
of runs that go on; `pictures` has the style of all pictures, and `templates` has the
style of all pages.
"""

from tfl_research.report.run_page.page import write
from tfl_research.report.several.page import compare, compare_sweep
from tfl_research.report.unavailable import ReportUnavailableError

__all__ = ["ReportUnavailableError", "compare", "compare_sweep", "write"]
