"""Federated algorithms in float64 NumPy, written from their papers.

The model is linear with loss (A theta - y)^2 / 2, theta = (weights, bias), A = (x, 1).
A round is `{client: Client}`; clients without local steps are not in the papers' S.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Client(NamedTuple):
    """Local steps, each (A `[batch, d]`, y `[batch]`), and n distinct examples."""

    batches: list[tuple[np.ndarray, np.ndarray]]
    n: int


Rounds = Sequence[Mapping[str, Client]]


def client(x, y, *, batch_size, epochs, limit=None):
    """The steps of so many epochs in the examples' order, cut off after `limit`."""
    design = np.concatenate([np.asarray(x, float), np.ones((len(y), 1))], axis=1)
    batches: list[Any] = []
    seen: set[int] = set()
    for _ in range(epochs):
        for first in range(0, len(y), batch_size):
            if limit is not None and len(batches) == limit:
                break
            rows = range(first, min(first + batch_size, len(y)))
            batches.append((design[rows], np.asarray(y, float)[rows]))
            seen.update(rows)
    return Client(batches, len(seen))


def gradient(theta, batch):
    design, y = batch
    return design.T @ (design @ theta - y) / len(y)


def full_gradient(theta, batches):
    design = np.concatenate([a for a, _ in batches])
    return gradient(theta, (design, np.concatenate([y for _, y in batches])))


def full_loss(theta, batches):
    errors = np.concatenate([a @ theta - y for a, y in batches])
    return 0.5 * np.mean(errors**2)


def working(present):
    """The clients of a round that do something."""
    return {name: c for name, c in present.items() if c.batches}


def shares(present):
    """p_i = n_i / n."""
    total = sum(c.n for c in present.values())
    return {name: c.n / total for name, c in present.items()}


def local_sgd(theta, batches, rate, mu=0.0, clip=np.inf):
    y = theta.copy()
    for batch in batches:
        g = gradient(y, batch) + mu * (y - theta)
        y = y - rate * g * min(1.0, clip / np.linalg.norm(g))
    return y


def fed_avg(theta, rounds: Rounds, rate, mu=0.0, uniform=False, clip=np.inf):
    """McMahan et al. 2017, Algorithm 1; with mu Li et al. 2020, Algorithm 2."""
    path = []
    for present in rounds:
        present = working(present)
        p = shares(present)
        if uniform:
            p = {name: 1 / len(present) for name in present}
        theta = sum(
            p[name] * local_sgd(theta, c.batches, rate, mu, clip)
            for name, c in present.items()
        )
        path.append(theta)
    return path


def server_momentum(momentum):
    """FedAvgM (Hsu et al. 2019, arXiv 1909.06335): v <- beta v + Delta."""
    return lambda m, v, delta: (momentum * m + delta, v)


def server_adagrad():
    """Reddi et al. 2020, Algorithm 2 with beta_1 = 0: v <- v + Delta^2."""
    return lambda m, v, delta: (delta, v + delta**2)


def server_adam(beta_1, beta_2):
    return lambda m, v, delta: (
        beta_1 * m + (1 - beta_1) * delta,
        beta_2 * v + (1 - beta_2) * delta**2,
    )


def server_yogi(beta_1, beta_2):
    return lambda m, v, delta: (
        beta_1 * m + (1 - beta_1) * delta,
        v - (1 - beta_2) * delta**2 * np.sign(v - delta**2),
    )


def fed_opt(theta, rounds: Rounds, rate, moments, step, initial=0.0):
    """Reddi et al. 2020, Algorithm 2: theta <- theta + step(m, v, t)."""
    m, v, path = np.zeros_like(theta), np.full_like(theta, initial), []
    for t, present in enumerate(rounds, start=1):
        (average,) = fed_avg(theta, [present], rate)
        m, v = moments(m, v, average - theta)
        theta = theta + step(m, v, t)
        path.append(theta)
    return path


def scaffold(theta, rounds: Rounds, population, rate, option, server_rate=1.0):
    """Karimireddy et al. 2020, Algorithm 1."""
    c_i: dict[str, Any] = {}
    c, path = np.zeros_like(theta), []
    for present in rounds:
        present = working(present)
        moves, changes = [], []
        for name, k in present.items():
            own, y = c_i.get(name, np.zeros_like(theta)), theta.copy()
            for batch in k.batches:
                y = y - rate * (gradient(y, batch) - own + c)  # line 10
            if option == 1:  # line 12
                plus = full_gradient(theta, k.batches)
            else:
                plus = own - c + (theta - y) / (len(k.batches) * rate)
            moves.append(y - theta)
            changes.append(plus - own)
            c_i[name] = plus  # line 14
        theta = theta + server_rate * np.mean(moves, axis=0)  # lines 16, 17
        c = c + len(present) / population * np.mean(changes, axis=0)
        path.append((theta, c, dict(c_i)))
    return path


