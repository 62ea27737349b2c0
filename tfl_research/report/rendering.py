"""Makes pages from templates: one file without network and foreign scripts."""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
from typing import Any

from tfl_research.report.unavailable import ReportUnavailableError

_FOLDER = "templates"
# The sources that a page's policy allows a script: none, or the live page's server.
NOTHING, OWN_SERVER = "'none'", "'self'"


def _file(name: str) -> str:
    folder = importlib.resources.files("tfl_research.report") / _FOLDER
    return (folder / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


@functools.lru_cache(maxsize=1)
def _environment() -> Any:
    """Returns the templates' environment; templates are compiled once."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("tfl_research.report", _FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, *, live: bool = False, **context: Any) -> str:
    """Makes a page from a template.

    All text is escaped. The page's policy allows only the page's own scripts, by their
    hashes, and no connection. So a script that hides in a text cannot run.

    Args:
      template: name of the template's file.
      live: whether the page asks its server for news every few seconds.
      context: the values that the template shows.

    Raises:
      ReportUnavailableError: jinja2 is not installed.
    """
    try:
        import jinja2  # noqa: F401
    except ImportError as error:
        raise ReportUnavailableError.of(error) from error
    script = _file("script.js")
    scripts = [script, _file("live.js")] if live else [script]
    page = (
        _environment()
        .get_template(template)
        .render(
            style=_file("style.css"),
            script=script,
            live=scripts[1] if live else "",
            script_hashes=" ".join(map(_hash, scripts)),
            connects=OWN_SERVER if live else NOTHING,
            **context,
        )
    )
    # If a folder's name is not UTF-8, Python's text of the name has lone surrogates.
    return page.encode(errors="backslashreplace").decode()
