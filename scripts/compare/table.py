"""All results as a page with a table, and as a plot."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

from compare import federated_task, outcomes
from compare.frameworks import FRAMEWORKS

Results = Mapping[str, Mapping[str, Any]]

_MEASURED = (
    "framework",
    "runs",
    "lines",
    "accuracy",
    "same work",
    "seconds a round",
    "start, s",
    "CPU s, whole run",
    "peak MB (processes)",
    "load",
    "after kill -9: resumes?",
)
_NOT_YET = "not measured yet"


def _cell(text: str) -> str:
    """Text that stays in a cell of Markdown."""
    return " ".join(text.replace("|", "\\|").split())


def _row(*cells: str) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _head(*cells: str) -> list[str]:
    return [_row(*cells), "|" + "---|" * len(cells)]


def installs(result: Mapping[str, Any]) -> str:
    """What became of the documented installation."""
    tried = result["installation"]
    if tried["works"]:
        return f"yes: {tried['seconds']:.0f} s, {tried['bytes'] / 1e6:.0f} MB"
    if tried["installs"]:
        return f"yes, but fails: `{tried['error']}`"
    return f"no: `{tried['error']}`" if tried["command"] else f"no: {tried['error']}"


def _measured_row(name: str, result: Mapping[str, Any]) -> str:
    title, values = FRAMEWORKS[name].title, outcomes.medians(result)
    count = str(result["lines"]) if result["lines"] else ""
    runs = str(len(outcomes.runs_of(result)))
    if not values:
        return _row(
            title,
            runs,
            count,
            *[""] * (len(_MEASURED) - 4),
            ("not run, see below" if outcomes.absence(result) else _NOT_YET),
        )
    same = outcomes.is_same_work(result)
    return _row(
        title,
        runs,
        count,
        f"{values['accuracy']:.3f}",
        "yes" if same else "**no**",
        f"{values['round_seconds']:.3g}",
        f"{values['start_seconds']:.1f}",
        f"{values['cpu_seconds']:.0f}",
        f"{values['peak_bytes'] / 1e6:.0f} ({values['processes']:.0f})",
        outcomes.load(result),
        outcomes.resumption(result),
    )


def readme_row(title: str, result: Mapping[str, Any]) -> str:
    """The row of a framework in README.md: what a busy machine does not change."""
    values = outcomes.medians(result)
    tried = result["installation"]
    works = "yes" if tried["works"] else "no"
    if not values:
        return _row(
            title,
            works,
            ("not run" if outcomes.absence(result) else _NOT_YET),
            "",
            "",
            "",
        )
    other = "" if outcomes.is_same_work(result) else " (other work)"
    return _row(
        title,
        works,
        f"{values['accuracy']:.3f}{other}",
        str(result["lines"]),
        f"{values['peak_bytes'] / 1e6:.0f}",
        outcomes.resumption(result).split(":")[0],
    )


def places(results: Results) -> dict[str, list[str]]:
    """Titles of frameworks by the date and machine of their measurement."""
    found: dict[str, list[str]] = {}
    for name, result in results.items():
        where = f"{result['date']}, {result['machine']}"
        found.setdefault(where, []).append(FRAMEWORKS[name].title)
    return found


def _logged(result: Mapping[str, Any]) -> str:
    runs = outcomes.runs_of(result)
    if not runs:
        return ""
    return f" ({max(run['epsilon_lines'] for run in runs)} printed lines)"


def page(results: Results, notes: Mapping[str, str]) -> str:
    """The whole page, in Markdown.

    Args:
      results: of frameworks, by name.
      notes: "reference", "rounds".
    """
    done = {name: results[name] for name in FRAMEWORKS if name in results}
    text = [
        "# Frameworks compared",
        "",
        "`scripts/compare_frameworks` trains the same model in each framework. Each "
        "program follows the framework's own documentation. Clients, model, initial "
        "weights and batches are the same:",
        "",
        f"- {federated_task.NUM_CLIENTS} clients have {federated_task.EXAMPLES} images "
        "of MNIST each, with different labels (Dirichlet 0.5). The model is an MLP of "
        "784, 128 and 10.",
        f"- In each of {notes['rounds']} rounds, all clients take part, with one local "
        f"epoch of SGD at {federated_task.RATE} and batches of "
        f"{federated_task.BATCH_SIZE} in a fixed order. The server takes the mean.",
        f"- A reference in NumPy reaches {notes['reference']}. A framework does the "
        f'"same work" if its model differs from the reference by at most '
        f"{outcomes.SAME_FIRST:.2%} of the movement after the first round, and by at "
        f"most {outcomes.SAME_LAST:.0%} after the last round.",
        "- Figures are medians over the runs.",
        "",
        *_head(*_MEASURED),
        *[_measured_row(name, result) for name, result in done.items()],
        "",
        "- `lines`: lines of code in the program's files in "
        "`scripts/compare/programs`, settings included.",
        "- `seconds a round`: without the first round.",
        "- `start, s`: from the command to the end of the first round. It is longer on "
        "a busy machine.",
        "- `CPU s, whole run`: of all processes.",
        "- `peak MB`: the largest sum over all processes, each at its peak so far.",
        "- `load`: the machine's load over the last minute of the busiest run. If it "
        "is above both the number of the framework's own processes and the number of "
        "cores, other programs ran at the same time, and the seconds say little.",
        "- `after kill -9`: all processes of a run got SIGKILL half way, and the same "
        "command was given again.",
        "",
        "Measured on:",
        "",
        *[f"- {where}: {', '.join(names)}" for where, names in places(done).items()],
        "",
        "Notes:",
        "",
        *[
            f"- {FRAMEWORKS[name].title}: {FRAMEWORKS[name].note}"
            for name in done
            if FRAMEWORKS[name].note
        ],
        "",
        "![Seconds a round, start and memory](frameworks.svg)",
        "",
        "## Installation",
        "",
        "The documented command was tried in a new environment. The runs above have "
        "environments with every version pinned (`scripts/benchmark/peers/*.txt`), and "
        "with torch if the user has to add it.",
        "",
        *_head("framework", "command", "works today"),
        *[
            _row(
                FRAMEWORKS[name].title,
                f"`{tried}`" if (tried := result["installation"]["command"]) else "",
                installs(result),
            )
            for name, result in done.items()
        ],
        "",
        "## Privacy",
        "",
        "The table has what each framework's documentation says; the words link to it. "
        "The number in brackets counts printed lines that name ε, in the runs above. "
        "These runs are not private.",
        "",
        *_head("framework", "ε", "data stay at their sites", "secure sums"),
        *[_privacy_row(name, result) for name, result in done.items()],
    ]
    absent = {
        name: reason
        for name, result in done.items()
        if (reason := outcomes.absence(result))
    }
    if absent:
        text += ["", "## Not run", ""]
        text += [
            f"- {FRAMEWORKS[name].title}: {' '.join(reason.split())}"
            for name, reason in absent.items()
        ]
    return "\n".join(text) + "\n"


def _privacy_row(name: str, result: Mapping[str, Any]) -> str:
    framework = FRAMEWORKS[name]
    facts = (framework.epsilon, framework.stays, framework.secure)
    links = []
    for fact in facts:
        # The pages of this toolkit lie one folder up.
        page_of = fact.page if "://" in fact.page else f"../{fact.page}"
        links.append(f"[{fact.text}]({page_of})")
    return _row(framework.title, links[0] + _logged(result), links[1], links[2])


def plot(results: Results, path: pathlib.Path) -> None:
    """Bars of seconds a round, start and memory, by framework; no file without any."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    values = {
        name: outcomes.medians(results[name])
        for name in FRAMEWORKS
        if name in results and outcomes.runs_of(results[name])
    }
    if not values:
        path.unlink(missing_ok=True)
        return
    titles = [FRAMEWORKS[name].title for name in values]
    panels = (
        ("seconds a round", "round_seconds", 1.0),
        ("start, seconds", "start_seconds", 1.0),
        ("peak memory, MB", "peak_bytes", 1e-6),
    )
    height = 1.0 + 0.35 * max(1, len(titles))
    figure, all_axes = pyplot.subplots(1, 3, figsize=(10, height), sharey=True)
    for axes, (label, key, factor) in zip(all_axes, panels):
        widths = [factor * value[key] for value in values.values()]
        colours = ["C1" if name == "ours" else "C0" for name in values]
        bars = axes.barh(titles, widths, color=colours)
        axes.bar_label(bars, fmt="%.3g", padding=3, fontsize="small")
        axes.set_xscale("log")
        axes.margins(x=0.25)
        axes.set_xlabel(label)
    all_axes[0].invert_yaxis()
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)
