"""The lines of a run's own ledger that were read so far."""

from __future__ import annotations

from tfl_research.privacy.ledger.hash_chain import HashChain
from tfl_research.privacy.ledger.lines.entries import (
    parse_entry,
)
from tfl_research.privacy.ledger.lines.header import Header
from tfl_research.privacy.ledger.lines.run_record import RunRecord


class OwnLines:
    """The header and the entries of a run's own ledger.

    Attributes:
      header: the header of the first line; None in a ledger of an earlier version.
      record: the entries.
    """

    def __init__(self) -> None:
        self.header: Header | None = None
        self.record = RunRecord()

    def read(self, chain: HashChain, *, repair: bool) -> None:
        """Reads the whole ledger; see `HashChain.read`.

        Raises:
          MissingPluginError: the plugin that registers an event was not imported.
          ValueError: a line is damaged, see `HashChain.read`, or cannot come next.
        """
        for number, fields in enumerate(chain.read(repair=repair), start=1):
            where = f"{chain.path}, line {number}"
            if number == 1 and "ledger" in fields:
                self.header = Header.parse(where, fields)
                continue
            self.record.add(where, parse_entry(where, fields, set()))
