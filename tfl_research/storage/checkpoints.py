"""Checkpoints in files, which are written atomically and verified when read."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import hmac
import json
import pathlib
import re
import struct
import warnings
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Optional, Union

from tfl_research.errors import UserError
from tfl_research.storage import leaves
from tfl_research.storage.attempts import Attempts
from tfl_research.storage.files import atomic, file_kinds, json_file

_MAGIC = b"tflckpt2"
# Files of this format have no seal. They can be read, but no run continues from them.
_EARLIER_MAGIC = b"tflckpt1"
_DIGEST_BYTES = hashlib.sha256().digest_size
_NAME = re.compile(r"round-(\d{8})\.ckpt")
# The version of a run before its first round.
INITIAL_STATE = "round-00000000.ckpt"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The state from which a resumed run equals an uninterrupted run.

    Attributes:
      round_number: number of completed rounds; also the sampler's position, since
        cohorts are pure functions of the round.
      state: the process state after that round, a nest.
      best: the best model's weights so far, a nest, or None.
      progress: the rest of the loop's state (best metric, early stopping, length of
        the ledger, metrics of the untrained model), JSON values.
    """

    round_number: int
    state: Any
    best: Any
    progress: Mapping[str, Any]


class CheckpointStore:
    """Versions of a run's checkpoint in a folder that only its owner can read.

    A version is a file: magic, length of the header, header (JSON), the leaves'
    bytes, SHA-256 of all these bytes, and a seal: their HMAC-SHA256 by a key of the run
    seed. The file is written under another name, synced and renamed, so nobody sees it
    half-written. A file that is damaged or edited later fails its SHA-256 or its seal:
    it is skipped with a warning, and the previous version is used. The later rounds are
    repeated from the same state with the same noise, so that their results are the
    same. The same holds if somebody deletes newer versions, or puts older versions
    back. The SHA-256 is for readers without the seed.

    Args:
      folder: the run's `checkpoints` folder, which is created.
      keep: number of newest versions to keep, at least 1.
      key: the secret key of the seal; without a key only the SHA-256 is checked.
      attempts: the attempts of the run. A version has the name of the attempt that
        wrote the version, and only versions from which the last attempt may go on are
        loaded.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        *,
        keep: int = 3,
        key: bytes = b"",
        attempts: Optional[Attempts] = None,
    ):
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}")
        self.folder = folder
        self._keep = keep
        self._key = key
        self._attempts = attempts or Attempts()
        # A state that is not released depends on the clients' data exactly.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in folder.glob(f"*{atomic.TEMPORARY_SUFFIX}"):
            leftover.unlink()

    def path(self, round_number: int) -> pathlib.Path:
        """Returns the path of a round's version, which need not exist."""
        return self.folder / f"round-{round_number:08d}.ckpt"

    def rounds(self) -> list[int]:
        """Returns the rounds with a version, newest first; versions may be damaged."""
        matches = (_NAME.fullmatch(path.name) for path in self.folder.iterdir())
        return sorted((int(match[1]) for match in matches if match), reverse=True)

    def save(self, checkpoint: Checkpoint) -> pathlib.Path:
        """Writes a version; drops the oldest versions and versions of later rounds.

        Later rounds have versions only if these are damaged.

        Raises:
          ValueError: a leaf of the state cannot be stored.
        """
        state, state_bytes = leaves.encode(checkpoint.state)
        best, best_bytes = leaves.encode(checkpoint.best)
        header = json.dumps(
            {
                "round_number": checkpoint.round_number,
                "attempt": self._attempts.name,
                "state": state,
                "best": None if checkpoint.best is None else best,
                "progress": dict(checkpoint.progress),
            }
        ).encode()
        body = b"".join(
            [_MAGIC, struct.pack("<Q", len(header)), header, *state_bytes, *best_bytes]
        )
        path = self.path(checkpoint.round_number)
        content = body + hashlib.sha256(body).digest() + _seal(self._key, body)
        atomic.write(path, content, mode=0o600)
        rounds = [r for r in self.rounds() if r <= checkpoint.round_number]
        for round_number in self.rounds():
            if round_number not in rounds[: self._keep]:
                self.path(round_number).unlink()
        return path

    def load_latest(
        self,
        template: Any,
        best_template: Any = None,
        *,
        any_shape: Collection[str] = (),
    ) -> Optional[Checkpoint]:
        """Loads the newest undamaged version of the last attempt; None if none exists.

        Args:
          template: a state with the structure, shapes and dtypes to expect, such as
            `engine.initialize()`.
          best_template: weights with the structure, shapes and dtypes to expect.
          any_shape: paths of the state's leaves with a shape that may differ from the
            template's, because the process' type leaves the shape open.

        Raises:
          UserError: the stored state does not fit the template; a version is of an
            earlier format; or no version is left from which a later attempt than the
            first can go on.
        """
        for round_number, header, payload in self._undamaged():
            path = self.path(round_number)
            if not self._attempts.accepts(round_number, header["attempt"]):
                warnings.warn(
                    f"checkpoint {path} is from rounds that were repeated with new "
                    "noise, and is skipped",
                    stacklevel=2,
                )
                continue
            try:
                state, best_bytes = leaves.decode(
                    header["state"], payload, template, any_shape
                )
                best = None
                if header["best"] is not None:
                    best, _ = leaves.decode(header["best"], best_bytes, best_template)
            except ValueError as error:
                raise UserError(
                    f"checkpoint {path} does not fit this run's process: {error}; "
                    "choose another --output_dir"
                ) from error
            return Checkpoint(round_number, state, best, header["progress"])
        if self._attempts.after > 0:
            raise UserError(
                f"{self.folder} has lost the checkpoint of round "
                f"{self._attempts.after}, from which rounds are repeated with new "
                "noise; restore it, give --recharge again, or choose another "
                "--output_dir"
            )
        return None

    def newest(self) -> tuple[int, str]:
        """Returns round and attempt of the newest undamaged version, or (0, "").

        Raises:
          UserError: a version has an earlier format.
        """
        for round_number, header, _ in self._undamaged():
            return round_number, header["attempt"]
        return 0, ""

    def fit(self, attempts: Attempts) -> bool:
        """Whether the last attempt can go on: from a version, or from the beginning.

        Args:
          attempts: the attempts of the run.
        """
        return attempts.after == 0 or any(
            attempts.accepts(round_number, header["attempt"])
            for round_number, header, _ in self._undamaged()
        )

    def _undamaged(self) -> Iterator[tuple[int, dict[str, Any], memoryview]]:
        """Yields round, header and payload of each undamaged version, newest first."""
        for round_number in self.rounds():
            path = self.path(round_number)
            try:
                header, payload = _read(path, self._key)
                header.setdefault("attempt", "")
                if header["round_number"] != round_number:
                    raise _Damaged(f"the file is of round {header['round_number']}")
            except _Damaged as error:
                warnings.warn(
                    f"checkpoint {path} is damaged ({error}) and is skipped; the run "
                    "continues from the checkpoint before it",
                    stacklevel=3,
                )
                continue
            yield round_number, header, payload


