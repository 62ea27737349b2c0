"""Computes the exact sensitivity of the nodes of DP-FTRL's trees to one client.

Let a client take part in rounds t_1, ..., t_k, with updates of norm at most the clip.
A node moves by at most the clip times the number of these rounds under the node. All
complete nodes together move, in l2 norm, by at most the clip times the root of the sum
of the squares of these numbers; equal updates reach this bound. This module computes
the largest sum of squares over all ways to take part.

The search is a dynamic programme over complete blocks of rounds. A choice within a
block has c rounds, none of them among the first y rounds of the block, and a sum of
squares v. For each (c, y, v) the search keeps the largest number of free rounds at the
block's end. Two blocks join if the free rounds between them keep the separation (as in
Kairouz et al. 2021, arXiv 2103.00039, Appendix D.2).
"""

from __future__ import annotations

import functools

import numpy as np

_IMPOSSIBLE = np.int64(-(1 << 60))


def squared_sensitivities(
    rounds: int, restart_every: int, min_separation: int, rounds_per_epoch: int
) -> np.ndarray:
    """Computes the squared l2 sensitivity of rounds 1 to t, for every t, in clips.

    A client takes part in rounds that are at least `min_separation` apart, and at
    most once in every epoch of `rounds_per_epoch` rounds. If trees end with the epochs
    (`rounds_per_epoch` is a multiple of `restart_every`), the result is exact.
    Otherwise the result is an upper bound: it is computed as if the client could take
    part in any ceil(t / rounds_per_epoch) rounds that are `min_separation` apart.

    Args:
      rounds: number of rounds, at least 1.
      restart_every: rounds of a tree, at least 1.
      min_separation: at least 1.
      rounds_per_epoch: at least `min_separation`.

    Returns:
      float64 `[rounds]`, whole numbers; not decreasing.
    """
    numbers = np.arange(1, rounds + 1)
    if rounds_per_epoch % restart_every == 0:
        # The client is in one tree of each epoch; the deepest tree is the worst case.
        depths = np.floor(np.log2(np.minimum(numbers, restart_every))) + 1
        epochs, position = np.divmod(numbers - 1, rounds_per_epoch)
        return epochs * np.max(depths) + depths[position]
    if rounds_per_epoch == 1:
        return _of_every_round(numbers, restart_every)
    at_most = -(-numbers // rounds_per_epoch)
    return _by_separation(
        rounds, restart_every, min_separation, tuple(map(int, at_most))
    ).astype(np.float64)


def _of_every_round(numbers: np.ndarray, restart_every: int) -> np.ndarray:
    """Computes the squared sensitivity to a client in all of the first t rounds."""
    levels = np.arange(int(restart_every).bit_length())
    # A complete node of 2^h rounds, with the nodes below it: 4^h + 2 * 4^(h-1) + ...
    within = 2.0**levels * (2.0 ** (levels + 1) - 1)

    def of_tree(leaves: np.ndarray) -> np.ndarray:
        return (leaves[:, np.newaxis] >> levels & 1) @ within

    trees, leaves = np.divmod(numbers, restart_every)
    return trees * of_tree(np.array([restart_every])) + of_tree(leaves)


# The choices of a block with a number of participations: {sum of squares: free rounds}.
# Free rounds are int64 `[separation]`: entry y is the largest number of free rounds at
# the block's end if its first y rounds are free, at most separation - 1; -1 if there is
# no such choice.
_Choices = dict[int, np.ndarray]


@functools.lru_cache(maxsize=8)
def _by_separation(
    rounds: int, restart_every: int, separation: int, at_most: tuple[int, ...]
) -> np.ndarray:
    """Computes the largest sum of squares for every t, int64 `[rounds]`.

    A client has at most `at_most[t - 1]` participations in the first t rounds.
    """
    most = min(at_most[-1], -(-rounds // separation))
    separation = min(separation, rounds)
    levels = min(restart_every, rounds).bit_length()
    leaf = np.full(separation, -1)
    leaf[0] = 0
    blocks: list[list[_Choices]] = [[{}, {1: leaf}]]
    while len(blocks) < levels:
        blocks.append(_parent(blocks[-1], 1 << (len(blocks) - 1), separation, most))
    appended = [_latest_ends(block, separation) for block in blocks]
    # value[c, x]: the largest sum of squares of the rounds so far, with c
    # participations, the last at least x rounds ago.
    start = np.full((most + 1, separation), _IMPOSSIBLE)
    start[0] = 0
    result = np.zeros(rounds, np.int64)
    begun = 0
    while begun < rounds:
        # Prefixes of this tree whose length, in binary, is a beginning of the present
        # length.
        prefixes = [(0, start)]
        for leaves in range(1, min(restart_every, rounds - begun) + 1):
            lowest = leaves & -leaves
            while prefixes[-1][0] != leaves - lowest:
                prefixes.pop()
            level = lowest.bit_length() - 1
            value = _append(
                prefixes[-1][1], blocks[level], appended[level], lowest, separation
            )
            prefixes.append((leaves, value))
            allowed = min(at_most[begun + leaves - 1], most)
            result[begun + leaves - 1] = value[: allowed + 1, 0].max()
        start = prefixes[-1][1]
        begun += restart_every
    return result


def _parent(
    half: list[_Choices], size: int, separation: int, most: int
) -> list[_Choices]:
    """Combines the choices of two halves of `size` rounds into the parent's."""
    total = min(most, 2 * (len(half) - 1))
    parent: list[_Choices] = [{} for _ in range(total + 1)]

    def offer(count: int, value: int, free: np.ndarray) -> None:
        value += count * count
        most_free = parent[count].get(value)
        parent[count][value] = (
            free if most_free is None else np.maximum(most_free, free)
        )

    after_left = np.maximum(np.arange(separation) - size, 0)
    for count, choices in enumerate(half[: total + 1]):
        for value, free in choices.items():
            in_left = np.minimum(free + size, separation - 1)
            offer(count, value, np.where(free >= 0, in_left, -1))
            offer(count, value, free[after_left])
    for left_count, lefts in enumerate(half):
        for right_count, rights in enumerate(half[: total + 1 - left_count]):
            for left_value, between in lefts.items():
                # The rounds that the right half must leave free at its start.
                needed = separation - 1 - np.maximum(between, 0)
                for right_value, free in rights.items():
                    joined = np.where(between >= 0, free[needed], -1)
                    if joined[0] >= 0:
                        offer(
                            left_count + right_count, left_value + right_value, joined
                        )
    parent = [_undominated(choices) for choices in parent]
    while not parent[-1]:
        parent.pop()
    return parent


def _undominated(choices: _Choices) -> _Choices:
    """Drops each choice if a choice with a larger sum has as many free rounds."""
    undominated: _Choices = {}
    best: np.ndarray | None = None
    for value in sorted(choices, reverse=True):
        free = choices[value]
        if best is None:
            undominated[value] = best = free
        elif (free > best).any():
            undominated[value] = best = np.maximum(best, free)
    return undominated


def _latest_ends(block: list[_Choices], separation: int) -> list[_Choices]:
    """Finds the fewest free rounds before a block that allow x at its end, for each x.

    The result is int64 `[separation]`; `separation` if the block cannot have x free
    rounds at its end.
    """
    free_at_end = np.arange(separation)
    return [
        {
            # More free rounds before the block demand fewer at its start.
            value: np.searchsorted(free[::-1], free_at_end)
            for value, free in choices.items()
        }
        for choices in block
    ]


def _append(
    before: np.ndarray,
    block: list[_Choices],
    fewest: list[_Choices],
    size: int,
    separation: int,
) -> np.ndarray:
    """Appends a complete node to the rounds so far; the result is int64 `[c, x]`."""
    after = before[:, np.maximum(np.arange(separation) - size, 0)]
    impossible = np.full((len(before), 1), _IMPOSSIBLE)
    padded = np.concatenate([before, impossible], axis=1)
    for count in range(1, min(len(block), len(after))):
        for value, free in block[count].items():
            alone = np.where(free[0] >= np.arange(separation), value, _IMPOSSIBLE)
            np.maximum(after[count], alone, out=after[count])
            joined = padded[1 : len(after) - count, fewest[count][value]] + value
            target = after[count + 1 :]
            np.maximum(target, joined, out=target)
    return after
