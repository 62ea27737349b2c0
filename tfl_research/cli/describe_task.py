"""Prints a task's card and statistics.

Run by `python -m tfl_research.cli.describe_task NAME`.
"""

from __future__ import annotations

if __name__ == "__main__":
    from tfl_research.cli import starting

    starting.end_on_signals()

import inspect
import pathlib
import sys
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfl_research import tasks
from tfl_research.cli import last_resort, schema_draft
from tfl_research.cli.arguments import Parser
from tfl_research.data import ArraySpec, ClientData, derived_generator, structures
from tfl_research.data.partitions import divergence, partition_options, statistics
from tfl_research.data.partitions.feature_divergence import feature_divergence
from tfl_research.errors import message_for_command_line

_WIDTH = 80
_INDENT = 20
_MOST_CLASSES_LISTED = 20


def _entry(name: str, text: str) -> str:
    """A line of the description, wrapped beside its name."""
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=f"{name:<{_INDENT}}",
        subsequent_indent=" " * _INDENT,
        break_on_hyphens=False,
    )


def _sizes(counts: np.ndarray) -> str:
    if not len(counts):
        return "no clients"
    return (
        f"{counts.sum():,} in {len(counts):,} clients; per client min "
        f"{counts.min():,}, median {np.median(counts):,.0f}, mean "
        f"{counts.mean():,.1f}, max {counts.max():,}; Gini "
        f"{divergence.gini(counts):.3f}"
    )


def _sampled(data: ClientData, most: int, seed: int) -> ClientData:
    """The data, or a random sample of `most` clients if there are more."""
    if len(data) <= most:
        return data
    order = derived_generator("describe", seed).permutation(len(data))[:most]
    return data.subset([data.client_ids[i] for i in sorted(order)])


def _class_name(names: Sequence[str], label: int) -> str:
    if label >= len(names):
        return f"class {label}"
    # A reader does not see white space.
    return names[label] if names[label].strip() else repr(names[label])


def _balance(shares: np.ndarray, names: Sequence[str]) -> str:
    """Class shares, most frequent first."""
    order = np.argsort(-shares, kind="stable")
    listed = [i for i in order[:_MOST_CLASSES_LISTED] if shares[i] > 0]
    present = int((shares > 0).sum())
    text = ", ".join(f"{_class_name(names, i)}: {shares[i]:.1%}" for i in listed)
    if present > len(listed):
        text += f", and {present - len(listed)} more"
    return text


def _options(name: str) -> str:
    parts = []
    for option, default in tasks.options(name).items():
        required = default is inspect.Parameter.empty
        parts.append(f"{option} (required)" if required else f"{option}={default}")
    return ", ".join(["seed=0", *parts])


def description(name: str, task: tasks.Task, *, clients: int, seed: int) -> str:
    """The text that the command prints.

    Args:
      name: the task's name, for its options.
      task: the task.
      clients: statistics cover at most this many clients of each split.
      seed: the seed of the sample of clients, if a split has more.
    """
    train = _sampled(task.train, clients, seed)
    test = _sampled(task.test, clients, seed)
    total = f"{len(task.train):,} to train on"
    if task.held_out is not None:
        total += f", {len(task.held_out):,} held out"
    if len(task.train) > clients:
        total += f"; figures are of a random {clients:,} (--clients)"
    lines = [
        _entry(name, task.card.title),
        _entry("source", task.card.source),
        _entry("licence", task.card.licence),
        _entry("client", task.card.client_unit),
        _entry("target", task.card.target),
        *_privacy_lines(task),
        _entry("options", _options(name)),
        _entry("selection metric", task.selection_metric),
        *_array_lines(task.train.specs),
        _entry("clients", total),
        _entry("training examples", _sizes(statistics.example_counts(train))),
        _entry("test examples", _sizes(statistics.example_counts(test))),
    ]
    if task.held_out is None:
        lines.append(_entry("held-out examples", "none: no client is held out"))
    else:
        held_out = _sampled(task.held_out, clients, seed)
        held_counts = statistics.example_counts(held_out)
        lines.append(_entry("held-out examples", _sizes(held_counts)))
    lines += [*_label_lines(task, train, seed), *_feature_lines(train)]
    return "\n".join(lines)


def _privacy_lines(task: tasks.Task) -> list[str]:
    """Lines on what reaches a run in addition to clipped updates."""
    public = task.card.public_data
    lines = [_entry("public data", "yes" if public else "no")]
    if task.card.public_knowledge:
        lines.append(_entry("public knowledge", "; ".join(task.card.public_knowledge)))
    for part in task.pooled:
        runs = "private runs" if part.concerns("client") else "record-level runs"
        fate = f"{runs} name this" if public else f"{runs} refuse this"
        if not public and part.remedy:
            fate += f": {part.remedy}"
        text = f"{part.what}, from {part.source} ({fate})"
        lines.append(_entry("from pooled rows", text))
    return lines


