"""What the server receives says nothing of a single vector."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from secure_sum_runs import names_of, plain_sum, random_vector, terms_of

from tfl_research.federation.secure_sums import (
    Collector,
    Party,
    VectorSpec,
    keys,
    masks,
    primitives,
    shamir,
)

NAMES = names_of(4)
A, B, C, D = NAMES
SIZE = 2**16


@pytest.fixture(autouse=True)
def same_randomness(monkeypatch):
    """Each call of `restart` gives the same random bytes again."""
    state = {}

    def restart():
        state["generator"] = np.random.default_rng(11)

    def draw(count):
        return state["generator"].bytes(count)

    restart()
    monkeypatch.setattr(primitives, "random_bytes", draw)
    monkeypatch.setattr("Crypto.Protocol.SecretSharing.rng", draw)
    return restart


def _until_unmask(terms, vectors):
    """Parties, collector, and all that the server has received before "unmask"."""
    collector = Collector(terms)
    parties = {name: Party(name, terms) for name in terms.parties}
    received = {}
    for name, party in parties.items():
        received[name, "keys"] = party.keys()
        collector.add_keys(name, received[name, "keys"])
    key_list = collector.key_list()
    for name, party in parties.items():
        received[name, "shares"] = party.shares(key_list)
        collector.add_shares(name, received[name, "shares"])
    incoming = collector.shares()
    for name, party in parties.items():
        received[name, "masked"] = party.masked(incoming[name], vectors[name])
        collector.add_masked(name, received[name, "masked"])
    return parties, collector, received


def _chi_square(counts):
    expected = counts.sum() / len(counts)
    return ((counts - expected) ** 2 / expected).sum()


def _looks_uniform(residues, spec):
    """Whether low-order and high-order parts of residues have even counts."""
    if spec.modulus < 2**16:
        parts = [(residues, spec.modulus)]
    else:
        # The low byte, and 256 intervals of the residues.
        high = [int(r) * 256 // spec.modulus for r in residues]
        parts = [(residues & residues.dtype.type(255), 256), (np.array(high), 256)]
    for values, kinds in parts:
        counts = np.bincount(values.astype(np.int64), minlength=kinds)
        degrees = kinds - 1
        # Six standard deviations above the mean of a chi-square.
        if _chi_square(counts) > degrees + 6 * np.sqrt(2 * degrees):
            return False
    return True


def _vectors(spec, value):
    return {name: [np.full(spec.shape, value, spec.dtype)] for name in NAMES}


@pytest.mark.parametrize(
    ("dtype", "modulus", "value"),
    [
        ("int32", 2**32, 0),
        ("int32", 2**32, -(2**31)),
        ("int64", 2**64, 2**63 - 1),
        ("int64", 97, 96),
        ("int64", 2**61 - 1, 0),
        ("int64", 2**30 + 1, 2**30),
    ],
)
def test_masked_vectors_are_uniform(dtype, modulus, value):
    spec = VectorSpec((SIZE,), dtype, modulus)
    vectors = _vectors(spec, value)
    _, _, received = _until_unmask(terms_of(4, [spec]), vectors)
    for name in NAMES:
        assert _looks_uniform(received[name, "masked"]["vector/0"], spec)
        # The measure notices what is not masked.
        assert not _looks_uniform(spec.residues(vectors[name][0]), spec)


def test_masks_and_all_other_messages_do_not_depend_on_the_vectors(same_randomness):
    spec = VectorSpec((50,), "int64", 2**61 - 1)
    terms = terms_of(4, [spec])
    generator = np.random.default_rng(1)
    first = {name: [random_vector(spec, generator)] for name in NAMES}
    second = {name: [random_vector(spec, generator)] for name in NAMES}
    _, _, received = _until_unmask(terms, first)
    same_randomness()
    _, _, again = _until_unmask(terms, second)
    assert received.keys() == again.keys()
    for of, message in received.items():
        assert message.keys() == again[of].keys()
        for name, array in message.items():
            if name != "vector/0":
                np.testing.assert_array_equal(array, again[of][name])
    for name in NAMES:
        one, two = (r[name, "masked"]["vector/0"].tolist() for r in (received, again))
        masks_of = [
            [(y - x) % spec.modulus for x, y in zip(spec.residues(v).tolist(), masked)]
            for v, masked in ((first[name][0], one), (second[name][0], two))
        ]
        assert masks_of[0] == masks_of[1]
        assert one != two


def test_two_sums_of_the_same_vectors_share_no_mask():
    spec = VectorSpec((1000,), "int32", 2**32)
    vectors = _vectors(spec, 5)
    _, _, one = _until_unmask(terms_of(4, [spec]), vectors)
    _, _, two = _until_unmask(terms_of(4, [spec], attempt=2), vectors)
    for name in NAMES:
        both = (r[name, "masked"]["vector/0"] for r in (one, two))
        assert (next(both) == next(both)).sum() < 5


def _seed(collector, parties, owner, helpers, kind):
    """A secret of a party from the shares of helpers."""
    place = ("mask", "self").index(kind)
    shares = {
        collector.terms.index(helper): parties[helper]._state.held[owner][place]
        for helper in helpers
    }
    return shamir.combine(shares, collector.terms.threshold)


def test_the_server_sees_no_vector_of_a_survivor_after_it_opened_the_sum():
    """It knows every self mask, and each pair mask of A is still there."""
    spec = VectorSpec((SIZE,), "int64", 97)
    vectors = _vectors(spec, 3)
    parties, collector, received = _until_unmask(terms_of(4, [spec]), vectors)
    seed = _seed(collector, parties, A, (B, C, D), "self")
    masked = received[A, "masked"]["vector/0"].astype(spec.word)
    masks.apply(masked, spec, keys.self_mask(seed, collector.terms, A), 0, add=False)
    assert _looks_uniform(masked, spec)
    # With two of three parties on its side a further pair mask remains.
    for helper in (B, C):
        private = keys.mask_private(
            parties[helper]._state.mask_seed, collector.terms, helper
        )
        public = collector._keys[A][1]
        key = keys.pair_mask(private, public, collector.terms, helper, A)
        masks.apply(masked, spec, key, 0, add=not keys.adds_pair_mask(A, helper))
    assert _looks_uniform(masked, spec)
    # All three together know A's vector, as everyone would from the sum.
    private = keys.mask_private(parties[D]._state.mask_seed, collector.terms, D)
    key = keys.pair_mask(private, collector._keys[A][1], collector.terms, D, A)
    masks.apply(masked, spec, key, 0, add=not keys.adds_pair_mask(A, D))
    np.testing.assert_array_equal(spec.values(masked), vectors[A][0])


def test_the_server_sees_no_late_vector_of_a_drop_out():
    """The parties gave A's mask key away; A's own mask is still there."""
    spec = VectorSpec((SIZE,), "int64", 97)
    vectors = _vectors(spec, 3)
    parties, collector, received = _until_unmask(terms_of(4, [spec]), vectors)
    terms = collector.terms
    seed = _seed(collector, parties, A, (B, C, D), "mask")
    private = keys.mask_private(seed, terms, A)
    masked = received[A, "masked"]["vector/0"].astype(spec.word)
    for name in (B, C, D):
        key = keys.pair_mask(private, collector._keys[name][1], terms, A, name)
        masks.apply(masked, spec, key, 0, add=not keys.adds_pair_mask(A, name))
    assert _looks_uniform(masked, spec)
    # With the other secret too, the vector would be in the open.
    seed = _seed(collector, parties, A, (B, C, D), "self")
    masks.apply(masked, spec, keys.self_mask(seed, terms, A), 0, add=False)
    np.testing.assert_array_equal(spec.values(masked), vectors[A][0])


def test_the_collector_keeps_the_total_alone():
    spec = VectorSpec((1000,), "int64", 2**64)
    generator = np.random.default_rng(2)
    vectors = {name: [random_vector(spec, generator)] for name in NAMES}
    parties, collector, received = _until_unmask(terms_of(4, [spec]), vectors)
    del received
    reached, found = [collector], []
    seen = set()
    while reached:
        thing = reached.pop()
        if id(thing) in seen or isinstance(thing, type):
            continue
        seen.add(id(thing))
        if isinstance(thing, np.ndarray):
            found.append(thing)
        elif isinstance(thing, bytes):
            assert len(thing) <= 64
        else:
            reached += gc.get_referents(thing)
    assert [array.shape for array in found] == [(1000,)]
    survivors = collector.survivors()
    for name, party in parties.items():
        collector.add_unmask(name, party.unmask(survivors))
    expected = plain_sum(spec, [each[0] for each in vectors.values()])
    np.testing.assert_array_equal(collector.sums()[0], expected)