def fed_dyn(theta, rounds: Rounds, population, rate, alpha):
    """Acar et al. 2021, Algorithm 1, with gradient steps on equation 1."""
    g_k: dict[str, Any] = {}
    h, path = np.zeros_like(theta), []
    for present in rounds:
        present = working(present)
        models = []
        for name, k in present.items():
            own, w = g_k.get(name, np.zeros_like(theta)), theta.copy()
            for batch in k.batches:
                w = w - rate * (gradient(w, batch) - own + alpha * (w - theta))
            g_k[name] = own - alpha * (w - theta)
            models.append(w)
        h = h - alpha / population * sum(w - theta for w in models)
        theta = np.mean(models, axis=0) - h / alpha
        path.append((theta, h, dict(g_k)))
    return path


def accumulation(tau, rate, momentum=0.0, mu=0.0):
    """a of Wang et al. 2020, section 4.1: what each gradient adds to the update.

    Found by taking the steps with one gradient of 1 and zeros otherwise.
    """
    a = []
    for k in range(tau):
        y = velocity = 0.0
        for step in range(tau):
            velocity = momentum * velocity + float(step == k) + mu * y
            y -= rate * velocity
        a.append(-y / rate)
    return np.array(a)


def fed_nova(theta, rounds: Rounds, rate, momentum=0.0, mu=0.0):
    """Wang et al. 2020, equation 8 with tau_eff = sum_i p_i ||a_i||_1."""
    path = []
    for present in rounds:
        present = working(present)
        p, effective, step = shares(present), 0.0, np.zeros_like(theta)
        for name, k in present.items():
            y, velocity, gradients = theta.copy(), np.zeros_like(theta), []
            for batch in k.batches:
                gradients.append(gradient(y, batch))
                velocity = momentum * velocity + gradients[-1] + mu * (y - theta)
                y = y - rate * velocity
            a = accumulation(len(k.batches), rate, momentum, mu)
            effective += p[name] * a.sum()
            step += p[name] * (a @ np.array(gradients)) / a.sum()
        theta = theta - effective * rate * step
        path.append(theta)
    return path


def fed_exp(theta, rounds: Rounds, rate, epsilon):
    """Jhunjhunwala et al. 2023, Algorithm 1 with equation 6, clients weighed by p_i."""
    path = []
    for present in rounds:
        present = working(present)
        p = shares(present)
        deltas = {
            n: theta - local_sgd(theta, k.batches, rate) for n, k in present.items()
        }
        mean = sum(p[n] * d for n, d in deltas.items())
        spread = sum(p[n] * d @ d for n, d in deltas.items())
        eta = max(1.0, spread / (2 * (mean @ mean + epsilon)))
        theta = theta - eta * mean
        path.append((theta, eta))
    return path


def mime(theta, rounds: Rounds, rate, momentum, corrects, server_rates=None):
    """Karimireddy et al. 2021, Algorithm 1, with U(g, s) = g + momentum s = V(g, s).

    Args:
      rate: of the clients in every round, or one for each round.
      server_rates: of the server in each round; 1 where there are none. A round
        without clients changes nothing.
    """
    s, path = np.zeros_like(theta), []
    rates = np.broadcast_to(rate, [len(rounds)])
    for present, rate, server_rate in zip(
        rounds, rates, server_rates or np.ones(len(rounds))
    ):
        present = working(present)
        if not present:
            path.append((theta, s))
            continue
        p = shares(present)
        c = sum(p[n] * full_gradient(theta, k.batches) for n, k in present.items())
        mean = np.zeros_like(theta)
        for name, k in present.items():
            y = theta.copy()
            for batch in k.batches:
                g = gradient(y, batch)
                if corrects:
                    g = g - gradient(theta, batch) + c
                y = y - rate * (g + momentum * s)
            mean += p[name] * y
        s, theta = c + momentum * s, theta + server_rate * (mean - theta)
        path.append((theta, s))
    return path


def fed_buff(theta, rounds: Rounds, rate, staleness, server_rate=1.0):
    """Nguyen et al. 2022, Algorithm 1 with the staleness weight of section 5.1.

    A round is a full buffer of K updates; `staleness` has a `{client: server steps}`
    for each. A client without examples has sent a zero update.
    """
    models, path = [theta], []
    for present, ages in zip(rounds, staleness):
        buffer = np.zeros_like(theta)
        for name, k in present.items():
            start = models[max(len(models) - 1 - ages[name], 0)]
            delta = local_sgd(start, k.batches, rate) - start
            buffer += delta / np.sqrt(1 + ages[name])
        models.append(models[-1] + server_rate * buffer / len(present))
        path.append(models[-1])
    return path


def adaptive_prox(theta, rounds: Rounds, rate, mu, change=0.1, patience=5):
    """Li et al. 2020, Algorithm 2 with the heuristic of section 5.3.2."""
    path, losses, falls = [], [], 0
    for present in rounds:
        present = working(present)
        p = shares(present)
        losses.append(
            sum(p[n] * full_loss(theta, k.batches) for n, k in present.items())
        )
        theta = sum(
            p[n] * local_sgd(theta, k.batches, rate, mu) for n, k in present.items()
        )
        if len(losses) > 1:
            falls = falls + 1 if losses[-1] < losses[-2] else 0
            if losses[-1] > losses[-2]:
                mu += change
            if falls == patience:
                mu, falls = max(mu - change, 0.0), 0
        path.append((theta, mu))
    return path
