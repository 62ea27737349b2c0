"""Settings for the task of a run, and for the local steps of its clients."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Optional

from tfl_research import settings, tasks
from tfl_research.data.partitions import partition_options
from tfl_research.errors import SettingError, shortened
from tfl_research.settings import Settings
from tfl_research.storage.files import user_paths
from tfl_research.tasks import shared

_OPTIONS = (
    "held_out_fraction",
    "partition",
    "dirichlet_alpha",
    "shards_per_client",
    "quantity_alpha",
    "rotation_degrees",
    "noise_level",
    "num_concepts",
    "num_clients",
    "data_dir",
    "label_column",
)


@dataclasses.dataclass(frozen=True)
class TaskChoice(Settings):
    """A registered task by name, with its options.

    If an option is None, the task's own default is used. `scripts/describe_task` lists
    these defaults.

    Example:
      >>> skewed = tfl.TaskChoice("mnist", partition="dirichlet", dirichlet_alpha=0.1)
      >>> tfl.Experiment(skewed).check()
      >>> tfl.TaskChoice("heart", partition="iid")
      Traceback (most recent call last):
          ...
      tfl_research.errors.SettingError: partition=iid: task heart has no such option...
    """

    TITLE: ClassVar[str] = "Task"

    task: Optional[str] = settings.text(
        None,
        f"Name of the task; must be given: {', '.join(tasks.names())}; or the name of "
        "a plugin's task.",
    )
    held_out_fraction: Optional[float] = settings.real(
        None,
        "Share of the clients that are never trained on; 0 when not given.",
        minimum=0,
        below=1,
    )
    partition: Optional[str] = settings.text(
        None,
        "How the images of mnist, emnist and cifar100 are split among clients or "
        f"changed by client: {', '.join(partition_options.PARAMETERS)}; or natural, "
        "if the data have natural clients. scripts/describe_task shows the defaults "
        "of this option and of the next ones.",
    )
    dirichlet_alpha: Optional[float] = settings.real(
        None, "Concentration of --partition=dirichlet; smaller is more skewed.", above=0
    )
    shards_per_client: Optional[int] = settings.integer(
        None, "Number of shards of each client under --partition=shards.", minimum=1
    )
    quantity_alpha: Optional[float] = settings.real(
        None,
        "Concentration of sizes under --partition=quantity; smaller is more skewed.",
        above=0,
    )
    rotation_degrees: Optional[float] = settings.real(
        None,
        "Largest angle under --partition=rotation, in degrees.",
        minimum=0,
        maximum=180,
    )
    noise_level: Optional[float] = settings.real(
        None,
        "Standard deviation of the last client's noise under --partition=noise.",
        above=0,
    )
    num_concepts: Optional[int] = settings.integer(
        None, "Groups of clients under --partition=concept_shift.", minimum=1
    )
    num_clients: Optional[int] = settings.integer(
        None, "Number of clients among which the data are split.", minimum=1
    )
    data_dir: Optional[str] = settings.text(
        None, "Folder with one CSV or Parquet file for each client (task csv)."
    )
    label_column: Optional[str] = settings.text(
        None, "Column that holds the label (task csv)."
    )
    task_option: tuple[str, ...] = settings.repeated(
        "Any other option of the task, as NAME=VALUE; may be repeated. "
        "scripts/describe_task lists a task's options."
    )

    def check(self) -> None:
        known = ", ".join(tasks.names())
        if self.task is None:
            raise SettingError(f"--task is missing; give one of {known}")
        if self.task not in tasks.names():
            raise self.refused("task", f"unknown task; give one of {known}")
        self.options()

    @classmethod
    def of(cls, name: str, options: Mapping[str, Any]) -> TaskChoice:
        """Makes the choice of a task with options as Python values.

        Args:
          name: the name of the task.
          options: the options; values that equal the task's defaults are left out.
        """
        defaults = tasks.options(name)
        options = {k: v for k, v in options.items() if v != defaults.get(k)}
        fields = {option: options[option] for option in _OPTIONS if option in options}
        texts = tuple(
            f"{option}={value}"
            for option, value in options.items()
            if option not in fields
        )
        return cls(name, **fields, task_option=texts)

    def options(self) -> dict[str, Any]:
        """Returns the task's own options that were given.

        Raises:
          SettingError: the task does not take an option, or an option is malformed.
        """
        name = str(self.task)
        takes = tasks.options(name)
        given: dict[str, Any] = {}
        for option in _OPTIONS:
            value = getattr(self, option)
            if value is None:
                continue
            if option not in takes:
                raise self.refused(
                    option,
                    f"task {name} has no such option; leave it out "
                    f"(task {name} takes {', '.join(takes) or 'none'})",
                )
            given[option] = value
        texts: dict[str, str] = {}
        for entry in self.task_option:
            option, equals, value = entry.partition("=")
            shown = f"--task_option={shortened(entry)}"
            if not equals or not option:
                raise SettingError(f"{shown}: must be NAME=VALUE")
            if option in texts or option in given:
                raise SettingError(f"{shown}: {option} is given twice")
            if option not in takes:
                raise SettingError(
                    f"{shown}: task {name} has no such option; it "
                    f"takes {', '.join(takes) or 'none'}"
                )
            texts[option] = value
        # The converter gets all settings, so that it does not miss an option.
        converted = _converted(name, {**{o: str(v) for o, v in given.items()}, **texts})
        options = {**converted, **given}
        self._check_partition(options, takes)
        return options

    def _check_partition(self, options: dict[str, Any], takes: dict[str, Any]) -> None:
        """Refuses an option that has no effect with the chosen partition."""
        chosen = options.get("partition", takes.get("partition"))
        for option, value in options.items():
            reader = partition_options.reader_of(option, chosen)
            if "partition" in takes and reader is not None:
                flag = "" if getattr(self, option, None) is not None else "task_option="
                raise SettingError(
                    f"--{flag}{option}={value}: has no effect with "
                    f"--partition={chosen}; leave it out or give --partition={reader}"
                )

    def build(self, seed: int) -> tasks.Task:
        """Reads the data and builds the task, without TensorFlow.

        Args:
          seed: seed of partitions, splits and held-out clients.

        Raises:
          SettingError: data are missing or malformed, or the task refuses an option.
        """
        try:
            return shared.get(str(self.task), seed=seed, **self.options())
        except SettingError as error:
            if error.for_command_line.startswith(f"--task={self.task}: "):
                raise
            raise SettingError(f"--task={self.task}: {error}") from error
        except (ValueError, OSError) as error:
            raise SettingError(f"--task={self.task}: {error}") from error

    def files_digest(self) -> Optional[str]:
        """Returns the SHA-256 of the user's files; None if the task reads none."""
        folder = self.options().get("data_dir")
        if folder is None:
            return None
        from tfl_research.data.tables import files  # Needs pandas.

        return files.content_hash(user_paths.expanded(str(folder)))


