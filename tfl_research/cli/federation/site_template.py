"""The site.toml that a site gets, with every field of its policy in a comment."""

from __future__ import annotations

import json

_TEMPLATE = """\
# What this site's process does, and what it allows. This file, {key} and the folder
# below belong to the site alone. Paths start at this file's folder.
# docs/federation.md explains each line.

[site]
name = "{site}"
key = "site.key"          # shared with the coordinator; mode 0600
socket = "site.sock"      # where the process listens; no port
folder = "state"          # what the process keeps: ledger, client states, secrets

[data]
task = "csv"              # the task, and its options where they differ from the run's
data_dir = "data"         # one .csv or .parquet file for each client, and schema.json
{label}
# clients = ["ward_a"]    # of those files, the ones that take part; all by default

{policy}"""


def quoted(text: str) -> str:
    """The text as a TOML string."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def text(site: str, label_column: str) -> str:
    """The content of a new site.toml.

    Args:
      site: the site's name.
      label_column: the column of the label, or "" for the site to fill in.
    """
    label = f"label_column = {quoted(label_column)}"
    if not label_column:
        label = '# label_column = "y"    # the column of the label; fill in'
    return _TEMPLATE.format(site=site, key="site.key", label=label, policy=_POLICY)


_POLICY = """\
[policy]
# What the coordinator may ask for. A commented line allows everything.
# tasks = ["csv"]
# algorithms = ["fed_avg"]
# metrics = ["loss", "accuracy", "examples"]
# most_rounds = 100
# least_record_noise_multiplier = 1.0
# least_user_noise_multiplier = 1.0
# largest_epsilon = 8.0
# delta = 1e-5
# least_examples = 50
"""
