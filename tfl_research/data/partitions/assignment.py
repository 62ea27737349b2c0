"""Partitions a data set into clients, as pure functions of labels and generator.

Every function returns an ascending int64 index array for each client. Each example has
exactly one client, and no client is empty.
"""

from __future__ import annotations

import math

import numpy as np


def _check(num_examples: int, num_clients: int) -> None:
    if num_clients < 1:
        raise ValueError(f"num_clients must be at least 1, got {num_clients}")
    if num_clients > num_examples:
        raise ValueError(
            f"num_clients must be at most the number of examples, {num_examples}, "
            f"got {num_clients}"
        )


# The time of NumPy's Dirichlet draws grows with 1 / alpha: hours below 1e-11. At 1e-6 a
# draw already gives all weight to a single client or class.
_LEAST_ALPHA = 1e-6


def _check_alpha(alpha: float) -> None:
    if not (alpha > 0 and math.isfinite(alpha)):
        raise ValueError(f"alpha must be above 0 and finite, got {alpha}")
    if alpha < _LEAST_ALPHA:
        raise ValueError(
            f"alpha must be at least {_LEAST_ALPHA:g}, got {alpha:g}; a smaller alpha "
            "gives no stronger skew, and its draws take minutes to hours"
        )


def iid(
    labels: np.ndarray, num_clients: int, generator: np.random.Generator
) -> list[np.ndarray]:
    """Makes a uniformly random partition; sizes differ by at most one.

    Args:
      labels: `[n]`; only the length is used.
      num_clients: between 1 and n.
      generator: source of the shuffle.

    Raises:
      ValueError: fewer than one client, or more clients than examples.
    """
    _check(len(labels), num_clients)
    order = generator.permutation(len(labels))
    return [np.sort(part) for part in np.array_split(order, num_clients)]


def dirichlet(
    labels: np.ndarray,
    num_clients: int,
    generator: np.random.Generator,
    *,
    alpha: float,
) -> list[np.ndarray]:
    """Label skew: each client's label distribution is a Dirichlet draw.

    The partition of Hsu et al. 2019 (arXiv 1909.06335): all clients have the same
    size, and client k's labels follow q_k ~ Dirichlet(alpha * C * p), with p the label
    distribution of the data set and C its number of classes. With balanced classes
    this is the symmetric Dirichlet(alpha). The paper's concentration, without the
    factor C, is C times this alpha.

    Clients take examples in turns, one at a time and without replacement. When a class
    is used up, its probability becomes zero and the other probabilities are
    renormalised: the class ends for all clients at once, and the last turns follow q_k
    less closely. Sizes differ by at most one, so no client is empty.

    Args:
      labels: `[n]` labels of any comparable type.
      num_clients: between 1 and n.
      generator: source of every draw.
      alpha: concentration, at least 1e-6 and finite; near 0 a client holds one class,
        large values approach `iid`.

    Raises:
      ValueError: `alpha` is below 1e-6 or not finite, fewer than one client, or more
        clients than examples.
    """
    _check_alpha(alpha)
    _check(len(labels), num_clients)
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    # Each class' examples, shuffled; they are taken from the end.
    pools = [
        generator.permutation(np.flatnonzero(classes == c)) for c in range(len(counts))
    ]
    remaining = counts.copy()
    mixtures = generator.dirichlet(
        alpha * len(counts) * counts / len(labels), size=num_clients
    )
    parts: list[list[int]] = [[] for _ in range(num_clients)]
    for turn, uniform in enumerate(generator.random(len(labels))):
        client = turn % num_clients
        weights = mixtures[client] * (remaining > 0)
        if weights.sum() <= 0:  # all classes of the client's mixture are used up
            weights = remaining.astype(np.float64)
        cumulative = np.cumsum(weights)
        # Scaling by the last sum keeps rounding from an index past the end. "right"
        # skips classes of weight zero.
        chosen = int(np.searchsorted(cumulative, uniform * cumulative[-1], "right"))
        chosen = min(chosen, int(np.flatnonzero(weights)[-1]))
        remaining[chosen] -= 1
        parts[client].append(int(pools[chosen][remaining[chosen]]))
    return [np.sort(np.asarray(part, np.int64)) for part in parts]


