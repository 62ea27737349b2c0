"""Every algorithm's NumPy version under the settings of `rounds`, by its name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import paper_algorithms as paper
import paper_personal
import rounds

# Rounds of clients -> theta after each.
Twin = Callable[[paper.Rounds], "list[np.ndarray]"]


def _first(path):
    return [found[0] for found in path]


def _fed_opt(moments, step, initial=0.0) -> Twin:
    return lambda r: paper.fed_opt(rounds.START, r, rounds.RATE, moments, step, initial)


def _adaptive(moments, initial=0.0) -> Twin:
    def step(m, v, t):
        # What TFF, as the paper's code, multiplies Algorithm 2's server rate by.
        corrected = np.sqrt(1 - rounds.BETA_2**t) / (1 - rounds.BETA_1**t)
        return rounds.SERVER_RATE * corrected * m / (np.sqrt(v) + rounds.TAU)

    return _fed_opt(moments(rounds.BETA_1, rounds.BETA_2), step, initial)


_START, _RATE, _CLIENTS = rounds.START, rounds.RATE, len(rounds.SIZES)
TWINS: dict[str, Twin] = {
    "fed_avg": lambda r: paper.fed_avg(_START, r, _RATE),
    "fed_prox": lambda r: paper.fed_avg(_START, r, _RATE, mu=rounds.MU),
    "clipped": lambda r: paper.fed_avg(_START, r, _RATE, clip=rounds.CLIP),
    "fed_avg_m": _fed_opt(
        paper.server_momentum(rounds.MOMENTUM), lambda m, v, t: rounds.SERVER_RATE * m
    ),
    "fed_adam": _adaptive(paper.server_adam),
    "fed_yogi": _adaptive(paper.server_yogi, rounds.INITIAL),
    # TFF adds tau to v, and not to its root.
    "fed_adagrad": _fed_opt(
        paper.server_adagrad(),
        lambda m, v, t: rounds.SERVER_RATE * m / np.sqrt(v + rounds.TAU),
        rounds.INITIAL,
    ),
    "scaffold_1": lambda r: _first(paper.scaffold(_START, r, _CLIENTS, _RATE, 1)),
    "scaffold_2": lambda r: _first(paper.scaffold(_START, r, _CLIENTS, _RATE, 2)),
    "fed_dyn": lambda r: _first(
        paper.fed_dyn(_START, r, _CLIENTS, _RATE, rounds.ALPHA)
    ),
    # One layer has no units to leave out.
    "fed_dropout": lambda r: paper.fed_avg(_START, r, _RATE),
    "fed_nova": lambda r: paper.fed_nova(_START, r, _RATE),
    "fed_nova_momentum": lambda r: paper.fed_nova(
        _START, r, _RATE, momentum=rounds.MOMENTUM
    ),
    "fed_nova_proximal": lambda r: paper.fed_nova(_START, r, _RATE, mu=rounds.MU),
    "fed_exp": lambda r: _first(paper.fed_exp(_START, r, _RATE, epsilon=1e-3)),
    "mime_lite": lambda r: _first(
        paper.mime(_START, r, _RATE, rounds.MOMENTUM, corrects=False)
    ),
    "mime": lambda r: _first(
        paper.mime(_START, r, _RATE, rounds.MOMENTUM, corrects=True)
    ),
    "fed_buff": lambda r: paper.fed_buff(_START, r, _RATE, rounds.STALENESS),
    "adaptive_prox": lambda r: _first(paper.adaptive_prox(_START, r, _RATE, rounds.MU)),
    "ditto": lambda r: _first(paper_personal.ditto(_START, r, _RATE, rounds.DITTO)),
    "fed_rep": lambda r: _first(
        paper_personal.split(_START, r, _RATE, rounds.REP_SHARE, keeps=True)
    ),
    "reconstruction": lambda r: _first(
        paper_personal.split(_START, r, _RATE, rounds.RECON_SHARE, keeps=False)
    ),
    "ifca": lambda r: _first(paper_personal.ifca(rounds.CLUSTERS, r, _RATE)),
}
