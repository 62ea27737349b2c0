"""The section about settings; settings that differ from their defaults come first."""

from __future__ import annotations

import json
from typing import Any

from tfl_research.report.run_results import RunResults

# The key in hparams.json of the defaults of the settings with another value.
CHANGED = "changed_from"


def shown_value(value: Any) -> str:
    """Returns a setting's value as text."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False) if value else "none"
    if isinstance(value, float):
        # The text has all digits, but 20.0 is written as 20.
        return repr(value).removesuffix(".0")
    return str(value)


def section(results: RunResults) -> dict[str, Any]:
    """Makes the rows of settings.

    Returns:
      `knows_defaults`; `changed`, (name, value, default) of the settings that differ
      from their defaults; `others`, (name, value) of other settings with a value;
      `unset`, the names of settings without a value.
    """
    hparams = results.hparams
    defaults = results.record.get(CHANGED)
    knows = isinstance(defaults, dict)
    differ = dict(defaults) if isinstance(defaults, dict) else {}
    changed = [
        (name, shown_value(hparams[name]), shown_value(default))
        for name, default in sorted(differ.items())
        if name in hparams
    ]
    rest = {n: v for n, v in sorted(hparams.items()) if n not in differ}
    unset = [n for n, v in rest.items() if v is None or v == []]
    others = [(n, shown_value(v)) for n, v in rest.items() if n not in unset]
    return {
        "knows_defaults": knows,
        "changed": changed,
        "others": others,
        "unset": unset,
    }


def code(results: RunResults) -> list[tuple[str, str]]:
    """Returns the versions that ran, and whether the run seed is secret."""
    versions = results.record.get("versions")
    rows = {
        "git revision": results.record.get("git_revision"),
        "run seed": results.record.get("run_seed"),
        **(versions if isinstance(versions, dict) else {}),
    }
    return [(name, "–" if v is None else str(v)) for name, v in rows.items()]
