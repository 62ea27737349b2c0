"""Every algorithm's NumPy version under the settings of `rounds`, by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Optional

import numpy as np
import paper_algorithms as paper
import paper_personal
import rounds

Path = Callable[[paper.Rounds], "list[Any]"]


class Twin(NamedTuple):
    """What an algorithm comes to after each round, in NumPy.

    Attributes:
      path: rounds of clients -> theta after each, or a tuple of theta and of what the
        server and the clients remember.
      server: where in the tuple the server's memory is, and what it is compared with:
        a function of our server's state.
      clients: where in the tuple the clients' memory is, by name, and what it is
        compared with: a function of a client's row in our table.
    """

    path: Path
    server: Optional[tuple[int, Callable[[Any], Any]]] = None
    clients: Optional[tuple[int, Callable[[np.ndarray], Any]]] = None

    def models(self, rounds_of_clients: paper.Rounds) -> list[np.ndarray]:
        """theta after each round."""
        found = self.path(rounds_of_clients)
        return [each[0] if isinstance(each, tuple) else each for each in found]


def _fed_opt(moments, step, initial=0.0) -> Twin:
    return Twin(
        lambda r: paper.fed_opt(rounds.START, r, rounds.RATE, moments, step, initial)
    )


def _adaptive(moments, initial=0.0) -> Twin:
    def step(m, v, t):
        # What TFF, as the paper's code, multiplies Algorithm 2's server rate by.
        corrected = np.sqrt(1 - rounds.BETA_2**t) / (1 - rounds.BETA_1**t)
        return rounds.SERVER_RATE * corrected * m / (np.sqrt(v) + rounds.TAU)

    return _fed_opt(moments(rounds.BETA_1, rounds.BETA_2), step, initial)


def _averaged(**settings) -> Twin:
    return Twin(lambda r: paper.fed_avg(rounds.START, r, rounds.RATE, **settings))


def _scaffold(option) -> Twin:
    return Twin(
        lambda r: paper.scaffold(
            rounds.START, r, len(rounds.SIZES), rounds.RATE, option
        ),
        server=(1, lambda state: rounds.vector(state[1])),
        clients=(2, lambda row: row),
    )


def _fed_nova(**settings) -> Twin:
    return Twin(lambda r: paper.fed_nova(rounds.START, r, rounds.RATE, **settings))


def _mime(corrects) -> Twin:
    return Twin(
        lambda r: paper.mime(rounds.START, r, rounds.RATE, rounds.MOMENTUM, corrects),
        server=(1, lambda state: rounds.vector(state[1]["accumulator"])),
    )


def _fed_buff(rounds_of_clients) -> list[tuple[np.ndarray, np.ndarray]]:
    """theta, and the last four of them, the newest first."""
    path = paper.fed_buff(
        rounds.START, rounds_of_clients, rounds.RATE, rounds.STALENESS
    )
    oldest = [rounds.START] * 4
    return [
        (theta, np.stack([*path[index::-1], *oldest][:4]))
        for index, theta in enumerate(path)
    ]


def _by_staleness(state) -> np.ndarray:
    return np.concatenate([np.reshape(h, [len(h), -1]) for h in state[1]], axis=1)


def _by_cluster(state) -> np.ndarray:
    return np.concatenate([np.reshape(m, [len(m), -1]) for m in state], axis=1)


TWINS: dict[str, Twin] = {
    "fed_avg": _averaged(),
    "fed_prox": _averaged(mu=rounds.MU),
    "clipped": _averaged(clip=rounds.CLIP),
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
    "scaffold_1": _scaffold(1),
    "scaffold_2": _scaffold(2),
    "fed_dyn": Twin(
        lambda r: paper.fed_dyn(
            rounds.START, r, len(rounds.SIZES), rounds.RATE, rounds.ALPHA
        ),
        server=(1, rounds.vector),
        clients=(2, lambda row: row),
    ),
    # One layer has no units to leave out.
    "fed_dropout": _averaged(),
    "fed_nova": _fed_nova(),
    "fed_nova_momentum": _fed_nova(momentum=rounds.MOMENTUM),
    "fed_nova_proximal": _fed_nova(mu=rounds.MU),
    "fed_exp": Twin(
        lambda r: paper.fed_exp(rounds.START, r, rounds.RATE, epsilon=1e-3),
        server=(1, lambda state: state[0]),
    ),
    "mime_lite": _mime(corrects=False),
    "mime": _mime(corrects=True),
    "fed_buff": Twin(_fed_buff, server=(1, _by_staleness)),
    "adaptive_prox": Twin(
        lambda r: paper.adaptive_prox(rounds.START, r, rounds.RATE, rounds.MU),
        server=(1, lambda state: state[1]),
    ),
    "ditto": Twin(
        lambda r: paper_personal.ditto(rounds.START, r, rounds.RATE, rounds.DITTO),
        clients=(1, lambda row: rounds.START + row),
    ),
    "fed_rep": Twin(
        lambda r: paper_personal.split(
            rounds.START, r, rounds.RATE, rounds.REP_SHARE, keeps=True
        ),
        clients=(1, lambda row: row[0]),
    ),
    "reconstruction": Twin(
        lambda r: paper_personal.split(
            rounds.START, r, rounds.RATE, rounds.RECON_SHARE, keeps=False
        )
    ),
    "ifca": Twin(
        lambda r: paper_personal.ifca(rounds.CLUSTERS, r, rounds.RATE),
        server=(1, _by_cluster),
    ),
}
