"""The account of a run whose mechanism is broken on purpose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfl_research.privacy.ledger.accounts.round_account import RoundAccount


class SabotagedAccount(RoundAccount):
    """Charges rounds of a sabotaged mechanism, to test that an audit notices.

    The run's folder, output and statement warn that the run's ε is false.
    """

    def check_measured(self, metrics: Mapping[str, Any]) -> None:
        """Accepts any noise, since the noise is wrong on purpose."""
        del metrics
