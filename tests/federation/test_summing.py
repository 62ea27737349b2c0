"""The coordinator's side of a secure sum: a site that lies does not end the run."""

from __future__ import annotations

import numpy as np
import pytest

from tfl_research.federation.secure_sums import SiteSums, SumTerms, VectorSpec
from tfl_research.federation.summing import MASKED, SHARES, SecureSums
from tfl_research.federation.wire.messages import Message

NAMES = ("a", "b", "c", "d")
VECTORS = {n: [np.array([i, 10 * i], np.int32)] for i, n in enumerate(NAMES)}
REQUESTS = {
    name: Message("round", {"round": 1, "completed": 0, "clients": [name]})
    for name in NAMES
}


class _Asked:
    """Sites; d shares the seed of another key than it has published, and drops out."""

    def __init__(self, folder, liar="d", drops_out=True):
        self._sites = {name: SiteSums(folder / name, name) for name in NAMES}
        self._liar, self._drops_out = liar, drops_out
        self.asked: list[list[str]] = []

    def __call__(self, messages, seconds):
        kind = next(iter(messages.values())).kind
        self.asked.append([kind, *messages])
        for name, message in messages.items():
            tensors = self._answer(name, message)
            if tensors is not None:
                yield name, Message(kind, {}, tensors)

    def _answer(self, name, message):
        site, tensors = self._sites[name], message.tensors
        if message.kind == "round":
            begun = message.header["sum"]
            terms = SumTerms.from_json(begun["terms"])
            return site.keys("run", 1, begun["attempt"], terms)
        place = ("run", 1, message.header["attempt"])
        if message.kind == SHARES:
            if name == self._liar:
                return self._other_shares(site, tensors)
            return site.shares(*place, tensors)
        if message.kind == MASKED:
            if name == self._liar and self._drops_out:
                return None
            return site.masked(*place, tensors, VECTORS[name])
        return site.unmask(*place, tensors)

    def _other_shares(self, site, tensors):
        party = site._party("run")
        public = party._public_keys()
        party._public_keys = lambda: public
        party._state.mask_seed = bytes(16)
        return party.shares(tensors)


def test_wrong_shares_of_a_site_that_drops_out(tmp_path):
    ask, lines = _Asked(tmp_path), []
    sums = SecureSums("run", [VectorSpec((2,), "int32", 2**32)], tmp_path, lines.append)
    who, (total,) = sums.run(1, REQUESTS, 30.0, ask)
    assert who == ("a", "b", "c")
    np.testing.assert_array_equal(total, [0 + 1 + 2, 0 + 10 + 20])
    assert lines == [
        "round 1: the shares of d's mask key do not give the key that d has "
        "published: the sum cannot be opened"
    ]
    # The second attempt is for the survivors alone.
    firsts = [names for kind, *names in ask.asked if kind == "round"]
    assert firsts == [["a", "b", "c", "d"], ["a", "b", "c"]]


@pytest.mark.parametrize("lost", [("d",), ("c", "d")])
def test_sites_that_never_answer(tmp_path, lost):
    ask, lines = _Asked(tmp_path, liar="nobody"), []
    answers = lambda messages, seconds: (  # noqa: E731
        (name, answer) for name, answer in ask(messages, seconds) if name not in lost
    )
    sums = SecureSums("run", [VectorSpec((2,), "int32", 2**32)], tmp_path, lines.append)
    found = sums.run(1, REQUESTS, 30.0, answers)
    if len(lost) == 1:
        assert found is not None
        assert found[0] == ("a", "b", "c")
    else:
        # Three of four must stay; the sum is not tried again.
        assert found is None
        assert lines == [
            "round 1: the sum is abandoned: 2 of 4 parties have sent keys, fewer than "
            "the threshold of 3"
        ]
        assert [kind for kind, *_ in ask.asked] == ["round"]
