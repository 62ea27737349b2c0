"""What can go wrong in a secure sum."""

from __future__ import annotations

from tfl_research.errors import UserError


class SecureSumError(UserError):
    """A message or a step that the protocol does not allow.

    One line says who sent the message and what is wrong with it. The receiver has
    changed nothing: the sender counts as a party that did not answer.
    """


class SumAbandonedError(SecureSumError):
    """Fewer parties than the threshold are left: nothing of the sum can be opened."""
