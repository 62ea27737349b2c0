"""Makes a site's site.toml, with every field of the site's policy in a comment."""

from __future__ import annotations

import json

_TEMPLATE = """\
# What this site's process does, and what the site allows. Only the site should have
# this file, {key} and the folder below. Relative paths start at the folder of this
# file. docs/federation.md explains each line.

[site]
name = "{site}"
key = "{key}"          # shared with the coordinator; mode 0600
socket = "site.sock"      # where the process listens; no port
folder = "state"          # what the process keeps: ledger, client states, secrets
# plugin = "our_module"   # a Python module that registers tasks of the site's own

[data]
task = "csv"              # the task; other entries are its options
data_dir = "data"         # one .csv or .parquet file for each client, and schema.json
{label}
# clients = ["ward_a"]    # the files that take part; all by default

[policy]
# What a coordinator may ask for. To set a rule, remove the # of its line. A rule that
# is not set allows everything.

# Names of the tasks and algorithms that a run may have.
# tasks = ["csv"]
# algorithms = ["fed_avg"]

# Metrics that may leave this site. "examples" is the number of examples of each client.
# metrics = ["loss", "accuracy", "auc", "examples"]

# Largest number of rounds of a run.
# most_rounds = 100

# Smallest multiplier of the noise that this site draws for its records (DP-SGD), and of
# the noise that the coordinator draws for clients. If both rules are set, a run must
# keep one of the two.
# least_record_noise_multiplier = 1.0
# least_user_noise_multiplier = 1.0

# Largest epsilon of this site's records over all runs, and the delta of this epsilon.
# The epsilon does not cover metrics. With this rule, only those in "metrics" leave.
# largest_epsilon = 8.0
# delta = 1e-5

# Smallest number of training examples of each client.
# least_examples = 50
"""


def quoted(text: str) -> str:
    """Writes a text as a TOML string."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def text(site: str, label_column: str) -> str:
    """Makes the content of a new site.toml.

    Args:
      site: the site's name.
      label_column: the column of the label, or "" for the site to fill in.
    """
    label = f"label_column = {quoted(label_column)}"
    if not label_column:
        label = '# label_column = "y"    # the column of the label; fill in'
    return _TEMPLATE.format(site=site, key="site.key", label=label)
