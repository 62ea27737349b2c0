"""The base class of a run's own ledger and of a shared ledger."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from tfl_research.privacy.ledger.hash_chain import HashChain


class ChainFile(contextlib.AbstractContextManager):
    """A ledger in a hash chain file, which is closed at the end of its context.

    Attributes:
      path: the path of the file.
    """

    def __init__(self, chain: HashChain) -> None:
        self._chain = chain
        self.path = chain.path

    @property
    def position(self) -> dict[str, Any]:
        """The number of lines read so far, and the last line's hash."""
        return self._chain.position

    def check_unchanged(self) -> None:
        """Checks that nobody else changed the file while it is open.

        Raises:
          ValueError: the file was changed.
        """
        self._chain.check_unchanged()

    def check_position(self, position: Mapping[str, Any]) -> None:
        """Checks that the file still has its earlier lines.

        Raises:
          ValueError: earlier lines are gone or changed.
        """
        self._chain.check_position(position)

    def close(self) -> None:
        """Releases the file; may be called again."""
        self._chain.close()

    def __exit__(self, *_: object) -> None:
        self.close()
