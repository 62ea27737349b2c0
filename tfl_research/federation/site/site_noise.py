"""A site's own randomness in a run, and the charges for its noise."""

from __future__ import annotations

import hashlib
import hmac
import pathlib
from collections.abc import Callable
from typing import Any, Optional

import numpy as np

from tfl_research.federation.site.kept_rounds import KeptRounds
from tfl_research.federation.site.site_ledger import SiteLedger
from tfl_research.federation.wire.handler import Refused
from tfl_research.federation.wire.messages import Message, MessageError

# The largest number of a restart or a round.
_MOST = 10**9


class SiteNoise:
    """Decides for each round whether the site draws noise, and from which seed.

    Attributes:
      seed: the seed of the site's own randomness; a function of the site's secret, the
        run, and the number of restarts.
      ledger: charges the rounds to the site's records; None if no round is charged.

    Args:
      folder: the folder of the run at the site; its name is the run's id.
      secret: the secret of the site.
      draws: whether the site draws any noise in this run.
      covers: values on which a round's result depends, in addition to the request.
      ledger: see the attributes.
      forget: drops durably the site's other files about the rounds after a round, since
        these rounds will have new noise; it may be called again.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        secret: bytes,
        *,
        draws: bool,
        covers: str,
        ledger: Optional[SiteLedger],
        forget: Callable[[int], None] = lambda after: None,
    ):
        self._run, self._secret = folder.name, secret
        self._draws, self._covers = draws, covers
        self._forget = forget
        self._rounds = KeptRounds(folder / "rounds.sqlite")
        self.ledger = ledger
        self.seed = own_seed(secret, self._run, self._rounds.restarts)

    def take(self, request: Message) -> None:
        """Records and charges a round durably; call it before computing the round.

        Raises:
          Refused: the round was requested before with another request, belongs to an
            attempt that is over, or costs more than the site allows.
          MessageError: the request lacks a field.
        """
        number = request.integer("round")
        if self._draws:
            self._follow(request)
            over = self._rounds.restarted_after
            if number <= over:
                raise Refused(
                    f"the run has begun again after round {over}, so round {number} "
                    "is over and gets no new noise"
                )
            self._rounds.take(number, _digest(request, self._covers))
        if self.ledger is not None:
            self.ledger.charge(number)

    def _follow(self, request: Message) -> None:
        """Takes a new seed if the coordinator has begun the run again.

        The ledger is written first. A kill between the steps repeats all of them.
        """
        restarts, after = (request.integer(n) for n in ("restarts", "restarted_after"))
        if not (0 <= restarts <= _MOST and 0 <= after <= _MOST):
            raise MessageError(
                f"restarts {restarts} after round {after}: expected numbers from 0 to "
                f"{_MOST}"
            )
        known = self._rounds.restarts
        if restarts < known:
            raise Refused(
                f"the run has begun again with new noise {known} times so far, but "
                "this request is older; its noise is not drawn any more"
            )
        if restarts > known:
            if self.ledger is not None:
                self.ledger.restart(after)
            self._forget(after)
            self._rounds.restart(restarts, after)
            self.seed = own_seed(self._secret, self._run, restarts)

    def close(self) -> None:
        """Closes the files."""
        self._rounds.close()
        if self.ledger is not None:
            self.ledger.close()


def own_seed(secret: bytes, run: str, restarts: int = 0) -> int:
    """The seed of a site's own randomness in a run, which only the site knows.

    Args:
      secret: the secret of the site.
      run: the run's id.
      restarts: how often the run has begun again with new noise (`--recharge`).
    """
    message = f"local steps and noise of the run {run}"
    if restarts:
        message += f" after {restarts} restarts"
    digest = hmac.new(secret, message.encode(), hashlib.sha256).digest()
    return int.from_bytes(digest, "big")


def _digest(request: Message, covers: str) -> str:
    """Computes the SHA-256 of everything on which a round's result depends."""
    states = sorted(request.mapping("state_rounds").items())
    said = (request.texts("clients"), states, covers)
    digest = hashlib.sha256(repr(said).encode())
    for name in sorted(request.tensors):
        array: Any = request.tensors[name]
        digest.update(repr((name, array.dtype.str, array.shape)).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
