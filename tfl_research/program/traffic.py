"""Bytes that a round moves between server and clients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def traffic(row: Mapping[str, Any], message_bytes: tuple[int, int]) -> dict[str, int]:
    """The cells `bytes_down` and `bytes_up` of a round; none where it has them.

    Args:
      row: cells of the round: `cohort_size`, and `selected` and `dropped_out` where
        clients can be down, who are sent a model and send nothing back.
      message_bytes: what a client is sent, and what it sends back.
    """
    if "bytes_down" in row:
        return {}
    asked = int(row.get("selected", row["cohort_size"]))
    reported = asked - int(row.get("dropped_out", 0))
    down, up = message_bytes
    return {"bytes_down": asked * down, "bytes_up": reported * up}
