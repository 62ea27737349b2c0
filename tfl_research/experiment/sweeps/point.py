"""A point of a sweep: one run, and its place in the grid."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from tfl_research import registry
from tfl_research.errors import SettingError, UserError
from tfl_research.experiment.experiment import Experiment
from tfl_research.models import global_seed
from tfl_research.storage import run_record

# Settings that affect no result, so a point that has ended keeps its results if they
# change.
_MAY_CHANGE = frozenset(
    {
        "checkpoint_every",
        "export",
        "keep_checkpoints",
        "open_worker_port",
        "print_every",
        "progress_bar",
        "report",
        "tensorboard",
        "worker_cores",
        "worker_data",
        "worker_timeout",
        "workers",
    }
)


@dataclasses.dataclass(frozen=True)
class Point:
    """One run of a sweep.

    Attributes:
      name: the name of the point's folder, unique in the sweep.
      experiment: the experiment that runs.
      labels: the point's values in the grid, the first columns of results.csv.

    Raises:
      UserError: the name cannot be the name of a folder.

    Example:
      >>> base = tfl.Experiment("heart", training=tfl.Training(rounds=2, print_every=5))
      >>> points = [
      ...     tfl.Point(f"seed-{seed}", base.with_settings(seed=seed), {"seed": seed})
      ...     for seed in (1, 2)
      ... ]
      >>> points[0].name, points[0].labels
      ('seed-1', {'seed': 1})
      >>> points[0].settings()["seed"]
      1
    """

    name: str
    experiment: Experiment
    labels: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if (
            self.name in ("", ".", "..")
            or pathlib.PurePath(self.name).name != self.name
        ):
            raise UserError(
                f"a point's name is also the name of its folder, got {self.name!r}; "
                "leave slashes out"
            )

    @classmethod
    def changed(
        cls, name: str, base: Experiment, labels: Mapping[str, Any], **changes: Any
    ) -> Point:
        """Makes a point whose experiment is the base with some settings changed.

        Args:
          name, labels: see the class.
          base: the experiment that the points of a grid have in common.
          changes: see `Experiment.with_settings`.

        Raises:
          SettingError: a value is refused; the message names the point, since the user
            may not have given the value.
        """
        try:
            return cls(name, base.with_settings(**changes), labels)
        except SettingError as error:
            raise SettingError(refused(name, error)) from error

    def settings(self) -> dict[str, Any]:
        """Returns the settings that must be the same at each start of the sweep."""
        flat = run_record.plain_hparams(self.experiment.flat())
        kept = {k: v for k, v in flat.items() if k not in _MAY_CHANGE}
        return {"experiment": self.experiment.name, **kept}


@contextlib.contextmanager
def by_own_code(experiment: Experiment) -> Iterator[None]:
    """Declares that no user's code runs inside the block, if that is so.

    It is so if the experiment only holds numbers, names and the toolkit's own settings,
    and no name can mean a user's own part.
    """
    # This imports TensorFlow, which must not happen before the sweep's process forks.
    from tfl_research.processes import known_work

    plain = not registry.has_further_items()
    if plain and known_work.recipe_key(experiment) is not None:
        with global_seed.own_code_alone():
            yield
        return
    global_seed.settle()
    yield


def refused(name: str, error: UserError) -> str:
    """Returns the error line of a point that is refused."""
    return f"point {name} of the sweep is refused: {error.for_command_line}"
