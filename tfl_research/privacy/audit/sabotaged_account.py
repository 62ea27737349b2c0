"""The account of a mechanism that is broken on purpose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfl_research.privacy.ledger.round_account import RoundAccount


class SabotagedAccount(RoundAccount):
    """Charges rounds whose noise is known to be false, to see that an audit notices.

    The run's folder, output and statement say that its ε is false.
    """

    def check_measured(self, metrics: Mapping[str, Any]) -> None:
        """Lets everything pass: the noise is not the plan's, on purpose."""
        del metrics
