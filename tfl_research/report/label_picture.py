"""The label-by-client picture: the labels of each client, and the clients' sizes."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Kinds of files that matplotlib writes without further packages.
SUFFIXES = (".png", ".svg", ".pdf")
# Labels with a column each; further labels share one column.
_MOST_LABELS = 100
# With at most this many clients and labels, shares are written into the cells.
_MOST_IN_CELLS = (25, 12)
# With at most this many clients, clients are named and keep their order.
_MOST_NAMED = 50
# With at most this many clients, a row is several dots high.
_MOST_ROWS_APART = 300
_COLOURS = "Blues"


def check_path(path: pathlib.Path) -> None:
    """Raises ValueError if no picture can be written to the path."""
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"expected a file ending in {', '.join(SUFFIXES)}, got {path}")
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent} for {path.name}; make it")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected a file")


def shown_labels(labels: np.ndarray, most: int = _MOST_LABELS) -> np.ndarray:
    """Selects the labels that get a column: the most frequent labels that occur.

    Args:
      labels: counts `[clients, classes]`.
      most: largest number of columns.

    Returns:
      The labels in ascending order, int64 `[columns]`.
    """
    totals = labels.sum(axis=0)
    frequent = np.argsort(-totals, kind="stable")[:most]
    return np.sort(frequent[totals[frequent] > 0])


def client_order(shares: np.ndarray) -> np.ndarray:
    """Sorts clients by their most frequent label, then by its share, largest first.

    Args:
      shares: `[clients, labels]`; NaN for clients without labels, which come last.

    Returns:
      Int64 `[clients]`, a permutation.
    """
    filled = np.nan_to_num(shares, nan=-1.0)
    return np.lexsort((-filled.max(axis=1), filled.argmax(axis=1), filled[:, 0] < 0))


def draw(
    labels: np.ndarray,
    client_ids: Sequence[str],
    *,
    title: str,
    label_names: Sequence[str] = (),
) -> Figure:
    """Draws a row for each client: its label shares as colours, its size as a bar.

    Above the rows are the shares over all clients. Up to 50 clients are named and keep
    their order; more clients are sorted by `client_order`. With more than 100 labels,
    the rarest labels share the last column.

    Args:
      labels: counts `[clients, classes]`, with at least one label.
      client_ids: the client ids of the rows.
      title: the text above the picture.
      label_names: in label order; a label without a name is shown as a number.

    Raises:
      ValueError: there are no labels, or the numbers of ids and rows differ.
    """
    labels = np.asarray(labels, np.int64)
    if labels.ndim != 2 or not labels.sum():
        raise ValueError(
            f"there are no labels to draw in counts of shape {labels.shape}; expected "
            "at least one label"
        )
    if len(client_ids) != len(labels):
        raise ValueError(
            f"expected an id for each of the {len(labels)} clients, got "
            f"{len(client_ids)} ids"
        )
    columns = shown_labels(labels)
    counts = labels[:, columns]
    names = [label_names[c] if c < len(label_names) else str(c) for c in columns]
    rare_counts = labels.sum(axis=1) - counts.sum(axis=1)
    if rare_counts.any():
        num_rare = int((labels.sum(axis=0) > 0).sum()) - len(columns)
        counts = np.column_stack([counts, rare_counts])
        names.append(f"{num_rare:,} more")
    with np.errstate(invalid="ignore"):
        shares = counts / counts.sum(axis=1, keepdims=True)
    named = len(counts) <= _MOST_NAMED
    order = np.arange(len(counts)) if named else client_order(shares)
    shares, sizes = shares[order], counts.sum(axis=1)[order]
    pooled = counts.sum(axis=0) / counts.sum()

    height = 2.2 + min(max(0.28 * len(counts), 1.6), 7.0)
    width = 3.9 + min(max(0.36 * len(names), 3.6), 8.0)
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    grid = figure.add_gridspec(
        2,
        3,
        width_ratios=[width - 2.6, 1.3, 0.14],
        height_ratios=[0.8, height - 2.0],
    )
    cells = figure.add_subplot(grid[1, 0])
    top = figure.add_subplot(grid[0, 0], sharex=cells)
    bars = figure.add_subplot(grid[1, 1], sharey=cells)
    # With many labels most shares are small: a square root makes them visible.
    root_scale = len(names) > 20
    largest = float(np.nanmax(shares))
    norm = PowerNorm(0.5, 0.0, largest) if root_scale else Normalize(0.0, largest)
    # imshow averages rows if there are more rows than dots, and then blurs columns too.
    # With copies of each column, the blur stays within the column.
    copies = 50 if len(shares) > _MOST_ROWS_APART else 1
    image = cells.imshow(
        np.repeat(shares, copies, axis=1),
        cmap=_COLOURS,
        norm=norm,
        aspect="auto",
        extent=(-0.5, len(names) - 0.5, len(shares) - 0.5, -0.5),
    )
    bar = figure.colorbar(image, cax=figure.add_subplot(grid[1, 2]))
    bar.set_label(
        "share of the client's labels" + (" (√ scale)" if root_scale else ""),
        fontsize=9,
    )
    bar.ax.yaxis.set_major_formatter(lambda share, _: f"{share:.3g}")
    if len(shares) <= _MOST_IN_CELLS[0] and len(names) <= _MOST_IN_CELLS[1]:
        _write_shares(cells, shares, largest)
    _label_rows(cells, [client_ids[i] for i in order] if named else None)
    _label_columns(cells, names, (width - 2.6) / len(names))
    _draw_pooled(top, pooled)
    _draw_sizes(bars, sizes)
    return figure


def write(figure: Figure, path: pathlib.Path) -> None:
    """Saves a picture; bitmaps have 150 dots per inch.

    Raises:
      ValueError: see `check_path`.
    """
    check_path(path)
    figure.savefig(path, dpi=150)


def _write_shares(axes: Axes, shares: np.ndarray, largest: float) -> None:
    colours = colormaps[_COLOURS]
    for row, column in np.argwhere(np.nan_to_num(shares) > 0):
        share = shares[row, column]
        red, green, blue, _ = colours(share / largest)
        light = 0.299 * red + 0.587 * green + 0.114 * blue
        axes.text(
            column,
            row,
            f"{share:.0%}" if share >= 0.005 else "<1%",
            ha="center",
            va="center",
            fontsize=7,
            color="black" if light > 0.5 else "white",
        )


def _label_columns(axes: Axes, names: Sequence[str], inches: float) -> None:
    """Writes names below columns; thins them out evenly if they would overlap."""
    step = math.ceil(0.16 / inches)
    ticks = list(range(0, len(names), step))
    shown = [_short(names[t]) for t in ticks]
    turned = 0.09 * max(map(len, shown)) > inches * step
    axes.set_xticks(ticks, shown, fontsize=8, rotation=90 if turned else 0)
    axes.set_xlabel("label")


def _label_rows(axes: Axes, client_ids: Sequence[str] | None) -> None:
    if client_ids is not None:
        names = [_short(name) for name in client_ids]
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.set_ylabel("client")
    else:
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel("clients, sorted by their most frequent label")


def _short(name: str) -> str:
    """Shortens a name to at most 18 characters, and makes white space visible."""
    visible = {" ": "␣", "\n": "\\n", "\t": "\\t"}.get(name, name).replace("$", r"\$")
    return visible if len(visible) <= 18 else f"{visible[:17]}…"


def _draw_pooled(axes: Axes, pooled: np.ndarray) -> None:
    axes.bar(range(len(pooled)), pooled, color="0.55", width=0.9)
    axes.set_ylabel("all clients", fontsize=8)
    axes.set_yticks([0, float(pooled.max())], ["0", f"{pooled.max():.1%}"], fontsize=8)
    axes.tick_params(axis="x", labelbottom=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _draw_sizes(axes: Axes, sizes: np.ndarray) -> None:
    # Filled steps instead of bars: a thousand bars would blur into each other.
    edges = np.arange(len(sizes) + 1) - 0.5
    axes.stairs(sizes, edges, orientation="horizontal", fill=True, color="0.55")
    positive = sizes[sizes > 0]
    if positive.max() > 50 * positive.min():
        axes.set_xscale("log")
        axes.set_xlim(left=max(0.5, positive.min() / 2))
    else:
        axes.set_xlim(left=0)
        axes.set_xticks([0, int(sizes.max())], ["0", f"{sizes.max():,}"])
    axes.tick_params(axis="y", labelleft=False)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_xlabel("labels held")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
