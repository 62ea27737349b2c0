"""Algorithms with personal models in float64 NumPy, written from their papers.

Model, loss and rounds are those of `paper_algorithms`; the personal part of theta is
the bias, its last entry.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import paper_algorithms as paper

BODY, HEAD = np.array([1.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])


def mean(present, moves):
    """The moves' mean by examples."""
    p = paper.shares(present)
    return sum(p[name] * moves[name] for name in present)


def ditto(theta, rounds, rate, strength):
    """Li et al. 2021, Algorithm 1; v_k begins at the initial theta."""
    v: dict[str, Any] = {}
    initial, path = theta, []
    for present in rounds:
        present = paper.working(present)
        moves = {}
        for name, k in present.items():
            moves[name] = paper.local_sgd(theta, k.batches, rate) - theta
            own = v.get(name, initial)
            for batch in k.batches:
                own = own - rate * (
                    paper.gradient(own, batch) + strength * (own - theta)
                )
            v[name] = own
        theta = theta + mean(present, moves)
        path.append((theta, dict(v)))
    return path


def phases(batches, share):
    """The head's steps and the body's; a single step is taken for both."""
    n = len(batches)
    k = min(max(int(np.floor(share * n + 0.5)), 1), max(n - 1, 1))
    return batches[:k], batches[min(k, n - 1) :]


def two_phases(theta, batches, rate, share):
    """Steps on the head, then on the body."""
    own, common = phases(batches, share)
    for batch in own:
        theta = theta - rate * HEAD * paper.gradient(theta, batch)
    for batch in common:
        theta = theta - rate * BODY * paper.gradient(theta, batch)
    return theta


def queried(k, share):
    """|D_q|: distinct examples in the steps on the body, at most the client's n."""
    return min(sum(len(y) for _, y in phases(k.batches, share)[1]), k.n)


def split(theta, rounds, rate, share, keeps):
    """Collins et al. 2021, Algorithm 1 (heads are kept), or Singhal et al. 2021,
    Algorithm 1 (heads are made anew, and clients count by their query examples)."""
    heads: dict[str, Any] = {}
    first, path = theta[-1], []
    for present in rounds:
        present = paper.working(present)
        moves = {}
        for name, k in present.items():
            start = np.append(theta[:-1], heads.get(name, first))
            end = two_phases(start, k.batches, rate, share)
            moves[name] = BODY * (end - start)
            if keeps:
                heads[name] = end[-1]
        if not keeps:
            present = {
                name: k._replace(n=queried(k, share)) for name, k in present.items()
            }
        theta = theta + mean(present, moves)
        path.append((theta, dict(heads)))
    return path


def ifca(models, rounds, rate):
    """Ghosh et al. 2020, Algorithm 1, option II, clients weighed by their examples."""
    models, path = [np.array(m, float) for m in models], []
    for present in rounds:
        present = paper.working(present)
        chosen, moves = {}, {}
        for name, k in present.items():
            losses = [paper.full_loss(m, k.batches) for m in models]
            j = chosen[name] = int(np.argmin(losses))
            moves[name] = paper.local_sgd(models[j], k.batches, rate) - models[j]
        sizes = np.zeros(len(models))
        for j, _ in enumerate(models):
            members = {name: k for name, k in present.items() if chosen[name] == j}
            sizes[j] = sum(k.n for k in members.values())
            if members:
                models[j] = models[j] + mean(members, moves)
        average = np.average(models, axis=0, weights=sizes)
        path.append((average, [m.copy() for m in models], chosen))
    return path
