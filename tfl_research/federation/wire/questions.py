"""Questions to sites before a run, which change nothing at a site.

Each start of a coordinator asks its sites for their facts, under an id of its own. No
site and no coordinator keeps files for such an id.
"""

from __future__ import annotations

import secrets

# The only kind of request that a question has.
KIND = "hello"
PREFIX = "question-"


def new_id() -> str:
    """Makes the id of a new question, which stands in the place of a run's id."""
    return f"{PREFIX}{secrets.token_hex(8)}"


def is_id(run: str) -> bool:
    """Whether the id is of a question; runs have other ids."""
    return run.startswith(PREFIX)
