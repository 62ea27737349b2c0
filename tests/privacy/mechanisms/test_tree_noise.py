"""Tree noise against the dense matrices of its nodes, and its distribution."""

from __future__ import annotations

import functools

import noise_checks
import noise_stream
import numpy as np
import pytest
import tensorflow as tf

from tfl_research.privacy.mechanisms import noised_sum
from tfl_research.privacy.mechanisms.noise.tree_noise import TreeNoise, node_noise

SEED = noised_sum.seed_tensor(2**80 + 7)
stream = functools.partial(noise_stream.stream, seed=SEED)


def nodes_of(leaves):
    """(level, block) of every complete node over so many leaves."""
    return [
        (level, block)
        for level in range(leaves.bit_length())
        for block in range(leaves >> level)
    ]


def encoder(nodes, leaves):
    """Which leaves are under which node: `[nodes, leaves]`."""
    under = np.zeros((len(nodes), leaves))
    for row, (level, block) in enumerate(nodes):
        under[row, block << level : (block + 1) << level] = 1
    return under


def decoder(leaves, nodes, efficient):
    """Prefix sums' noise of the nodes' noise: `[leaves, nodes]`.

    A prefix is cut into the largest complete nodes. Each is itself, or the least
    squares estimate of its sum from all the nodes below it: 1^T (C^T C)^-1 C^T.
    """
    matrix = np.zeros((leaves, len(nodes)))
    for prefix in range(1, leaves + 1):
        begin = 0
        for level in reversed(range(prefix.bit_length())):
            if not prefix >> level & 1:
                continue
            top = (level, begin >> level)
            begin += 1 << level
            if not efficient:
                matrix[prefix - 1, nodes.index(top)] = 1
                continue
            below = [
                (lower, block)
                for lower, block in nodes
                if lower <= level and block >> (level - lower) == top[1]
            ]
            sub = encoder(below, leaves)[:, begin - (1 << level) : begin]
            weights = np.linalg.pinv(sub).sum(axis=0)
            for node, weight in zip(below, weights):
                matrix[prefix - 1, nodes.index(node)] += weight
    return matrix


@functools.cache
def drawer(size):
    def one(key):
        return node_noise(SEED, key[0], key[1], key[2], size)

    return tf.function(
        lambda keys: tf.map_fn(one, keys, fn_output_signature=tf.float32),
        input_signature=[tf.TensorSpec([None, 3], tf.int32)],
        autograph=False,
    )


def noise_of(keys, size):
    """Noise of these (tree, level, block): float64 `[keys, size]`."""
    return drawer(size)(tf.constant(keys)).numpy().astype(np.float64)


def dense(rounds, restart_every, efficient, size):
    """What `stream` should give, and the matrix `[rounds, nodes of all trees]`."""
    drawn, blocks = [], []
    for tree, begun in enumerate(range(0, rounds, restart_every)):
        leaves = min(restart_every, rounds - begun)
        nodes = nodes_of(leaves)
        prefixes = decoder(leaves, nodes, efficient)
        residuals = np.diff(prefixes, axis=0, prepend=0)
        drawn.append(residuals @ noise_of([(tree, *node) for node in nodes], size))
        blocks.append(residuals)
    size = sum(block.shape[1] for block in blocks)
    matrix, row, column = np.zeros((rounds, size)), 0, 0
    for block in blocks:
        matrix[row : row + len(block), column : column + block.shape[1]] = block
        row, column = row + len(block), column + block.shape[1]
    return np.concatenate(drawn), matrix


@pytest.mark.parametrize("efficient", [False, True], ids=["plain", "honaker"])
class TestDense:
    @pytest.mark.parametrize(("rounds", "restart_every"), [(21, 32), (27, 11), (3, 1)])
    def test_is_the_dense_computation(self, efficient, rounds, restart_every):
        noise = TreeNoise(restart_every, efficient)
        found, _ = stream(noise, rounds, [(2, 3), (), (4,)])
        expected, _ = dense(rounds, restart_every, efficient, 11)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)

    def test_resumes_bit_identically_from_any_round(self, efficient):
        noise, shapes = TreeNoise(8, efficient), [(5,)]
        whole, _ = stream(noise, 20, shapes)
        for stop in (1, 7, 8, 13):
            _, state = stream(noise, stop, shapes)
            rest, _ = stream(noise, 20 - stop, shapes, state=state, first=stop)
            np.testing.assert_array_equal(rest, whole[stop:])

    def test_released_noise_is_distributed_as_declared(self, efficient):
        """Whitened by the declared covariance, rounds are independent normals."""
        rounds, size = 20, 20_000
        drawn, _ = stream(TreeNoise(16, efficient), rounds, [(size,)])
        _, matrix = dense(rounds, 16, efficient, 11)
        noise_checks.check_normal(
            np.linalg.solve(np.linalg.cholesky(matrix @ matrix.T), drawn)
        )
        # Of prefixes, the variance is by the ones of t (the tree's first rounds):
        # each counts 1, or 1/(2 - 2^-h) at level h by Honaker's estimate.
        prefixes = np.cumsum(drawn[:16], axis=0)
        expected = [
            sum(1 / (2 - 2.0**-h) if efficient else 1.0 for h in range(5) if t >> h & 1)
            for t in range(1, 17)
        ]
        slack = noise_checks.limit(16) * np.sqrt(2 / size)
        np.testing.assert_allclose((prefixes**2).mean(axis=1), expected, rtol=slack)


def test_nodes_are_independent_of_each_other():
    keys = [
        (tree, level, block)
        for tree in range(3)
        for level in range(3)
        for block in range(4 >> level)
    ]
    # Also of the halves of a node's coordinates.
    noise_checks.check_normal(noise_of(keys, 20_000).reshape(2 * len(keys), -1))


def test_plain_trees_keep_nothing():
    assert TreeNoise(64, False).initial_state([(3,)]) == ()


def test_unknown_shapes_are_refused():
    with pytest.raises(ValueError, match="known shape"):
        TreeNoise(4, True).initial_state([(None, 3)])
