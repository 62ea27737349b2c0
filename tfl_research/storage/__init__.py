"""A run's files on disk: its folder, checkpoints, metrics and clients' states.

`files` writes, locks and reads single files. `metrics` has the numbers of each round.
`program` decides when files are written. `privacy.ledger` has the ledger.

This list has the files of a run's folder, with the versions of their formats. Newer
versions are refused. Older versions are refused where the list says so.

- `hparams.json` (format 3): a JSON object with `format`, `experiment`, `hparams`,
  `privacy_plan` (JSON values, or null for no privacy), `run_seed` ("secret" or
  "given"), `versions` and `git_revision` of the last start, and `begun_with`:
  `versions` and `git_revision` of the first start. Format 1 has no `format` and no
  `privacy_plan`; format 2 has no settings of what a private run releases. Runs of both
  can be read (report, ledger, checkpoints), but not resumed.
- `run_seed`: 32 lower-case hexadecimal digits and a line end, nothing else. Only the
  owner can read the file.
- `computation.json` (format 2): a JSON object with `format`, `fingerprint` (see
  `fingerprint.Fingerprint`), `attempts` (see `attempts.Attempt`) and `seal`, an HMAC of
  the rest by a key of the run seed. Only the owner can read the file. Format 1 had
  digests of the process alone, which depended on the run seed; such runs are refused.
- `metrics.csv`: a header and one row for each round. The header begins with
  `metrics_log.COLUMNS`, further columns follow, and `round_seconds` is the last column.
  Columns that the run withholds are absent. Empty cells have no value.
- `metrics_copy.jsonl`: the rows of metrics.csv again, see `kept_rows`.
- `measurements.jsonl` (format 1): vectors and texts of each round, see `measurements`;
  absent if no round measures a vector or a text.
- `columns.json` (format 1): a JSON object with `format` and `columns`, for each column
  of metrics.csv its `class`, `depends_on` and `what`, see `outputs.Output`.
- `checkpoints/round-NNNNNNNN.ckpt` (magic `tflckpt2`): see `CheckpointStore`. Round 0
  is an initial state that no later start could make again. Files
  with the magic `tflckpt1` have no seal; they can be read, but not resumed.
- `client_states.sqlite`: one table, see `client_states.ClientStates`.
- `clients.csv`, `personal_clients.csv`, `summary.json`, `report.html`, `export/`:
  results, which no later start reads.
- `ledger.jsonl`, `privacy.txt`: see `privacy.ledger`.
- `mlflow.json`, `logdir/`: written by `program.MLflow` and `program.TensorBoard`.
"""

from typing import TYPE_CHECKING

from tfl_research import _lazy

if TYPE_CHECKING:
    from tfl_research.storage.checkpoints import (
        Checkpoint as Checkpoint,
        CheckpointStore as CheckpointStore,
    )
    from tfl_research.storage.client_states import ClientStates as ClientStates
    from tfl_research.storage.metrics.metrics_log import MetricsLog as MetricsLog
    from tfl_research.storage.run_folder import RunFolder as RunFolder
else:
    __getattr__, __dir__, __all__ = _lazy.attach(__name__, __file__)
