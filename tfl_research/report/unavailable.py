"""The error of a page that cannot be made here."""

from __future__ import annotations


class ReportUnavailableError(ImportError):
    """matplotlib or jinja2 is not installed (extra `plots`)."""

    @classmethod
    def of(cls, error: ImportError) -> ReportUnavailableError:
        """The error with the way out, for a package that is missing."""
        return cls(
            f"{error.name} is not installed; install the extra 'plots' "
            "(pip install 'tfl_research[plots]')"
        )
