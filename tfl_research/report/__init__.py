"""A self-contained HTML page about a run, and tables and pictures of sweeps.

They are made from files of run folders (settings, metrics, summary, clients' table,
privacy statement) and from counts of labels. `cli.report` is the command line. Nothing
here imports TensorFlow or reads models and clients' data.
"""

from tfl_research.report.page import ReportUnavailableError, write

__all__ = ["ReportUnavailableError", "write"]
