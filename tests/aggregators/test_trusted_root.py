"""FLTrust as an aggregation, against NumPy written from the paper; norm clipping."""

from __future__ import annotations

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tfl_research.aggregators import (
    AttackedFactory,
    NormClipping,
    NormClippingFactory,
    StackingFactory,
    TrustedRootFactory,
    rules,
)
from tfl_research.aggregators.roles import role_weight_type

# Members that the alphabet would order otherwise.
VALUE = tff.StructWithPythonType(
    [("z", tff.TensorType(np.float32, [2, 2])), ("a", tff.TensorType(np.float32, [3]))],
    collections.OrderedDict,
)
ROOT, MALICIOUS = 2, 1
NAN = float("nan")


pytestmark = pytest.mark.usefixtures("on_a_worker")


def packed(vector):
    vector = np.asarray(vector, np.float32)
    return collections.OrderedDict(z=vector[:4].reshape(2, 2), a=vector[4:])


def vector(value):
    return np.concatenate([np.ravel(value["z"]), np.ravel(value["a"])])


def weight(role=0, weight=1.0):
    return collections.OrderedDict(weight=np.float32(weight), role=np.int32(role))


def by_paper(rows, root):
    """Equations 2 to 4 of arXiv 2012.13995, in float64, one client at a time."""
    total, trusts = np.zeros(len(root)), 0.0
    for row in np.asarray(rows, np.float64):
        length = np.linalg.norm(row)
        if length == 0:
            continue
        cosine = row @ root / (length * np.linalg.norm(root))
        trust = max(cosine, 0.0)
        total += trust * np.linalg.norm(root) / length * row
        trusts += trust
    return total / trusts if trusts else total


@pytest.fixture(scope="module")
def fltrust():
    return TrustedRootFactory(capacity=6, root_role=ROOT).create(
        VALUE, role_weight_type()
    )


def run(process, rows, roles, weights=None):
    weights = weights or [1.0] * len(rows)
    output = process.next(
        process.initialize(),
        [packed(row) for row in rows],
        [weight(role, w) for role, w in zip(roles, weights)],
    )
    return vector(output.result), {k: int(v) for k, v in output.measurements.items()}


class TestTrustedRoot:
    @pytest.mark.parametrize("place", [0, 2, 5])
    def test_agrees_with_the_paper_wherever_the_root_is(self, fltrust, place):
        generator = np.random.default_rng(place)
        root = generator.normal(size=7).astype(np.float32)
        clients = generator.normal(size=(5, 7)).astype(np.float32) + 0.5 * root
        clients[1] = -3 * root  # points the other way
        clients[3] = 1e6 * clients[0]  # counts no more than its direction
        rows, roles = list(clients), [0] * 5
        rows.insert(place, root)
        roles.insert(place, ROOT)
        found, measured = run(fltrust, rows, roles)
        np.testing.assert_allclose(found, by_paper(clients, root), rtol=1e-5, atol=1e-6)
        assert (measured["stacked"], measured["skipped"]) == (5, 0)
        cosines = clients.astype(np.float64) @ root
        assert measured["trusted"] == int((cosines > 0).sum()) < 5

    def test_the_root_takes_no_place_among_the_clients(self, fltrust):
        # Six clients fit, with the root seven took part.
        rows = np.eye(7)[:6] + 1.0
        root = np.ones(7)
        found, measured = run(fltrust, [root, *rows], [ROOT] + [0] * 6)
        assert (measured["stacked"], measured["dropped"]) == (6, 0)
        np.testing.assert_allclose(found, by_paper(rows, root), rtol=1e-5)

    def test_hostile_and_absent_clients_are_left_out(self, fltrust):
        root = np.arange(1.0, 8.0)
        rows = [root, 2 * root, np.full(7, NAN), np.full(7, 9.0), root[::-1]]
        found, measured = run(
            fltrust, rows, [ROOT, 0, 0, 0, MALICIOUS], [1.0, 1.0, 1.0, 0.0, 1.0]
        )
        kept = [2 * root, root[::-1]]
        np.testing.assert_allclose(found, by_paper(kept, root), rtol=1e-5)
        assert (measured["stacked"], measured["excluded"]) == (2, 1)

    @pytest.mark.parametrize(
        ("rows", "roles"),
        [
            ([np.ones(7), np.ones(7)], [0, 0]),
            ([np.ones(7), np.ones(7), np.ones(7)], [ROOT, ROOT, 0]),
            ([np.full(7, NAN), np.ones(7)], [ROOT, 0]),
            ([np.zeros(7), np.ones(7)], [ROOT, 0]),
            ([np.ones(7), -np.ones(7)], [ROOT, 0]),
            ([np.ones(7)], [ROOT]),
            ([], []),
        ],
        ids=["none", "two", "not finite", "zero", "nobody trusted", "alone", "empty"],
    )
    def test_without_trust_the_round_is_skipped(self, fltrust, rows, roles):
        found, measured = run(fltrust, rows, roles)
        np.testing.assert_array_equal(found, np.zeros(7))
        assert (measured["skipped"], measured["trusted"]) == (1, 0)

    def test_an_attack_sees_the_clients_and_not_the_root(self):
        seen = []

        def attack(values, malicious, present, seed):
            del seed
            seen.append(int(values.shape[1]))
            honest = tf.cast(present & tf.logical_not(malicious), tf.float32)
            mean = tf.linalg.matvec(values, honest, transpose_a=True)
            mean /= tf.reduce_sum(honest)
            return tf.where(malicious[:, None], -mean, values)

        process = AttackedFactory(
            TrustedRootFactory(capacity=4, root_role=ROOT),
            attack,
            malicious_role=MALICIOUS,
        ).create(VALUE, role_weight_type())
        generator = np.random.default_rng(3)
        root = generator.normal(size=7)
        honest = generator.normal(size=(3, 7)) + root
        rows = [honest[0], root, honest[1], np.full(7, 50.0), honest[2]]
        found, measured = run(process, rows, [0, ROOT, 0, MALICIOUS, 0])
        sent = [*honest, -honest.mean(0)]
        np.testing.assert_allclose(found, by_paper(sent, root), rtol=1e-5, atol=1e-6)
        assert (measured["stacked"], measured["trusted"]) == (4, 3)
        assert seen == [7]

    @pytest.mark.parametrize(
        ("build", "message"),
        [
            (lambda: TrustedRootFactory(0, ROOT), "capacity must be at least 1, got 0"),
            (lambda: TrustedRootFactory(3, 0), "root_role must be at least 1, got 0"),
            (
                lambda: TrustedRootFactory(3, ROOT).create(
                    VALUE, tff.TensorType(np.float32)
                ),
                "the role tells which update is the root",
            ),
        ],
    )
    def test_refuses(self, build, message):
        with pytest.raises(ValueError, match=message):
            build()


