"""Describes a task: its card and statistics of its data."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np

from tfl_research import tasks
from tfl_research.data import ArraySpec, ClientData, derived_generator
from tfl_research.data.arrays import structures
from tfl_research.data.partitions import divergence, statistics
from tfl_research.data.partitions.feature_divergence import feature_divergence

_WIDTH = 80
_INDENT = 20
_MOST_CLASSES_LISTED = 20


def _entry(name: str, text: str) -> str:
    """Makes a line of the description, wrapped beside its name."""
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


def sampled(data: ClientData, most: int, seed: int) -> ClientData:
    """Returns the data, or a random sample of `most` clients if there are more."""
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
    """Describes class shares, the most frequent class first."""
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
    """Describes a task: its card, its options, and statistics of its clients.

    Args:
      name: the task's name, for its options.
      task: the task.
      clients: statistics cover at most this many clients of each split.
      seed: the seed of the sample of clients, if a split has more.
    """
    train = sampled(task.train, clients, seed)
    test = sampled(task.test, clients, seed)
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
        held_out = sampled(task.held_out, clients, seed)
        held_counts = statistics.example_counts(held_out)
        lines.append(_entry("held-out examples", _sizes(held_counts)))
    lines += [*_label_lines(task, train, seed), *_feature_lines(train)]
    return "\n".join(lines)


def _privacy_lines(task: tasks.Task) -> list[str]:
    """Makes lines about public data, public knowledge and pooled values of a task."""
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
    """Makes a line for each array; a single array has the name of the whole."""
    lines = []
    for name, spec in specs.items():
        kind = "text" if structures.is_text(spec.dtype) else str(spec.dtype)
        if name == "x":
            lines.append(_entry("features", f"{kind} {list(spec.shape)}"))
        elif name != "y":
            lines.append(_entry(name, f"{kind} {list(spec.shape)}"))
    return lines


def _label_lines(task: tasks.Task, train: ClientData, seed: int) -> list[str]:
    """Makes lines on class shares, and on how labels differ between clients."""
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
    compared = "each client's labels against all clients' labels"
    if labels.shape:
        compared = "each client's tokens, in any order, against all clients' tokens"
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
    """Makes a line for each statistic of `divergence`, under a line of headings."""
    by_chance = divergence.iid_counts(counts, seed=seed)
    return _table(
        {
            name: (statistic(counts), statistic(by_chance))
            for name, statistic in divergence.STATISTICS.items()
        }
    )


def _feature_lines(train: ClientData) -> list[str]:
    """Makes lines on how features differ between clients, also for equal labels."""
    statistic_values = feature_divergence(train)
    if not statistic_values:
        reason = "not applicable: features are not numbers, or are all equal"
        if "x" not in train.specs:
            reason = "not applicable: features are in several arrays"
        return [_entry("feature statistics", reason)]
    note = (
        "squared distance of each client's mean features from all clients' mean, and "
        "clients' own variances, in units of the total variance. IID: what is expected "
        "of IID clients of these sizes and labels"
    )
    return [_entry("feature statistics", note), *_table(statistic_values)]


def _table(
    statistic_values: Mapping[str, tuple[np.ndarray, np.ndarray]],
) -> list[str]:
    """Makes a line for each statistic, under a line of headings.

    Args:
      statistic_values: by statistic, a value for each client (NaN for a client without
        a value) and the value expected by chance.
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