def stored_progress(folder: pathlib.Path) -> list[tuple[pathlib.Path, dict[str, Any]]]:
    """Reads file and `Checkpoint.progress` of each undamaged version, oldest first.

    This needs no template and changes nothing. A missing folder has no versions.
    """
    progress_by_file = []
    for path in sorted(folder.glob("round-*.ckpt")):
        with contextlib.suppress(_Damaged):
            progress_by_file.append((path, _read(path)[0]["progress"]))
    return progress_by_file


class _Damaged(Exception):
    pass


def _seal(key: bytes, body: Union[bytes, memoryview]) -> bytes:
    return hmac.new(key, body, hashlib.sha256).digest()


def _read(path: pathlib.Path, key: bytes = b"") -> tuple[dict[str, Any], memoryview]:
    """Reads and verifies a version's header and payload; without a key by SHA-256.

    Raises:
      _Damaged: the file is not a version as it was written.
      UserError: the version has an earlier format, and there is a key.
    """
    try:
        wrong = file_kinds.problem(path)
        if wrong is not None:
            raise _Damaged(wrong)
        content = path.read_bytes()
    except OSError as error:
        raise _Damaged(error.strerror or str(error)) from error
    start = len(_MAGIC) + 8
    sealed = not content.startswith(_EARLIER_MAGIC)
    if not sealed and key:
        raise UserError(
            f"checkpoint {path} is of an earlier version, which did not seal "
            "checkpoints; finish the run with the version that began it, or choose "
            "another --output_dir"
        )
    end = len(content) - _DIGEST_BYTES * (2 if sealed else 1)
    if end < start or not content.startswith((_MAGIC, _EARLIER_MAGIC)):
        raise _Damaged("the file is not a checkpoint")
    body = memoryview(content)[:end]
    if hashlib.sha256(body).digest() != content[end : end + _DIGEST_BYTES]:
        raise _Damaged("its SHA-256 does not match")
    if key and not hmac.compare_digest(
        _seal(key, body), content[end + _DIGEST_BYTES :]
    ):
        raise _Damaged("its seal does not match the run seed")
    (length,) = struct.unpack("<Q", body[len(_MAGIC) : start])
    try:
        header = json_file.parsed(bytes(body[start : start + length]))
    except ValueError as error:
        raise _Damaged(f"its header is not JSON: {error}") from error
    return header, body[start + length :]
