"""The error for a page that needs a package that is not installed."""

from __future__ import annotations


class ReportUnavailableError(ImportError):
    """matplotlib or jinja2 is not installed (extra `plots`)."""

    @classmethod
    def of(cls, error: ImportError) -> ReportUnavailableError:
        """Makes the error for a missing package; the message says what to install."""
        return cls(
            f"{error.name} is not installed; install the extra 'plots' "
            "(pip install 'tfl_research[plots]')"
        )
