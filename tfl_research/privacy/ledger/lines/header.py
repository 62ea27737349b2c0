"""The first line of a run's own ledger: the run's id, and a commitment to its seed.

The noise of a run is a function of the run seed. A salted SHA-256 of the seed shows
whether a resumed run has the same seed, and tells nothing about a secret seed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
from collections.abc import Mapping
from typing import Any

from tfl_research.privacy.ledger import identity

FORMAT = 2
_SALT_DIGITS = 32
_SEED_BYTES = 16
_NAMES = ("ledger", "run", "salt", "seed_sha256")


@dataclasses.dataclass(frozen=True)
class RunIdentity:
    """The run that a ledger charges for its rounds.

    Attributes:
      run: the run's id, from `run_id`.
      run_seed: the run seed, in [0, 2^128). Messages never show it.

    Raises:
      ValueError: the id has another form, or the seed is out of range.
    """

    run: str
    run_seed: int = dataclasses.field(repr=False)

    def __post_init__(self) -> None:
        identity.check_run(self.run)
        if not 0 <= self.run_seed < 1 << (8 * _SEED_BYTES):
            # The message does not show the seed, which is a secret.
            raise ValueError(f"run_seed must be in [0, 2^{8 * _SEED_BYTES})")


@dataclasses.dataclass(frozen=True)
class Header:
    """The first line of a run's own ledger.

    Attributes:
      run: the run's id.
      salt: 32 random hexadecimal digits.
      seed_sha256: SHA-256 of the bytes of the salt and of the seed, hexadecimal.
    """

    run: str
    salt: str
    seed_sha256: str

    @classmethod
    def new(cls, of: RunIdentity) -> Header:
        """Makes the header of a new ledger, with a random salt."""
        salt = secrets.token_hex(_SALT_DIGITS // 2)
        return cls(of.run, salt, _digest(salt, of.run_seed))

    @classmethod
    def parse(cls, where: str, fields: Mapping[str, Any]) -> Header:
        """Reads the header in a line.

        Args:
          where: the beginning of the message, which names file and line.
          fields: the fields of the line.

        Raises:
          ValueError: the ledger has a later format, or the line has other fields.
        """
        if fields["ledger"] != FORMAT:
            raise ValueError(
                f"{where}: is of a ledger of format {fields['ledger']!r}, but this "
                f"version reads format {FORMAT}; use the version that wrote the file"
            )
        digits = identity.RUN_DIGITS, _SALT_DIGITS, 64
        values = [fields.get(name) for name in _NAMES[1:]]
        fits = all(map(identity.is_hex, values, digits))
        if set(fields) != set(_NAMES) or not fits:
            raise ValueError(
                f"{where}: not the first line of a ledger (expected "
                f"{', '.join(_NAMES)}; got {', '.join(fields)})"
            )
        return cls(fields["run"], fields["salt"], fields["seed_sha256"])

    def fields(self) -> dict[str, Any]:
        """Returns the fields of the line."""
        return {"ledger": FORMAT, **dataclasses.asdict(self)}

    def commits_to(self, run_seed: int) -> bool:
        """Whether the ledger was begun with this run seed."""
        return _digest(self.salt, run_seed) == self.seed_sha256

    def check(self, where: str, of: RunIdentity) -> None:
        """Checks that the ledger belongs to a run.

        Args:
          where: the beginning of the messages, which names file and line.
          of: the run.

        Raises:
          ValueError: the ledger belongs to another run or another run seed.
        """
        if self.run != of.run:
            raise ValueError(
                f"{where}: is of run {self.run}, but this run is {of.run} (run_id in "
                "its folder): restore the ledger or run_id from a copy"
            )
        if not self.commits_to(of.run_seed):
            raise ValueError(
                f"{where}: the run was begun with another run seed, so its rounds "
                "would be repeated with other noise: restore run_seed from a copy, or "
                "start a new run"
            )


def _digest(salt: str, run_seed: int) -> str:
    seed = run_seed.to_bytes(_SEED_BYTES, "big")
    return hashlib.sha256(bytes.fromhex(salt) + seed).hexdigest()
