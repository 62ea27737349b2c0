"""States what a private run sends in plain text to TFF's workers on other machines."""

from __future__ import annotations

from tfl_research.experiment.configs import Runtime
from tfl_research.storage.files import user_paths


def outside_lines(runtime: Runtime) -> list[str]:
    """Writes sentences about what --runtime=remote leaves outside the guarantee."""
    if runtime.runtime != "remote":
        return []
    lines = [
        "Whoever sees the workers of --runtime=remote or their network: workers get "
        "clients' examples, single updates, and the seeds from which clients draw "
        "noise, in plain text; if TFF's own runtime executes the process, also the "
        "seed of the server's noise."
    ]
    if runtime.worker_data is not None:
        folder = user_paths.expanded(runtime.worker_data).absolute()
        lines.append(
            f"Whoever can enter {folder} (--worker_data): it holds clients' examples "
            "without noise, also after the run."
        )
    return lines
