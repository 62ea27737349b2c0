"""Makes report.html, a page about a run."""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING, Any, Union

from tfl_research.report import rendering, run_results, words
from tfl_research.report.run_page import (
    clients,
    headline,
    models,
    privacy_section,
    settings_section,
)
from tfl_research.report.run_results import RunResults
from tfl_research.report.unavailable import ReportUnavailableError
from tfl_research.storage.files import atomic, user_paths
from tfl_research.storage.run_record import STOP_REASONS

if TYPE_CHECKING:
    from tfl_research.report.pictures.curves import Picture


def _state(results: RunResults) -> str:
    rounds = words.counted(results.completed, "round")
    reason = results.summary.get("stop_reason")
    if results.has_ended:
        return f"{rounds}: {STOP_REASONS.get(str(reason), 'ended')}"
    if not results.planned:
        return f"{rounds} so far"
    planned = words.counted(results.planned, "round")
    return f"{words.number(results.completed)} of {planned} so far"


def _numbers(cells: Any) -> dict[str, float]:
    """Returns the cells that are numbers, by column."""
    found = {}
    for name, cell in (cells or {}).items():
        try:
            found[name] = float(cell)
        except (TypeError, ValueError):
            continue
    return found


def _curves(results: RunResults) -> tuple[list[Picture], list[Picture]]:
    """Draws the pictures of metrics and ε, and the pictures of other quantities."""
    try:
        from tfl_research.report.pictures import curves, panels
    except ImportError as error:
        raise ReportUnavailableError.of(error) from error
    column = results.selects or headline.headline_column(results) or ""
    main = [
        *panels.of_metrics(
            results.metrics,
            _numbers(results.summary.get("untrained")),
            clients=models.number_of_clients(results),
            first=words.split_column(column)[0],
        ),
        *(panels.of_privacy(results.metrics, results.limit)),
    ]
    further = panels.of_rounds(results.metrics)
    return (
        [curves.draw(panel, f"c{i}") for i, panel in enumerate(main)],
        [curves.draw(panel, f"f{i}") for i, panel in enumerate(further)],
    )


def _of_clients(results: RunResults) -> list[Picture]:
    """Draws the first metric, the selection metric and ε over silos or clients.

    Each silo has a line; many clients are drawn as a distribution.
    """
    from tfl_research.report.pictures import distributions

    columns = (headline.headline_column(results), results.selects)
    preferred = [words.split_column(c)[0] for c in columns if c is not None]
    metrics = dict.fromkeys(clients.metric_shown(results, name) for name in preferred)
    if not preferred:
        metrics = {clients.metric_shown(results, None): None}
    pictures = []
    for number, metric in enumerate(name for name in metrics if name is not None):
        found = clients.values(results, metric)
        if 1 < max(map(len, found.values()), default=0) <= distributions.MOST_SILOS:
            pictures.append(distributions.silos(found, metric, f"d{number}"))
        else:
            pictures += _distributions(results, found, metric, f"d{number}")
    if 1 < len(results.spent) <= distributions.MOST_SILOS:
        spent = {r["client_id"]: float(r["epsilon"]) for r in results.spent}
        pictures.append(distributions.silos({"records": spent}, "epsilon", "de"))
    return pictures


def _distributions(
    results: RunResults, found: dict[str, dict[str, float]], metric: str, key: str
) -> list[Picture]:
    from tfl_research.report.pictures import distributions

    shown = []
    for name in dict.fromkeys((next(iter(found), ""), "personal model")):
        if len(found.get(name, ())) > 1:
            shown.append((list(found[name].values()), name.removesuffix(" model"), ""))
    held_out = clients.held_out_values(results, metric)
    if len(held_out) > 1:
        shown.append((held_out, "final", "held-out "))
    return [
        distributions.distribution(
            values, metric, model, f"{key}-{place}", whose=f"{whose}client"
        )
        for place, (values, model, whose) in enumerate(shown)
    ]


def _audit(results: RunResults) -> list[str]:
    """Returns sentences on the results of canaries and of the membership attack."""
    audit = results.audit
    bound, lines = audit.get("bound"), []
    if isinstance(bound, dict):
        confidence = float(bound.get("confidence") or 0)
        lines.append(
            f"The attacker guessed of {bound.get('guesses')} of "
            f"{bound.get('canaries')} canaries whether they took part, and was right "
            f"{bound.get('correct')} times. So ε is at least "
            f"{headline.rounded_down(bound.get('epsilon'))}, with {confidence:.0%} "
            "confidence; such an audit could have shown at most "
            f"{headline.rounded_down(bound.get('largest'))}. The account says "
            f"{words.number(audit.get('epsilon'), 'epsilon')}."
        )
    membership = audit.get("membership")
    if isinstance(membership, dict):
        lines.append(
            "An attack on the exported model tells training examples from others with "
            f"an AUC of {words.number(membership.get('auc'))} "
            f"({words.number(membership.get('auc_low'))} to "
            f"{words.number(membership.get('auc_high'))}); 0.5 is a guess."
        )
    return lines


def html(results: RunResults, *, live: bool = False, back: str = "") -> str:
    """Makes the page of a run.

    Args:
      results: the results of the run, which need not have ended.
      live: whether the page asks its server for news.
      back: address of the list of runs; empty if there is no list.

    Raises:
      ValueError: a file of the run has unexpected content.
      ReportUnavailableError: matplotlib or jinja2 is not installed.
    """
    try:
        return _rendered(results, live, back)
    except run_results.SIGNS_OF_DAMAGE as error:
        raise run_results.damaged(results.name, error) from error


def _rendered(results: RunResults, live: bool, back: str) -> str:
    curves, further = _curves(results)
    tables = clients.tables(results)
    pictures = _of_clients(results)
    table = models.table(results)
    contents = [("curves", "Curves"), ("privacy", "Privacy"), ("settings", "Settings")]
    if table:
        contents.insert(1, ("models", "Models"))
    if tables or pictures or clients.excluded(results):
        contents.insert(1, ("clients", "Clients"))
    return rendering.render(
        "run.html",
        live=live,
        back=back,
        title=results.title,
        name=results.name,
        state=_state(results),
        contents=contents,
        banners=headline.banners(results),
        tiles=headline.tiles(results),
        curves=curves,
        further=further,
        client_pictures=pictures,
        clients=tables,
        excluded=clients.excluded(results),
        models=table,
        personal=models.personal(results),
        privacy=privacy_section.section(results),
        classes=models.described(results),
        audit=_audit(results),
        settings=settings_section.section(results),
        code=settings_section.code(results),
    )


def write(folder: Union[str, os.PathLike[str]]) -> pathlib.Path:
    """Writes `report.html` of the run in `folder`, and returns its path.

    The page is a single file without external resources, made from the run's files. The
    run need not have ended.

    Raises:
      ValueError: the folder has no run, or one of its files is damaged.
      ReportUnavailableError: matplotlib or jinja2 is not installed.
    """
    content = html(run_results.read(folder))
    path = user_paths.expanded(folder) / "report.html"
    atomic.write(path, content.encode())
    return path
