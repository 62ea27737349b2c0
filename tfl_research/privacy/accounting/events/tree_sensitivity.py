"""How much one client moves the nodes of DP-FTRL's trees, in the worst case, exactly.

A client whose updates have norm at most the clip and who takes part in rounds
t_1, ..., t_k moves a node by at most the number of these rounds that are under the
node, times the clip, and moves all complete nodes together, in l2 norm, by at most
the root of the sum of these numbers' squares; equal updates reach it. What is found
here is the largest sum of squares over all ways to take part.

The search is a dynamic programme over complete blocks of rounds. For c rounds taken
within a block, none of them among its first y, and a sum of squares of v, what counts
is how many rounds can be left free at the block's end. Two blocks join where the free
rounds between them leave the wanted separation (as in Kairouz et al. 2021, arXiv
2103.00039, Appendix D.2).
"""

from __future__ import annotations

import functools

import numpy as np

_IMPOSSIBLE = np.int64(-(1 << 60))


def squared_sensitivities(
    rounds: int, restart_every: int, min_separation: int, rounds_per_epoch: int
) -> np.ndarray:
    """Squared l2 sensitivity over the clip of rounds 1 to t, for every t.

    A client takes part in rounds that are at least `min_separation` apart, and at
    most once in every `rounds_per_epoch` rounds from the first on. Where trees end
    with the epochs (`rounds_per_epoch` is a multiple of `restart_every`), that is
    what is counted. Elsewhere only the number of epochs begun is, which can only
    exceed it: at most ceil(t / rounds_per_epoch) rounds, `min_separation` apart.

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
        # One tree of each epoch has the client: the deepest that was grown.
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
    """Of a client that takes part in each of the first t rounds, for every t."""
    levels = np.arange(int(restart_every).bit_length())
    # A complete node of 2^h rounds and those below it: 4^h + 2 * 4^(h-1) + ...
    within = 2.0**levels * (2.0 ** (levels + 1) - 1)

    def of_tree(leaves: np.ndarray) -> np.ndarray:
        return (leaves[:, np.newaxis] >> levels & 1) @ within

    trees, leaves = np.divmod(numbers, restart_every)
    return trees * of_tree(np.array([restart_every])) + of_tree(leaves)


# Of a block, for one number of participations: {sum of squares: free rounds}. The
# latter is int64 `[separation]`: entry y is the most rounds that can be free at the
# block's end where the first y are, at most separation - 1, and -1 where none can.
_Choices = dict[int, np.ndarray]


@functools.lru_cache(maxsize=8)
def _by_separation(
    rounds: int, restart_every: int, separation: int, at_most: tuple[int, ...]
) -> np.ndarray:
    """int64 `[rounds]`; `at_most[t - 1]` participations in the first t rounds."""
    most = min(at_most[-1], -(-rounds // separation))
    separation = min(separation, rounds)
    levels = min(restart_every, rounds).bit_length()
    leaf = np.full(separation, -1)
    leaf[0] = 0
    blocks: list[list[_Choices]] = [[{}, {1: leaf}]]
    while len(blocks) < levels:
        blocks.append(_parent(blocks[-1], 1 << (len(blocks) - 1), separation, most))
    appended = [_latest_ends(block, separation) for block in blocks]
    # value[c, x]: the rounds so far, the last participation at least x rounds ago.
    start = np.full((most + 1, separation), _IMPOSSIBLE)
    start[0] = 0
    found = np.zeros(rounds, np.int64)
    begun = 0
    while begun < rounds:
        # Prefixes of this tree whose binary forms begin the present one's.
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
            taken = min(at_most[begun + leaves - 1], most)
            found[begun + leaves - 1] = value[: taken + 1, 0].max()
        start = prefixes[-1][1]
        begun += restart_every
    return found


def _parent(
    half: list[_Choices], size: int, separation: int, most: int
) -> list[_Choices]:
    """A complete node of two halves of `size` rounds each."""
    total = min(most, 2 * (len(half) - 1))
    parent: list[_Choices] = [{} for _ in range(total + 1)]

    def offer(count: int, value: int, free: np.ndarray) -> None:
        value += count * count
        known = parent[count].get(value)
        parent[count][value] = free if known is None else np.maximum(known, free)

    first = np.maximum(np.arange(separation) - size, 0)
    for count, choices in enumerate(half[: total + 1]):
        for value, free in choices.items():
            left = np.minimum(free + size, separation - 1)
            offer(count, value, np.where(free >= 0, left, -1))
            offer(count, value, free[first])
    for left_count, lefts in enumerate(half):
        for right_count, rights in enumerate(half[: total + 1 - left_count]):
            for left_value, between in lefts.items():
                # How many rounds the right half must then leave free at its start.
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
    """Without those to which a larger sum leaves as many free rounds."""
    kept: _Choices = {}
    best: np.ndarray | None = None
    for value in sorted(choices, reverse=True):
        free = choices[value]
        if best is None:
            kept[value] = best = free
        elif (free > best).any():
            kept[value] = best = np.maximum(best, free)
    return kept


def _latest_ends(block: list[_Choices], separation: int) -> list[_Choices]:
    """For each wanted x, the fewest free rounds before the block that allow it.

    int64 `[separation]`, `separation` where the block cannot have x free rounds at
    its end.
    """
    wanted = np.arange(separation)
    return [
        {
            # The more rounds are free before, the more can be at the end.
            value: np.searchsorted(free[::-1], wanted)
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
    """The rounds so far and one complete node more: int64 `[c, x]`."""
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
