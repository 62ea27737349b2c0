"""Seeds of clients' own noise, which only the client's site knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Union

import numpy as np

from tfl_research.data.batching import derived_generator

# The member of a client's value in a cohort, int64 [2].
CLIENT_SECRET = "client_secret"


def client_secrets(
    secret: Union[int, Mapping[str, int]], client_ids: Sequence[str], round_number: int
) -> np.ndarray:
    """Computes each client's secret seed of a round, a function of the arguments.

    In a federation a site fills the member with its own secret, so that the server
    cannot compute the noise. In a simulation there is one secret for all clients.

    Args:
      secret: the secret of the site; a mapping by client if clients are at several
        sites.
      client_ids: the ids of the site's clients in the round.
      round_number: the round's number; rounds are numbered from 1.

    Returns:
      int64 `[clients, 2]`, uniform over all 128 bits.
    """
    least, most = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    rows = []
    for client_id in client_ids:
        own = secret[client_id] if isinstance(secret, Mapping) else secret
        generator = derived_generator("client secret", own, client_id, round_number)
        rows.append(
            generator.integers(least, most, size=2, dtype=np.int64, endpoint=True)
        )
    return np.array(rows, np.int64).reshape(-1, 2)
