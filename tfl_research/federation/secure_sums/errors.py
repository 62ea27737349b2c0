"""Errors of secure sums."""

from __future__ import annotations

from tfl_research.errors import UserError


class SecureSumError(UserError):
    """A message or a step is not allowed by the protocol.

    The message of the error says who sent the message and what is wrong. The receiver
    has changed nothing, and the sender counts as a party that did not answer.
    """


class SumAbandonedError(SecureSumError):
    """Fewer parties than the threshold are left, so the sum cannot be opened."""
