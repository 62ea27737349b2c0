"""One secure sum from end to end in a test, with parties that drop out."""

from __future__ import annotations

import numpy as np

from tfl_research.federation.secure_sums import (
    Collector,
    Party,
    SumTerms,
    VectorSpec,
    default_threshold,
    session_of,
)


def names_of(count):
    """Names of parties, in sorted order."""
    return tuple(f"site-{number:02d}" for number in range(count))


def terms_of(count, vectors, threshold=None, attempt=1):
    """Terms of a sum of so many parties."""
    return SumTerms(
        session_of("run", 1, attempt),
        names_of(count),
        threshold or default_threshold(count),
        tuple(vectors),
    )


def random_vector(spec, generator):
    """A vector of uniform integers: of the whole dtype, or below the modulus."""
    bounds = np.iinfo(spec.dtype)
    wraps = spec.modulus == 2**bounds.bits
    low, high = (bounds.min, bounds.max) if wraps else (0, spec.modulus - 1)
    return generator.integers(low, high, spec.shape, spec.dtype, endpoint=True)


def plain_sum(spec, vectors):
    """The sum modulo m by Python's whole numbers, element by element."""
    columns = zip(*(np.reshape(each, -1).tolist() for each in vectors))
    sums = [sum(column) % spec.modulus for column in columns]
    bounds = np.iinfo(spec.dtype)
    if spec.modulus == 2**bounds.bits:
        sums = [s - spec.modulus if s > bounds.max else s for s in sums]
    return np.array(sums, spec.dtype).reshape(spec.shape)


def secure_sum(terms, vectors, lost=None):
    """The collector that opened a sum, and the sums.

    Args:
      terms: the sum's terms.
      vectors: each party's vectors by name.
      lost: those who no longer answer, by the first step that they do not answer.
    """
    lost = lost or {}
    collector = Collector(terms)
    parties = {name: Party(name, terms) for name in terms.parties}

    def lose(step):
        for name in lost.get(step, ()):
            del parties[name]

    lose("keys")
    for name, party in parties.items():
        collector.add_keys(name, party.keys())
    key_list = collector.key_list()
    lose("shares")
    for name, party in parties.items():
        collector.add_shares(name, party.shares(key_list))
    incoming = collector.shares()
    lose("masked")
    for name, party in parties.items():
        answer = party.masked(incoming[name], vectors[name])
        collector.add_masked(name, answer)
    survivors = collector.survivors()
    lose("unmask")
    for name, party in parties.items():
        collector.add_unmask(name, party.unmask(survivors))
    return collector, collector.sums()


class Halfway:
    """A sum that stands before a step, for tests of what the step refuses.

    Attributes:
      terms: the sum's terms.
      vectors: each party's vectors by name.
      collector: the server.
      parties: by name; all have answered the steps before.
      message: what the server sends next, by name.
    """

    def __init__(self, step, count=5, spec=None, threshold=None):
        spec = spec or VectorSpec((3,), "int32", 2**32)
        self.terms = terms_of(count, [spec], threshold)
        generator = np.random.default_rng(7)
        self.vectors = {n: [random_vector(spec, generator)] for n in self.terms.parties}
        self.collector = Collector(self.terms)
        self.parties = {name: Party(name, self.terms) for name in self.terms.parties}
        if step == "keys":
            return
        for name, party in self.parties.items():
            self.collector.add_keys(name, party.keys())
        self.message = dict.fromkeys(self.parties, self.collector.key_list())
        if step == "shares":
            return
        for name, party in self.parties.items():
            self.collector.add_shares(name, party.shares(self.message[name]))
        self.message = self.collector.shares()
        if step == "masked":
            return
        for name, party in self.parties.items():
            answer = party.masked(self.message[name], self.vectors[name])
            self.collector.add_masked(name, answer)
        self.message = dict.fromkeys(self.parties, self.collector.survivors())
