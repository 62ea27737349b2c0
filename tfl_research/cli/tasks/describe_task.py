"""Prints a task's card and statistics.

Run by `python -m tfl_research.cli.tasks.describe_task NAME`.
"""

from __future__ import annotations

if __name__ == "__main__":
    from tfl_research.cli import starting

    starting.begin()

import sys
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfl_research import tasks
from tfl_research.cli import last_resort
from tfl_research.cli.arguments import Parser
from tfl_research.cli.tasks import schema_draft
from tfl_research.cli.tasks.task_description import description, sampled
from tfl_research.data.arrays import structures
from tfl_research.data.partitions import partition_options, statistics
from tfl_research.errors import message_for_command_line
from tfl_research.settings.kinds import LARGEST_SEED
from tfl_research.storage.files import user_paths


def _plot(name: str, task: tasks.Task, path: str, *, clients: int, seed: int) -> None:
    # Only a plot needs matplotlib.
    from tfl_research.report import label_picture

    train = sampled(task.train, clients, seed)
    labels = structures.single(train.specs, "y", f"--plot={path}")
    if np.dtype(labels.dtype).kind not in "iu":
        raise ValueError(
            f"--plot={path}: task {name!r} has targets of {labels.dtype}; "
            "only classes and tokens can be drawn"
        )
    title = textwrap.fill(f"{name}: {task.card.title}", 60)
    figure = label_picture.draw(
        statistics.label_statistics(train).labels,
        train.client_ids,
        title=title,
        label_names=task.card.label_names,
    )
    label_picture.write(figure, user_paths.expanded(path))


def _check_plot(path: str) -> None:
    try:
        from tfl_research.report import label_picture
    except ModuleNotFoundError as error:
        raise ValueError(
            f"--plot={path} needs the package {error.name}; install it with pip "
            "install 'tfl_research[plots]'"
        ) from error
    try:
        label_picture.check_path(user_paths.expanded(path))
    except ValueError as error:
        raise ValueError(f"--plot={path}: {error}") from None


def _parsed_options(arguments: Sequence[str]) -> dict[str, str]:
    options = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not name.startswith("--") or not equals:
            raise ValueError(f"expected --option=value, got {argument!r}")
        options[name[2:]] = value
    return options


def _check_partition(name: str, options: Mapping[str, Any]) -> None:
    """Raises ValueError for an option that the chosen partition does not read."""
    defaults = tasks.options(name)
    if "partition" in defaults:
        partition = options.get("partition", defaults["partition"])
        partition_options.check_read(options, partition)


def _compared(name: str, options: Mapping[str, Any]) -> str:
    """Describes how the files of the task csv compare; empty for other tasks.

    Raises:
      ValueError: files can be read in several ways; first the comparison is printed.
    """
    if name != "csv" or not {"data_dir", "label_column"} <= options.keys():
        return ""
    table, found = schema_draft.compared(options)
    text = schema_draft.text(table, found)
    refusal = schema_draft.refusal(found)
    if refusal is not None:
        sys.stdout.write(text + "\n")
        raise ValueError(refusal)
    return "\n" + text


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns its exit code, 2 for wrong arguments."""
    return last_resort.guarded("describe_task", lambda: _run(arguments))


def _run(arguments: Sequence[str]) -> int:
    parser = Parser(
        prog="describe_task",
        description="Prints a task's source, licence, clients and class balance.",
        epilog="Give the options of the task as --option=value.",
        allow_abbrev=False,
    )
    parser.add_argument("name", help=f"one of {', '.join(tasks.names())}")
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="seed of partitions and splits (default: 0)",
    )
    parser.add_argument(
        "--clients",
        type=int,
        default=2000,
        help="take the figures from at most this many clients (default: 2000)",
    )
    parser.add_argument(
        "--plot",
        metavar="FILE",
        help=(
            "draw how many examples of each label each training client has, into a "
            ".png, .svg or .pdf file"
        ),
    )
    parser.add_argument(
        "--write_schema",
        metavar="FILE",
        help="write a draft of the schema.json that private runs of the task csv need",
    )
    parsed, task_options = parser.parse_known_args(arguments)
    try:
        if parsed.clients < 1:
            raise ValueError(f"--clients must be at least 1, got {parsed.clients}")
        if not 0 <= parsed.seed <= LARGEST_SEED:
            raise ValueError(
                f"--seed={parsed.seed}: must be a whole number, at least 0 and at most "
                f"{LARGEST_SEED}, as in a run"
            )
        options = tasks.parse_options(parsed.name, _parsed_options(task_options))
        _check_partition(parsed.name, options)
        if parsed.plot is not None:
            _check_plot(parsed.plot)
        if parsed.write_schema is not None:
            if parsed.name != "csv":
                raise ValueError(
                    f"--write_schema={parsed.write_schema}: task {parsed.name!r} does "
                    "not read a schema.json; leave it out"
                )
            path = user_paths.expanded(parsed.write_schema)
            found = schema_draft.write(path, options)
            sys.stdout.write(f"{found}\n{parsed.write_schema}: {schema_draft.ADVICE}\n")
            return 0
        comparison = _compared(parsed.name, options)
        with warnings.catch_warnings():
            # The comparison already has the warnings of a run.
            warnings.simplefilter("ignore" if comparison else "default")
            task = tasks.get(parsed.name, seed=parsed.seed, **options)
        text = description(parsed.name, task, clients=parsed.clients, seed=parsed.seed)
        text += comparison
        if parsed.plot is not None:
            _plot(
                parsed.name, task, parsed.plot, clients=parsed.clients, seed=parsed.seed
            )
    except ValueError as error:
        message = message_for_command_line(error)
        return last_resort.say("describe_task", message, last_resort.USAGE_ERROR)
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    last_resort.exit_with("describe_task", main)
