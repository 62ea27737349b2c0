"""Pages from templates: one file, no network, and no script but its own."""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
from typing import Any

from tfl_research.report.unavailable import ReportUnavailableError

_FOLDER = "templates"
# What the page's policy lets a script read: nothing, or the server of the live page.
NOTHING, OWN_SERVER = "'none'", "'self'"


def _file(name: str) -> str:
    folder = importlib.resources.files("tfl_research.report") / _FOLDER
    return (folder / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


@functools.lru_cache(maxsize=1)
def _environment() -> Any:
    """The templates, which are compiled once."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("tfl_research.report", _FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, *, live: bool = False, **context: Any) -> str:
    """A page.

    All text is escaped. The page's policy allows its own scripts alone, by their
    hashes, and no connection: text that is no text cannot do anything.

    Args:
      template: name of its file.
      live: whether the page asks its server for news every few seconds.
      context: what the template shows.

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
    # The name of a folder that is no UTF-8 has halves of surrogate pairs.
    return page.encode(errors="backslashreplace").decode()
