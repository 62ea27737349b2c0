"""Checkpoints: a file each, written atomically and verified when read."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import re
import struct
import warnings
from collections.abc import Mapping
from typing import Any, Optional

from tfl_research.errors import UserError
from tfl_research.storage import atomic, leaves

_MAGIC = b"tflckpt1"
_DIGEST_BYTES = hashlib.sha256().digest_size
_NAME = re.compile(r"round-(\d{8})\.ckpt")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The state from which a resumed run equals an uninterrupted run.

    Attributes:
      round_number: rounds completed; also the sampler's position, since cohorts are
        pure functions of the round.
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
    bytes, SHA-256 of all these bytes. The file is written under another name, synced
    and renamed, so nobody sees it half-written. A file that is damaged later fails its
    SHA-256: it is skipped with a warning, and the previous version is used.

    Args:
      folder: the run's `checkpoints` folder; created.
      keep: number of newest versions to keep, at least 1.
    """

    def __init__(self, folder: pathlib.Path, *, keep: int = 3):
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}")
        self.folder = folder
        self._keep = keep
        # The state can hold the seed of the noise.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for leftover in folder.glob(f"*{atomic.TEMPORARY_SUFFIX}"):
            leftover.unlink()

    def path(self, round_number: int) -> pathlib.Path:
        """The path of a round's version, whether or not it exists."""
        return self.folder / f"round-{round_number:08d}.ckpt"

    def rounds(self) -> list[int]:
        """Rounds that have a version, newest first; versions may be damaged."""
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
                "state": state,
                "best": None if checkpoint.best is None else best,
                "progress": dict(checkpoint.progress),
            }
        ).encode()
        body = b"".join(
            [_MAGIC, struct.pack("<Q", len(header)), header, *state_bytes, *best_bytes]
        )
        path = self.path(checkpoint.round_number)
        atomic.write(path, body + hashlib.sha256(body).digest(), mode=0o600)
        rounds = [r for r in self.rounds() if r <= checkpoint.round_number]
        for round_number in self.rounds():
            if round_number not in rounds[: self._keep]:
                self.path(round_number).unlink()
        return path

    def load_latest(
        self, template: Any, best_template: Any = None
    ) -> Optional[Checkpoint]:
        """The newest undamaged version; None without one.

        Args:
          template: a state with the structure, shapes and dtypes to expect, such as
            `engine.initialize()`.
          best_template: weights with the structure, shapes and dtypes to expect.

        Raises:
          UserError: the stored state does not fit the template.
        """
        for round_number in self.rounds():
            path = self.path(round_number)
            try:
                header, payload = _read(path)
            except _Damaged as error:
                warnings.warn(
                    f"checkpoint {path} is damaged ({error}) and is skipped; the run "
                    "goes on from the one before it",
                    stacklevel=2,
                )
                continue
            try:
                state, best_bytes = leaves.decode(header["state"], payload, template)
                best = None
                if header["best"] is not None:
                    best, _ = leaves.decode(header["best"], best_bytes, best_template)
            except ValueError as error:
                raise UserError(
                    f"checkpoint {path} does not fit this run's process: {error}; "
                    "choose another --output_dir"
                ) from error
            return Checkpoint(round_number, state, best, header["progress"])
        return None


def stored_progress(folder: pathlib.Path) -> list[tuple[pathlib.Path, dict[str, Any]]]:
    """The file and `Checkpoint.progress` of each undamaged version, oldest first.

    Needs no template, and changes nothing; a missing folder has no versions.
    """
    progress_by_file = []
    for path in sorted(folder.glob("round-*.ckpt")):
        with contextlib.suppress(_Damaged):
            progress_by_file.append((path, _read(path)[0]["progress"]))
    return progress_by_file


class _Damaged(Exception):
    pass


def _read(path: pathlib.Path) -> tuple[dict[str, Any], memoryview]:
    """Header and payload of a version, verified."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _Damaged(error.strerror or str(error)) from error
    start = len(_MAGIC) + 8
    if len(content) < start + _DIGEST_BYTES or not content.startswith(_MAGIC):
        raise _Damaged("it is not a checkpoint")
    body = memoryview(content)[:-_DIGEST_BYTES]
    if hashlib.sha256(body).digest() != content[-_DIGEST_BYTES:]:
        raise _Damaged("its SHA-256 does not match")
    (length,) = struct.unpack("<Q", body[len(_MAGIC) : start])
    return json.loads(bytes(body[start : start + length])), body[start + length :]