def _array_lines(specs: Mapping[str, ArraySpec]) -> list[str]:
    """A line for each array, under the name of the whole where there is only one."""
    lines = []
    for name, spec in specs.items():
        kind = "text" if structures.is_text(spec.dtype) else str(spec.dtype)
        if name == "x":
            lines.append(_entry("features", f"{kind} {list(spec.shape)}"))
        elif name != "y":
            lines.append(_entry(name, f"{kind} {list(spec.shape)}"))
    return lines


def _label_lines(task: tasks.Task, train: ClientData, seed: int) -> list[str]:
    """Lines on class shares, and on how labels differ between clients."""
    labels = train.specs.get("y")
    if labels is None:
        reason = "not applicable: there is no label, or there are several"
        return [_entry("label statistics", reason)]
    if np.dtype(labels.dtype).kind not in "iu":
        reason = f"not applicable: targets are {labels.dtype}, not classes"
        return [_entry("label statistics", reason)]
    counts = statistics.label_statistics(train).labels
    if counts.sum() == 0:
        return [_entry("classes", "no training labels")]
    shares = counts.sum(axis=0) / counts.sum()
    names = task.card.label_names
    majority = int(np.argmax(shares))
    largest = _class_name(names, majority)
    compared = "clients' labels against those of all clients"
    if labels.shape:
        compared = "clients' tokens, in whatever order, against those of all clients"
    note = (
        f"{compared}; mean and percentiles over clients. IID: the mean of IID clients "
        "of these sizes, which differ by chance alone"
    )
    return [
        _entry("classes (training)", _balance(shares, names)),
        _entry("majority class", f"{largest}: {shares[majority]:.1%} of the labels"),
        _entry("label statistics", note),
        *_divergence_table(counts, seed),
    ]


def _divergence_table(counts: np.ndarray, seed: int) -> list[str]:
    """A line for each statistic of `divergence`, under a line of headings."""
    by_chance = divergence.iid_counts(counts, seed=seed)
    return _table(
        {
            name: (statistic(counts), statistic(by_chance))
            for name, statistic in divergence.STATISTICS.items()
        }
    )


def _feature_lines(train: ClientData) -> list[str]:
    """Lines on how features differ between clients, overall and for equal labels."""
    statistic_values = feature_divergence(train)
    if not statistic_values:
        reason = "not applicable: features are no numbers, or all the same"
        if "x" not in train.specs:
            reason = "not applicable: features are in several arrays"
        return [_entry("feature statistics", reason)]
    note = (
        "squared distances of clients' mean features from those of all clients, and "
        "clients' own variances, in units of the total variance. IID: what is expected "
        "of IID clients of these sizes and labels"
    )
    return [_entry("feature statistics", note), *_table(statistic_values)]


def _table(
    statistic_values: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> list[str]:
    """A line for each statistic, under a line of headings.

    Args:
      statistic_values: by statistic, a value for each client and the value expected
        by chance; NaN for a client without a value.
    """
    rows: list[tuple[str, ...]] = [("", "mean", "10%", "50%", "90%", "max", "IID")]
    for name, (values, by_chance) in statistic_values.items():
        has_value = ~np.isnan(values)
        values = values[has_value]
        figures = [
            values.mean(),
            *np.percentile(values, [10, 50, 90]),
            values.max(),
            by_chance[has_value].mean(),
        ]
        rows.append((f"  {name}", *(f"{figure:.3f}" for figure in figures)))
    return [f"{name:<26}" + "".join(f"{c:>9}" for c in cells) for name, *cells in rows]


def _plot(name: str, task: tasks.Task, path: str, *, clients: int, seed: int) -> None:
    # Only a plot needs matplotlib.
    from tfl_research.report import label_picture

    train = _sampled(task.train, clients, seed)
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
    label_picture.write(figure, pathlib.Path(path))


def _check_plot(path: str) -> None:
    try:
        from tfl_research.report import label_picture
    except ModuleNotFoundError as error:
        raise ValueError(
            f"--plot={path} needs the package {error.name}; install it with pip "
            "install 'tfl_research[plots]'"
        ) from error
    try:
        label_picture.check_path(pathlib.Path(path))
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
    """How the files of the task csv compare; empty for other tasks.

    Raises:
      ValueError: files that can be read in several ways, after what they are was
        written.
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
        epilog="The task's own options follow as --option=value, seed among them.",
        allow_abbrev=False,
    )
    parser.add_argument("name", help=f"one of {', '.join(tasks.names())}")
    parser.add_argument("--seed", type=int, default=0, help="of partitions and splits")
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
            "draw the numbers of the training clients' labels, clients by labels, "
            "into a .png, .svg or .pdf file"
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
            found = schema_draft.write(pathlib.Path(parsed.write_schema), options)
            sys.stdout.write(f"{found}\n{parsed.write_schema}: {schema_draft.ADVICE}\n")
            return 0
        comparison = _compared(parsed.name, options)
        with warnings.catch_warnings():
            # What a run warns of is in the comparison.
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
