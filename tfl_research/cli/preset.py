"""The preset of a binary of `experiments/`: name, settings with flags, defaults."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Optional, TypeVar, Union

from tfl_research import settings
from tfl_research.errors import SettingError
from tfl_research.experiment.configs import (
    Batches,
    Cohorts,
    Runtime,
    SecureSums,
    TaskChoice,
    Training,
    Weighting,
)
from tfl_research.experiment.experiment import Experiment
from tfl_research.models.optimizers import ClientOptimizer, ServerOptimizer
from tfl_research.registry import SettingsRegistry
from tfl_research.settings import Settings, declared
from tfl_research.storage.files import user_paths

# A group of settings, or a choice among registered classes with their parameters.
Group = Union[type[Settings], SettingsRegistry[Any]]
Chosen = TypeVar("Chosen", bound=Settings)


@dataclasses.dataclass(frozen=True)
class Output(Settings):
    """Where a run's results go, and which modules are imported before it."""

    TITLE: ClassVar[str] = "Output"

    output_dir: Optional[str] = settings.text(
        None,
        "Folder of the run; must be given. A folder that already holds this run is "
        "resumed.",
    )
    resume: bool = settings.switch(
        True,
        "Continue the run that the folder holds. Without this flag such a folder is "
        "refused.",
    )
    recharge: bool = settings.switch(
        False,
        "Continue a private run although its model, data, packages or source files "
        "have changed. The rounds after the last checkpoint get new noise and are "
        "charged again.",
    )
    plugin: tuple[str, ...] = settings.repeated(
        "Module that registers algorithms, mechanisms, aggregators, tasks or events of "
        "your own, as my_package.my_module. May be repeated."
    )

    def check(self) -> None:
        if not self.output_dir:
            raise SettingError("--output_dir is missing; give the run's folder")

    @property
    def folder(self) -> str:
        """The folder; "~" at its beginning is replaced by the home folder."""
        return str(user_paths.expanded(str(self.output_dir)))


@dataclasses.dataclass(frozen=True)
class PersonalEvaluation(Settings):
    """Whether personal models are evaluated at the end."""

    TITLE: ClassVar[str] = "Personal models"

    personal_evaluation: bool = settings.switch(
        False,
        "When the rounds are done, evaluate every client's personal model on the "
        "client's own test examples. For algorithms without personal models, each "
        "client fine-tunes the final model by its local steps.",
    )


# The settings that every experiment has flags for.
COMMON: tuple[Group, ...] = (
    TaskChoice,
    Batches,
    ClientOptimizer,
    ServerOptimizer,
    Cohorts,
    Weighting,
    Training,
    SecureSums,
    Runtime,
    Output,
)


@dataclasses.dataclass(frozen=True)
class Given:
    """The settings of a parsed command line.

    Attributes:
      preset: the preset of the binary.
      values: the values of the given flags, by their settings' names.
    """

    preset: Preset
    values: Mapping[str, Any]

    @property
    def output(self) -> Output:
        """The settings of the output: folder and resumption.

        Raises:
          SettingError: the folder is missing.
        """
        return Output.from_flat(self.values)

    def group(self, kind: type[Chosen]) -> Chosen:
        """Returns the settings of a group, with the preset's defaults."""
        return kind.from_flat({**self.preset.defaults, **self.values})

    def settings(self, *without: type[Settings]) -> dict[str, Any]:
        """Returns an experiment's settings: fixed values, given flags and defaults.

        Args:
          without: groups that are not part of an experiment; `Output` never is.
        """
        groups: list[type[Settings]] = [Output, *without]
        names = {
            group.PREFIX + field.name for group in groups for field in declared(group)
        }
        values = {**self.preset.fixed, **self.preset.defaults, **self.values}
        return {k: v for k, v in values.items() if k not in names}

    def experiment(self) -> Experiment:
        """Makes the experiment that the flags describe.

        Raises:
          SettingError: a value is refused.
        """
        return Experiment.from_flat(self.settings(), name=self.preset.name)


def _run(given: Given) -> None:
    experiment, output = given.experiment(), given.output
    experiment.run(output.folder, resume=output.resume, recharge=output.recharge)


@dataclasses.dataclass(frozen=True)
class Preset:
    """A binary of an experiment, and the settings that it offers as flags.

    Attributes:
      name: the name of the experiment.
      doc: a text that says what the binary does; the head of `--help`.
      groups: the settings with flags.
      defaults: defaults that differ from the settings' own.
      fixed: settings without a flag.
      missing: by name, flags that are not offered, and the reason.
      main: the function that gets the parsed command line.

    Example:
      >>> from tfl_research import cli
      >>> preset = cli.Preset(
      ...     "my_fed_avg",
      ...     "Federated averaging with any aggregator.",
      ...     (*cli.COMMON, tfl.aggregators.AGGREGATORS),
      ...     defaults={"task": "heart", "rounds": 2},
      ... )
      >>> cli.execute(preset, ["mine.py", "--rounds=0", "--output_dir=results/mine"])
      2
      >>> cli.execute(preset, ["mine.py", "--output_dir=results/mine"])
      untrained  eval loss 0.6931 ...
      0
    """

    name: str
    doc: str
    groups: tuple[Group, ...]
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    missing: Mapping[str, str] = dataclasses.field(default_factory=dict)
    main: Callable[[Given], None] = _run
