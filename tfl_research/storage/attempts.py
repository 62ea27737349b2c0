"""Attempts of a private run, each with its own key for the noise of its rounds.

The first attempt begins with round 1. A new attempt repeats the rounds after a
checkpoint with new noise, because the data or the computation under the noise has
changed. The repeated rounds are charged again (`--recharge`).

The noise of an attempt is keyed by HMAC-SHA256 of the run seed over all attempts so
far: their fingerprints, the rounds after which they begin, and a random number of each
new attempt. So a key belongs to one computation on one set of data from one state. If
the same key draws a round's noise again, the round is the same to the last bit. The
fingerprint depends on the data, but the noise does not, since the function is keyed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import secrets
from typing import Any

from tfl_research.storage import run_seed


@dataclasses.dataclass(frozen=True)
class Attempt:
    """The rounds from one change to the next.

    Attributes:
      after: number of rounds that were completed before, 0 for the first attempt.
      fingerprint: SHA-256 of the data and the computation that the noise covers, in
        hexadecimal.
      base: `Attempts.name` in the checkpoint from which the attempt continues; ""
        without a checkpoint.
      nonce: a random text, so that no two attempts have the same key; "" for the first
        attempt of a run.
    """

    after: int
    fingerprint: str
    base: str = ""
    nonce: str = ""


@dataclasses.dataclass(frozen=True)
class Attempts:
    """All attempts of a run; the last attempt is the present one.

    Attributes:
      all: the attempts in order; empty for a run without privacy, because its
        checkpoints always fit.
    """

    all: tuple[Attempt, ...] = ()

    @property
    def name(self) -> str:
        """The name of the last attempt, which depends on all; "" without attempts."""
        if not self.all:
            return ""
        return hashlib.sha256(self._content()).hexdigest()

    def _content(self) -> bytes:
        return json.dumps([dataclasses.astuple(one) for one in self.all]).encode()

    @property
    def after(self) -> int:
        """Number of rounds that were completed when the last attempt began."""
        return self.all[-1].after if self.all else 0

    def begun(self, after: int, fingerprint: str, base: str) -> Attempts:
        """Returns the attempts with a new attempt at the end; see `Attempt`."""
        new = Attempt(after, fingerprint, base, secrets.token_hex(16))
        return Attempts((*self.all, new))

    def key(self, seed: int) -> int:
        """Computes the key of the last attempt's noise: 128 secret bits.

        Args:
          seed: the seed of the run.
        """
        derived = run_seed.derived(seed, "noise", self._content())
        return int.from_bytes(derived[:16], "big")

    def accepts(self, round_number: int, name: str) -> bool:
        """Whether the last attempt may go on from a checkpoint.

        Args:
          round_number: the round of the checkpoint.
          name: the name of the attempt that wrote the checkpoint.
        """
        if not self.all:
            return True
        last = self.all[-1]
        if name == self.name:
            # The first attempt may have kept the initial state, as round 0.
            return round_number >= last.after
        return bool(last.base) and (round_number, name) == (last.after, last.base)

    def later_seeds(self, seed: int) -> list[tuple[int, int]]:
        """Returns (rounds before, secret seed of the cohorts) of each later attempt.

        The cohorts of a first attempt depend on the run seed alone: cohorts are not
        noise, and the first attempt is never repeated with other data. Repeated rounds
        need new cohorts: amplification by sampling assumes that cohorts are independent
        of each other.

        Args:
          seed: the seed of the run.
        """
        found = []
        for count, one in enumerate(self.all, start=1):
            if one.nonce:
                found.append((one.after, Attempts(self.all[:count]).key(seed)))
        return found

    def to_json(self) -> list[dict[str, Any]]:
        """Returns JSON values, for `from_json`."""
        return [dataclasses.asdict(one) for one in self.all]

    @classmethod
    def from_json(cls, values: Any) -> Attempts:
        """Makes the object whose `to_json` returned these values.

        Raises:
          ValueError, KeyError, TypeError: the values have another form.
        """
        return cls(
            tuple(
                Attempt(
                    int(one["after"]),
                    str(one["fingerprint"]),
                    str(one["base"]),
                    str(one["nonce"]),
                )
                for one in values
            )
        )
