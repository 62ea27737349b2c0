"""Opens a run's folder: its lock, its paths, and the comparison of starts."""

from __future__ import annotations

import os
import pathlib
import secrets
import warnings
from collections.abc import Collection, Mapping
from typing import Any, Optional, Union

from tfl_research.errors import UserError
from tfl_research.storage import (
    folder_check,
    provenance,
    run_record,
    run_seed as run_seeds,
)
from tfl_research.storage.attempts import Attempts
from tfl_research.storage.checkpoints import INITIAL_STATE
from tfl_research.storage.computation_record import ComputationRecord
from tfl_research.storage.files import atomic, folder_lock, user_paths
from tfl_research.storage.fingerprint import Fingerprint
from tfl_research.storage.metrics import kept_rows


class RunFolder:
    """The opened, locked folder of a run; made by `RunFolder.open`.

    This class needs no TensorFlow, so an unusable folder is refused at once.

    Attributes:
      path: the folder.
      experiment: name of the experiment.
      hparams: the hyperparameters as recorded.
      plan: the privacy plan as recorded, or None.
      run_seed: 128 secret bits from which the run's noise is drawn, in a file that only
        its owner can read. Never print or log the run seed.
      run_seed_given: whether the user chose the run seed. Everybody who knows the seed
        can subtract the noise: the privacy guarantee holds only against others.
      resumed: whether the folder already had this experiment.
      attempts: the attempts of a private run, once `check_computation` has accepted the
        start.
      hparams_path, metrics_path, metrics_copy_path, measurements_path, columns_path,
        clients_path, personal_clients_path, summary_path, ledger_path, privacy_path,
        computation_path, checkpoints_path, logdir_path, export_path, report_path: paths
        of files and folders in the run's folder.
    """

    def __init__(
        self,
        path: pathlib.Path,
        record: Mapping[str, Any],
        run_seed: int,
        resumed: bool,
        lock: int,
        to_write: Optional[Mapping[str, Any]] = None,
    ):
        self._to_write = to_write
        self.path = path
        self.experiment: str = record["experiment"]
        self.hparams: Mapping[str, Any] = record["hparams"]
        self.plan: Optional[Mapping[str, Any]] = record["privacy_plan"]
        self.run_seed = run_seed
        self.run_seed_given: bool = record["run_seed"] == "given"
        self.resumed = resumed
        self.attempts = Attempts()
        self._lock: Optional[int] = lock
        self.hparams_path = path / "hparams.json"
        self.metrics_path = path / "metrics.csv"
        self.metrics_copy_path = path / kept_rows.COPY
        self.measurements_path = path / "measurements.jsonl"
        self.columns_path = path / "columns.json"
        self.clients_path = path / "clients.csv"
        self.personal_clients_path = path / "personal_clients.csv"
        self.summary_path = path / "summary.json"
        self.ledger_path = path / "ledger.jsonl"
        self.privacy_path = path / "privacy.txt"
        self.computation_path = path / "computation.json"
        self.checkpoints_path = path / "checkpoints"
        self.client_states_path = path / "client_states.sqlite"
        self.logdir_path = path / "logdir"
        self.export_path = path / "export"
        self.report_path = path / "report.html"

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @classmethod
    def open(
        cls,
        path: Union[str, os.PathLike[str]],
        hparams: Mapping[str, Any],
        *,
        experiment: str = "",
        resume: bool = True,
        run_seed: Optional[int] = None,
        may_change: Collection[str] = run_record.MAY_CHANGE,
        plan: Optional[Mapping[str, Any]] = None,
        changed_from: Optional[Mapping[str, Any]] = None,
    ) -> RunFolder:
        """Creates the folder of a new run, or opens a folder to resume its run.

        Args:
          path: path of the folder, which is made if it is missing.
          hparams: every flag and hyperparameter, and values resolved from them
            (a calibrated noise multiplier). A `run_seed` among them is not recorded.
          experiment: name of the experiment (its binary).
          resume: whether to resume a run of this experiment in the folder.
          run_seed: a chosen run seed in [0, 2^128) for reproducible noise; by
            default a new run draws a secret seed.
          may_change: names of the hyperparameters that a resumed run may change.
          plan: the record of the run's privacy plan, JSON values by name, without
            values that may change between two starts; None for a run without privacy.
          changed_from: the defaults of the settings that have another value, by name,
            for readers; None if unknown. Starts may have different `changed_from`.

        Raises:
          UserError: the folder has another experiment, this experiment with another
            privacy plan, this experiment although `resume` is false, a run of an
            earlier format, or foreign files; the folder cannot be written or is in use
            by another process; hparams.json or run_seed is damaged; the run seed is out
            of range or differs from the run's seed.
        """
        folder = user_paths.expanded(path)
        if run_seed is not None and not 0 <= run_seed < 2**run_seeds.SEED_BITS:
            raise UserError(
                f"run_seed must be at least 0 and below 2^{run_seeds.SEED_BITS}; the "
                "value is a secret and is not shown"
            )
        requested = {
            "experiment": experiment,
            "format": run_record.FORMAT,
            "hparams": run_record.plain_hparams(hparams),
            "privacy_plan": run_record.plain("plan", plan),
        }
        if changed_from is not None:
            requested["changed_from"] = run_record.plain("changed_from", changed_from)
        try:
            # No file is created before this check: the folder may be somebody else's.
            with warnings.catch_warnings():
                # The record is read again when no other process uses the folder.
                warnings.simplefilter("ignore")
                folder_check.read_record(folder)
            folder.mkdir(parents=True, exist_ok=True)
            lock = folder_lock.locked(folder)
        except OSError as error:
            raise folder_check.unwritable(folder, error) from error
        try:
            return cls._open_locked(
                folder, requested, resume, run_seed, may_change, lock
            )
        except BaseException as error:
            os.close(lock)
            if isinstance(error, OSError):
                raise folder_check.unwritable(folder, error) from error
            raise

    @classmethod
    def _open_locked(
        cls,
        folder: pathlib.Path,
        requested: Mapping[str, Any],
        resume: bool,
        run_seed: Optional[int],
        may_change: Collection[str],
        lock: int,
    ) -> RunFolder:
        recorded = folder_check.read_record(folder)
        code = {
            "versions": provenance.package_versions(),
            "git_revision": provenance.git_revision(),
        }
        record: dict[str, Any] = {
            **requested,
            "run_seed": "secret" if run_seed is None else "given",
            "begun_with": code,
            **code,
        }
        if recorded is None:
            # The record is written last: a folder without a record has no run.
            seed = run_seed
            if seed is None:
                seed = secrets.randbits(run_seeds.SEED_BITS)
            run_seeds.write(folder / "run_seed", seed)
            atomic.write(folder / "hparams.json", run_record.encode(record))
            return cls(folder, record, seed, False, lock)
        run_record.check_format(folder, recorded)
        run_record.check_same_experiment(folder, recorded, record, may_change)
        if not resume:
            raise UserError(
                f"{folder} already holds this experiment; continue it with --resume, "
                "or choose another --output_dir"
            )
        seed = run_seeds.read(folder / "run_seed")
        if run_seed is not None and run_seed != seed:
            raise UserError(
                f"{folder} was begun with another run seed; leave --run_seed out to "
                "resume it, or choose another --output_dir"
            )
        record["run_seed"] = recorded["run_seed"]
        record["begun_with"] = recorded["begun_with"]
        if requested["privacy_plan"] is None:
            # Other code is refused in a private run, see `check_computation`.
            _warn_of_other_code(folder, recorded["begun_with"], code)
        changed = record if record != recorded else None
        return cls(folder, record, seed, True, lock, changed)

    def accept(self) -> None:
        """Writes the changed record of a run that is resumed.

        Call this after all checks of the start, since a refused start must not change
        the folder. `open` writes the record of a new run.
        """
        if self._to_write is not None:
            atomic.write(self.hparams_path, run_record.encode(self._to_write))
            self._to_write = None

    @property
    def computation(self) -> ComputationRecord:
        """The record of the run's computation."""
        return ComputationRecord(
            self.computation_path, self.run_seed, self.plan is not None
        )

    @property
    def checkpoint_key(self) -> bytes:
        """The secret key that seals the run's checkpoints."""
        return run_seeds.derived(self.run_seed, "checkpoints")

    @property
    def choice_key(self) -> bytes:
        """The secret key that seals how a private run executes its rounds."""
        if self.plan is None:
            return b""
        return run_seeds.derived(self.run_seed, "runtime.json")

    def has_results(self) -> bool:
        """Whether the run's files show a completed round."""
        checkpoints = {path.name for path in self.checkpoints_path.glob("*.ckpt")}
        if checkpoints - {INITIAL_STATE}:
            return True
        if not self.metrics_path.exists():
            return False
        with self.metrics_path.open("rb") as file:
            return len(file.readlines(1 << 16)) > 1

    def check_computation(
        self, fingerprint: Fingerprint, *, charged_rounds: int = 0, restarts: int = 0
    ) -> None:
        """Records the run's computation at the first start, and compares it later.

        Call this before the first round of every start.

        Args:
          fingerprint: the fingerprint of this start.
          charged_rounds: number of rounds in the run's ledger.
          restarts: number of restarts in the run's ledger.

        Raises:
          UserError: the fingerprint differs from the first start, or computation.json
            is damaged or lost.
        """
        self.attempts = self.computation.accepted(
            fingerprint,
            has_rounds=self.has_rounds(charged_rounds),
            restarts=restarts,
        )

    def has_rounds(self, charged_rounds: int = 0) -> bool:
        """Whether noise of the run may have been drawn already.

        Args:
          charged_rounds: rounds in the run's ledger.
        """
        return (
            charged_rounds > 0
            or self.metrics_path.exists()
            or any(self.checkpoints_path.glob("*.ckpt"))
        )

    def close(self) -> None:
        """Lets other processes use the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _warn_of_other_code(
    folder: pathlib.Path, recorded: Mapping[str, Any], current: Mapping[str, Any]
) -> None:
    before = {**recorded["versions"], "git revision": recorded.get("git_revision")}
    after = {**current["versions"], "git revision": current["git_revision"]}
    changed = [
        f"{name} {before.get(name)} → {after[name]}"
        for name in after
        if before.get(name) != after[name]
    ]
    if changed:
        warnings.warn(
            f"{folder} was begun with other code ({', '.join(changed)}): results may "
            "differ from those of an uninterrupted run",
            stacklevel=4,
        )