def _converted(name: str, texts: dict[str, str]) -> dict[str, Any]:
    try:
        return tasks.parse_options(name, texts)
    except ValueError as error:
        named = [f"--{o}" for o in _OPTIONS if f"the option {o!r}" in str(error)]
        raise SettingError(f"{', '.join(named) or '--task_option'}: {error}") from error


@dataclasses.dataclass(frozen=True)
class Batches(Settings):
    """How a client's examples become the local steps of a round.

    A setting that is None leaves the choice to the task.

    Example:
      >>> batches = tfl.Batches(batch_size=20, client_epochs=2)
      >>> tfl.Experiment("heart", batches=batches).check()
    """

    TITLE: ClassVar[str] = "Local steps"

    batch_size: Optional[int] = settings.integer(
        None,
        "Number of examples in a local minibatch (B); the task's own when not given.",
        minimum=1,
    )
    client_epochs: Optional[int] = settings.integer(
        None,
        "Number of local epochs in a round (E); the task's own when not given.",
        minimum=1,
    )
    client_steps: Optional[int] = settings.integer(
        None,
        "Number of local steps in a round, instead of whole epochs; the task's own "
        "when not given.",
        minimum=1,
    )
    max_examples_per_client: Optional[int] = settings.integer(
        None,
        "Largest number of a client's examples that are used in a round; the task's "
        "own when not given.",
        minimum=1,
    )

    def check(self) -> None:
        if self.client_steps is not None and self.client_epochs is not None:
            raise self.refused(
                "client_steps",
                "is given together with --client_epochs; leave one of the two out",
            )

    def applied_to(self, task: tasks.Task) -> tasks.Task:
        """Returns the task with these local steps."""
        changed: dict[str, Any] = {}
        if self.batch_size is not None:
            changed["batch_size"] = self.batch_size
        if self.max_examples_per_client is not None:
            changed["max_examples"] = self.max_examples_per_client
        if self.client_steps is not None:
            changed["steps"] = self.client_steps
        if self.client_epochs is not None:
            changed.update(epochs=self.client_epochs, steps=None)
        return task.with_batching(dataclasses.replace(task.train.batching, **changed))
