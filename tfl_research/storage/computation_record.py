"""computation.json: a run's fingerprint and attempts, sealed by the run seed."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

from tfl_research.errors import UserError
from tfl_research.storage import run_seed
from tfl_research.storage.attempts import Attempt, Attempts
from tfl_research.storage.files import atomic, json_file
from tfl_research.storage.fingerprint import Fingerprint

FORMAT = 2
_ELSE = "or choose another --output_dir"
_RECHARGE = (
    "give --recharge (the rounds after the last checkpoint are repeated with new noise "
    "and charged again)"
)


@dataclasses.dataclass(frozen=True)
class ComputationRecord:
    """computation.json of one run.

    The file is sealed: it ends with an HMAC by a key of the run seed. So a file that
    was edited, or that belongs to another seed, is refused.

    Attributes:
      path: the file, which only its owner can read, since it has digests of private
        data.
      seed: the seed of the run.
      private: whether the run has a privacy plan, so that its noise must never be used
        for two different things.
    """

    path: pathlib.Path
    seed: int
    private: bool

    def accepted(
        self, now: Fingerprint, *, has_rounds: bool, restarts: int = 0
    ) -> Attempts:
        """Returns the attempts of a run that continues unchanged, or begins.

        If the run is new, this writes the file durably.

        Args:
          now: fingerprint of this start.
          has_rounds: whether the run has begun its rounds already.
          restarts: number of restarts in the run's ledger. A file with another number
            is not the newest file, so the ledger's rounds do not belong to the last
            attempt.

        Raises:
          UserError: the fingerprint differs, or the file is damaged or lost; the
            message names the differences.
        """
        if not self.path.exists():
            if has_rounds:
                raise self._unknown("is missing")
            return self._write(Attempts(self._first(now)), now, restarts)
        recorded, attempts, before = self._read()
        changed = recorded.differences(now) + _differing_restarts(before, restarts)
        if changed:
            raise self._refused(changed, fixed=bool(recorded.fixed_differences(now)))
        return attempts

    def changes(
        self, now: Fingerprint, *, has_rounds: bool, restarts: int = 0
    ) -> list[str]:
        """Says why a private run cannot go on with the same noise.

        Args:
          now: fingerprint of this start.
          has_rounds: see `accepted`.
          restarts: see `accepted`.

        Returns:
          A phrase for each change; empty if the run can go on unchanged.

        Raises:
          UserError: there is a difference for which `--recharge` does not help.
        """
        if not self.path.exists():
            return [f"{self.path.name} is missing"] if has_rounds else []
        try:
            recorded, _, before = self._read()
        except _Unsealed as error:
            return [f"{self.path.name} {error.why}"]
        fixed = recorded.fixed_differences(now)
        if fixed:
            raise self._refused(fixed, fixed=True)
        return recorded.differences(now) + _differing_restarts(before, restarts)

    def attempts(self) -> Attempts:
        """Returns the attempts of a run for which `changes` found no change."""
        return self._read()[1] if self.path.exists() else Attempts()

    def restarts(self) -> int:
        """Returns the number of restarts in the ledger when the last attempt began.

        Raises:
          UserError: the file is damaged.
        """
        return self._read()[2] if self.path.exists() else 0

    def begin_attempt(
        self, after: int, base: str, now: Fingerprint, *, restarts: int = 0
    ) -> Attempts:
        """Records a new attempt, durably, before its noise is drawn.

        Args:
          after: number of rounds in the checkpoint, 0 without a checkpoint.
          base: name of the attempt that wrote the checkpoint; "" without a checkpoint.
          now: fingerprint of this start.
          restarts: number of restarts in the run's ledger, with the new restart.
        """
        try:
            _, attempts, _ = self._read()
        except (_Unsealed, FileNotFoundError):
            # Earlier attempts are unknown; a random number makes the new key unique.
            attempts = Attempts()
        return self._write(attempts.begun(after, now.digest, base), now, restarts)

    def _first(self, now: Fingerprint) -> tuple[Attempt, ...]:
        return (Attempt(0, now.digest),) if self.private else ()

    def _write(self, attempts: Attempts, now: Fingerprint, restarts: int) -> Attempts:
        record = {
            "format": FORMAT,
            "fingerprint": now.to_json(),
            "attempts": attempts.to_json(),
            "restarts": restarts,
        }
        record["seal"] = self._seal(record)
        text = json.dumps(record, indent=2, sort_keys=True) + "\n"
        atomic.write(self.path, text.encode(), mode=0o600)
        return attempts

    def _seal(self, record: dict[str, Any]) -> str:
        content = {name: value for name, value in record.items() if name != "seal"}
        text = json.dumps(content, sort_keys=True)
        return run_seed.derived(self.seed, "computation.json", text.encode()).hex()

    def _read(self) -> tuple[Fingerprint, Attempts, int]:
        """Reads the fingerprint, the attempts, and the number of ledger restarts."""
        try:
            record = json_file.read(self.path)
            version = record["format"]
        except FileNotFoundError:
            raise
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise self._unsealed(f"is damaged ({type(error).__name__})") from error
        if version != FORMAT:
            raise UserError(
                f"{self.path} has format {version}, expected {FORMAT}; resume the run "
                f"with the version that began it, {_ELSE}"
            )
        if record.get("seal") != self._seal(record):
            raise self._unsealed("was edited, or run_seed was: its seal does not match")
        return (
            Fingerprint.from_json(record["fingerprint"]),
            Attempts.from_json(record["attempts"]),
            int(record.get("restarts", 0)),
        )

    def _unsealed(self, why: str) -> _Unsealed:
        return _Unsealed(why, self._unknown(why).for_command_line)

    def _unknown(self, why: str) -> UserError:
        fix = f"restore it, {_RECHARGE}, " if self.private else "restore it "
        return UserError(
            f"{self.path} {why}, so nobody knows what the run began with; {fix}{_ELSE}"
        )

    def _refused(self, changed: list[str], *, fixed: bool) -> UserError:
        differs = "differ" if len(changed) > 1 else "differs"
        what = ", ".join(changed)
        if not self.private:
            return UserError(
                f"{self.path.parent} was begun with another process: {what} "
                f"{differs}; build the process with the same model, settings and code "
                f"as at the first start, {_ELSE}"
            )
        fix = "restore it" if fixed else f"restore it, {_RECHARGE},"
        return UserError(
            f"{self.path.parent} was begun with another computation: {what} {differs}; "
            "using its noise again for a new computation would release results that "
            f"are not charged; {fix} {_ELSE}"
        )


def _differing_restarts(before: int, now: int) -> list[str]:
    if before == now:
        return []
    return [
        f"the number of restarts ({before} in computation.json, {now} in ledger.jsonl)"
    ]


class _Unsealed(UserError):
    """The file is not a record of this run."""

    def __init__(self, why: str, message: str):
        super().__init__(message)
        self.why = why