def shards(
    labels: np.ndarray,
    num_clients: int,
    generator: np.random.Generator,
    *,
    shards_per_client: int = 2,
) -> list[np.ndarray]:
    """Pathological label skew: each client gets a few shards of sorted examples.

    McMahan et al. 2017 (arXiv 1602.05629, section 3): sort by label, cut into
    `num_clients * shards_per_client` shards whose sizes differ by at most one, and
    deal `shards_per_client` shards at random to each client. If every shard has a
    single label, a client has at most `shards_per_client` labels.

    Args:
      labels: `[n]` labels of any comparable type.
      num_clients: at least 1.
      generator: deals the shards.
      shards_per_client: at least 1.

    Raises:
      ValueError: a number is below 1, or there are more shards than examples.
    """
    _check(len(labels), num_clients)
    if shards_per_client < 1:
        raise ValueError(
            f"shards_per_client must be at least 1, got {shards_per_client}"
        )
    num_shards = num_clients * shards_per_client
    if num_shards > len(labels):
        raise ValueError(
            f"{num_clients} clients of {shards_per_client} shards need at least "
            f"{num_shards} examples, got {len(labels)}"
        )
    pieces = np.array_split(np.argsort(labels, kind="stable"), num_shards)
    dealt = generator.permutation(num_shards).reshape(num_clients, shards_per_client)
    return [np.sort(np.concatenate([pieces[s] for s in hand])) for hand in dealt]


def quantity(
    labels: np.ndarray,
    num_clients: int,
    generator: np.random.Generator,
    *,
    alpha: float,
) -> list[np.ndarray]:
    """Quantity skew: clients of unequal size whose labels are IID.

    Li et al. 2022, "Federated Learning on Non-IID Data Silos" (NIID-Bench,
    arXiv 2102.02079): client k gets a share q_k of the examples, with
    q ~ Dirichlet_N(alpha). The paper draws again until every client has enough
    examples. Here each client gets one example and its share of the other examples, so
    that the draw ends for any alpha and no client is empty.

    Args:
      labels: `[n]`; only the length is used.
      num_clients: between 1 and n.
      generator: source of the shares and of the shuffle.
      alpha: concentration, at least 1e-6 and finite; near 0 one client holds nearly
        everything, large values approach `iid`.

    Raises:
      ValueError: `alpha` is below 1e-6 or not finite, fewer than one client, or more
        clients than examples.
    """
    _check_alpha(alpha)
    _check(len(labels), num_clients)
    sizes = sizes_from_shares(
        len(labels), generator.dirichlet(np.full(num_clients, alpha))
    )
    order = generator.permutation(len(labels))
    return [np.sort(part) for part in np.split(order, np.cumsum(sizes)[:-1])]


def sizes_from_shares(num_examples: int, shares: np.ndarray) -> np.ndarray:
    """Integer client sizes from shares: one example each, the others in proportion.

    Each client gets one example, and its share of the other `num_examples -
    num_clients` examples, rounded down. The examples that remain after rounding go to
    the clients with the largest remainders; of equal remainders the earlier client
    comes first.

    Args:
      num_examples: n, at least the number of clients.
      shares: float64 `[clients]`, not negative, of sum 1.

    Returns:
      Int64 `[clients]`, each at least 1, of sum n.

    Raises:
      ValueError: more clients than examples, no clients, or shares that are
        negative, not finite or not of sum 1.
    """
    _check(num_examples, len(shares))
    shares = np.asarray(shares, np.float64)
    if not (np.all(shares >= 0) and abs(shares.sum() - 1) < 1e-6):
        raise ValueError(f"shares must be at least 0 and of sum 1, got {shares}")
    exact = (num_examples - len(shares)) * shares
    sizes = np.floor(exact).astype(np.int64)
    remaining = num_examples - len(shares) - int(sizes.sum())
    # If the sum of shares is not exactly 1, more examples than clients or fewer than
    # none can remain.
    order = np.argsort(-(exact - sizes), kind="stable")
    np.add.at(sizes, order[np.arange(max(0, remaining)) % len(order)], 1)
    while remaining < 0:
        sizes[int(np.argmax(sizes))] -= 1
        remaining += 1
    return sizes + 1
