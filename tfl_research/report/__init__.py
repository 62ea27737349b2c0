"""One self-contained HTML page about a run, and tables and pictures for people.

The page is made from what the run wrote (settings, metrics, summary, clients' table,
privacy statement), pictures from counts; never from TensorFlow, a model or data.
"""

from tfl_research.report.page import ReportUnavailableError, write

__all__ = ["ReportUnavailableError", "write"]
