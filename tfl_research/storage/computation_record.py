"""computation.json: digests of a run's computation, compared at every start."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Optional

from tfl_research.errors import UserError
from tfl_research.storage import atomic

FORMAT = 1

# Parts of a process by the names of `runtime.computation_digests`, in words.
PARTS = {
    "initial_state": "initial state",
    "client_computation": "client computation",
    "aggregation": "aggregation",
    "server_update": "server update",
    "round": "round",
}


def check(path: pathlib.Path, digests: Mapping[str, str], *, has_rounds: bool) -> None:
    """Compares the digests with the file, or writes a missing file durably.

    Args:
      path: computation.json.
      digests: a digest by part of the process.
      has_rounds: whether the run has begun its rounds already.

    Raises:
      UserError: a part differs, or the file is damaged or lost.
    """
    recorded = _read(path)
    if recorded is None:
        if has_rounds:
            raise UserError(
                f"{path} is missing, so the process cannot be compared with the one "
                "that the run began with; restore the file or choose another "
                "--output_dir"
            )
        record = {"format": FORMAT, "digests": dict(digests)}
        text = json.dumps(record, indent=2, sort_keys=True) + "\n"
        # The digests depend on the secret seed of the noise.
        atomic.write(path, text.encode(), mode=0o600)
        return
    names = dict.fromkeys([*PARTS, *digests, *recorded])
    changed = [n for n in names if recorded.get(n) != digests.get(n)]
    if changed:
        parts = ", ".join(PARTS.get(name, name) for name in changed)
        raise UserError(
            f"{path.parent} was begun with another process: the {parts} "
            f"{'differs' if len(changed) == 1 else 'differ'}; build the process with "
            "the same model, settings and code as at the first start, or choose "
            "another --output_dir"
        )


def _read(path: pathlib.Path) -> Optional[dict[str, str]]:
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        version = record["format"]
        digests = {str(name): str(digest) for name, digest in record["digests"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}); restore it or choose another "
            "--output_dir"
        ) from error
    if version != FORMAT:
        raise UserError(
            f"{path} has format {version}, expected {FORMAT}; resume the run with the "
            "version that began it, or choose another --output_dir"
        )
    return digests