class TestNormClipping:
    def test_is_the_rule_without_a_stack(self):
        generator = np.random.default_rng(0)
        rows = generator.normal(size=(5, 7)).astype(np.float32)
        rows[1] *= 1e25  # its square is beyond float32
        rows[2] = 0
        rows[3] *= 1e-3
        weights = np.float32([1, 2, 0.5, 4, 1])
        weight_type = tff.TensorType(np.float32)
        values = [packed(row) for row in rows]
        clipping = NormClippingFactory(1.5).create(VALUE, weight_type)
        found = clipping.next(clipping.initialize(), values, list(weights))
        expected = np.zeros(7)
        for row, own in zip(rows.astype(np.float64), weights):
            norm = np.linalg.norm(row)
            expected += own * row * (min(1.0, 1.5 / norm) if norm else 1.0)
        np.testing.assert_allclose(
            vector(found.result), expected / weights.sum(), rtol=1e-6, atol=1e-7
        )
        rule = NormClipping(clip_radius=1.5)
        factory = StackingFactory(rule, capacity=5, weighted=True)
        stacked = factory.create(VALUE, weight_type)
        other = stacked.next(stacked.initialize(), values, list(weights))
        np.testing.assert_allclose(
            vector(found.result), vector(other.result), rtol=1e-6, atol=1e-7
        )

    def test_nobody_is_zero(self):
        process = NormClippingFactory(1.0).create(VALUE, tff.TensorType(np.float32))
        found = process.next(process.initialize(), [], [])
        np.testing.assert_array_equal(vector(found.result), np.zeros(7))

    def test_members_are_those_of_what_it_clips_for(self):
        plain = NormClippingFactory(1.0)
        assert (plain.client_members, plain.screens_updates) == ((), False)
        over_root = NormClippingFactory(1.0, TrustedRootFactory(3, ROOT))
        assert over_root.client_members == ("role",)
        assert over_root.screens_updates

    @pytest.mark.parametrize("radius", [0.0, -1.0, NAN, float("inf")])
    def test_refuses(self, radius):
        with pytest.raises(ValueError, match="radius must be positive and finite"):
            NormClippingFactory(radius)


def test_trust_scores_are_cosines_cut_at_zero():
    rows = np.float32([[3, 4], [-3, -4], [4, -3], [0, 0], [8, 6]])
    found = rules.trust_scores(rows, [1, 1, 1, 1, 0], root=np.float32([6, 8]))
    np.testing.assert_allclose(found, [1, 0, 0, 0, 0], atol=1e-12)
    found = rules.trust_scores(rows, root=np.float32([6, 8]))
    np.testing.assert_allclose(found, [1, 0, 0, 0, 0.96], atol=1e-12)
