"""A server that lies, messages that were altered, and steps that come again."""

from __future__ import annotations

import json

import numpy as np
import pytest
from secure_sum_runs import Halfway, names_of, plain_sum, secure_sum, terms_of

from tfl_research.federation.secure_sums import (
    Collector,
    Party,
    SecureSumError,
    SumAbandonedError,
    VectorSpec,
)
from tfl_research.federation.secure_sums.wire import names_array

A, B, C, D, E = names_of(5)


def _changed(message, name, place=0):
    """The message with one bit of an array flipped."""
    array = message[name].copy()
    array.reshape(-1)[place] ^= 1
    return {**message, name: array}


def _equal(one, other):
    return one.keys() == other.keys() and all(
        np.array_equal(one[name], other[name]) for name in one
    )


class TestServerThatLies:
    @pytest.mark.parametrize(
        ("survivors", "message"),
        [
            ([B, C, D], f"leaves out {A}, which has sent its vector"),
            ([A, B], "the sum is abandoned: 2 of 5 parties have sent a masked vector"),
            ([A, B, C, "site-99"], "with 'site-99', which is not a party"),
            ([A, B, B, C], "with the same name twice"),
        ],
    )
    def test_about_survivors(self, survivors, message):
        sums = Halfway("unmask")
        lie = {**sums.message[A], "survivors": names_array(survivors)}
        party = sums.parties[A]
        before = party.to_bytes()
        with pytest.raises(SecureSumError, match=message):
            party.unmask(lie)
        assert party.to_bytes() == before

    def test_about_a_survivor_that_sent_no_shares(self):
        sums = Halfway("keys")
        for party in sums.parties.values():
            sums.collector.add_keys(party.name, party.keys())
        key_list = sums.collector.key_list()
        for name in (A, B, C, D):
            sums.collector.add_shares(name, sums.parties[name].shares(key_list))
        incoming = sums.collector.shares()
        party = sums.parties[A]
        party.masked(incoming[A], sums.vectors[A])
        lie = {
            "terms": incoming[A]["terms"],
            "survivors": names_array([A, B, C, E]),
        }
        with pytest.raises(SecureSumError, match=f"survivor {E}, which sent no shares"):
            party.unmask(lie)

    def test_that_asks_for_both_secrets_of_a_party(self):
        sums = Halfway("unmask")
        party = sums.parties[A]
        answer = party.unmask(sums.message[A])
        lie = {**sums.message[A], "survivors": names_array([A, C, D, E])}
        with pytest.raises(
            SecureSumError, match="both sums together would show a vector"
        ):
            party.unmask(lie)
        assert _equal(answer, party.unmask(sums.message[A]))

    def test_that_tells_two_stories_has_too_few_shares_for_one_of_them(self):
        # Three of five are told that E survived, and two that E dropped out.
        sums = Halfway("unmask")
        without = {**sums.message[A], "survivors": names_array([A, B, C, D])}
        stories = {A: True, B: True, C: True, D: False}
        kinds = {}
        for name, told in stories.items():
            message = sums.message[name] if told else without
            answer = sums.parties[name].unmask(message)
            owners = json.loads(answer["owners"].tobytes())
            share = answer["shares"][owners.index(E)].tobytes()
            kinds.setdefault(told, set()).add(share)
        assert len(kinds[True]) >= sums.terms.threshold > len(kinds[False])

    def test_that_opens_a_sum_before_the_vector_was_sent(self):
        sums = Halfway("masked")
        lie = {"terms": sums.message[A]["terms"], "survivors": names_array(names_of(5))}
        with pytest.raises(SecureSumError, match="to which it has sent no vector"):
            sums.parties[A].unmask(lie)

    def test_that_exchanges_public_keys(self):
        sums = Halfway("shares")
        for name in ("cipher_keys", "mask_keys"):
            lie = _changed(sums.message[A], name)
            with pytest.raises(SecureSumError, match=f"other keys of {A} than {A} has"):
                sums.parties[A].shares(lie)

    def test_that_gives_one_key_to_two_parties(self):
        sums = Halfway("shares")
        keys = sums.message[A]["mask_keys"].copy()
        keys[2] = keys[3]
        with pytest.raises(SecureSumError, match="a public key twice"):
            sums.parties[A].shares({**sums.message[A], "mask_keys": keys})

    def test_that_sends_a_key_of_low_order(self):
        sums = Halfway("shares")
        keys = sums.message[A]["cipher_keys"].copy()
        keys[2] = 0
        with pytest.raises(SecureSumError, match=f"{C}'s public key is of low order"):
            sums.parties[A].shares({**sums.message[A], "cipher_keys": keys})

    def test_that_shortens_the_lists(self):
        sums = Halfway("shares")
        few = {
            **sums.message[A],
            "parties": names_array([A, B]),
            "cipher_keys": sums.message[A]["cipher_keys"][:2],
            "mask_keys": sums.message[A]["mask_keys"][:2],
        }
        with pytest.raises(SumAbandonedError, match="2 of 5 parties have sent keys"):
            sums.parties[A].shares(few)
        sums = Halfway("masked")
        few = {
            **sums.message[A],
            "senders": names_array([B]),
            "ciphertexts": sums.message[A]["ciphertexts"][:1],
        }
        with pytest.raises(SumAbandonedError, match="2 of 5 parties have sent shares"):
            sums.parties[A].masked(few, sums.vectors[A])


class TestAltered:
    @pytest.mark.parametrize("place", [0, 12, 59])
    def test_ciphertexts_name_their_sender(self, place):
        sums = Halfway("masked")
        altered = _changed(sums.message[A], "ciphertexts", 60 + place)
        before = sums.parties[A].to_bytes()
        with pytest.raises(SecureSumError, match=f"{C}'s shares for {A} were altered"):
            sums.parties[A].masked(altered, sums.vectors[A])
        assert sums.parties[A].to_bytes() == before
        # Nothing is lost: the right message is still answered.
        sums.parties[A].masked(sums.message[A], sums.vectors[A])

    def test_a_ciphertext_for_another_recipient(self):
        sums = Halfway("masked")
        rows = sums.message[A]["ciphertexts"].copy()
        rows[0] = sums.message[C]["ciphertexts"][1]  # From B too, but for C.
        with pytest.raises(SecureSumError, match=f"{B}'s shares for {A} were altered"):
            sums.parties[A].masked(
                {**sums.message[A], "ciphertexts": rows}, sums.vectors[A]
            )

    def test_a_senders_place_exchanged(self):
        sums = Halfway("masked")
        swapped = {**sums.message[A], "senders": names_array([C, B, D, E])}
        with pytest.raises(SecureSumError, match=f"{C}'s shares for {A} were altered"):
            sums.parties[A].masked(swapped, sums.vectors[A])

    def test_shares_name_who_sent_them_and_the_sum_goes_on(self):
        sums = Halfway("unmask")
        answers = {n: p.unmask(sums.message[n]) for n, p in sums.parties.items()}
        altered = _changed(answers[B], "shares", 3 * 16)
        with pytest.raises(
            SecureSumError,
            match=f"from {B} has an altered share: it is not the share that {D} sealed",
        ):
            sums.collector.add_unmask(B, altered)
        for name in (A, C, D):
            sums.collector.add_unmask(name, answers[name])
        (spec,) = sums.terms.vectors
        expected = plain_sum(spec, [v[0] for v in sums.vectors.values()])
        np.testing.assert_array_equal(sums.collector.sums()[0], expected)

    def test_a_key_share_is_checked_too(self):
        sums = Halfway("masked")
        for name in (B, C, D, E):
            answer = sums.parties[name].masked(sums.message[name], sums.vectors[name])
            sums.collector.add_masked(name, answer)
        survivors = sums.collector.survivors()
        answer = sums.parties[B].unmask(survivors)
        with pytest.raises(SecureSumError, match=f"is not the share that {A} sealed"):
            sums.collector.add_unmask(B, _changed(answer, "shares"))

    def test_a_seed_that_does_not_give_its_key(self):
        # A party published one key, and shared the seed of another key.
        sums = Halfway("masked")
        for name in (B, C, D, E):
            answer = sums.parties[name].masked(sums.message[name], sums.vectors[name])
            sums.collector.add_masked(name, answer)
        survivors = sums.collector.survivors()
        for name in (B, C, D):
            answer = sums.parties[name].unmask(survivors)
            sums.collector.add_unmask(name, answer)
        cipher, _ = sums.collector._keys[A]
        sums.collector._keys[A] = cipher, bytes(32)
        with pytest.raises(SecureSumError, match=f"shares of {A}'s mask key do not"):
            sums.collector.sums()

    @pytest.mark.parametrize(
        ("step", "change", "message"),
        [
            ("keys", {"mask_key": None}, "has no 'mask_key'"),
            ("keys", {"mask_key": np.zeros(31, np.uint8)}, "shape \\(31,\\); expected"),
            ("keys", {"cipher_key": np.zeros(32, np.int8)}, "of dtype int8"),
            (
                "shares",
                {"recipients": names_array([B, C, D])},
                "must have one ciphertext",
            ),
            (
                "shares",
                {"recipients": names_array([A, B, C, D])},
                "must have one cipher",
            ),
            ("shares", {"recipients": np.zeros(3)}, "'recipients', a list of names"),
            ("shares", {"recipients": np.zeros(3, np.uint8)}, "is not a list of names"),
            ("shares", {"holders": names_array([A, B])}, "must have the digest"),
            ("shares", {"ciphertexts": np.zeros((4, 9), np.uint8)}, "expected uint8"),
            ("masked", {"vector/0": np.zeros(3, np.uint32)}, "of dtype uint32"),
            ("masked", {"vector/0": np.zeros(4, np.uint8)}, "shape \\(4,\\)"),
            ("masked", {"vector/0": np.array([0, 0, 7], np.uint8)}, "residue of 7 or"),
            (
                "unmask",
                {"owners": names_array([A, B, C, D])},
                "must have one share of each",
            ),
        ],
    )
    def test_answers_that_do_not_fit(self, step, change, message):
        sums = Halfway(step, spec=VectorSpec((3,), "int32", 7))
        party = sums.parties[A]
        if step == "keys":
            answer = party.keys()
        elif step == "masked":
            answer = party.masked(sums.message[A], sums.vectors[A])
        else:
            answer = getattr(party, step)(sums.message[A])
        bad = {**answer, **change}
        bad = {name: array for name, array in bad.items() if array is not None}
        add = getattr(sums.collector, f"add_{step}")
        with pytest.raises(SecureSumError, match=f"from {A} .*{message}"):
            add(A, bad)
        add(A, answer)


class TestAgain:
    def test_steps_give_the_same_answer(self):
        party = Halfway("keys").parties[A]
        assert _equal(party.keys(), party.keys())
        sums = Halfway("shares")
        party = sums.parties[A]
        first = party.shares(sums.message[A])
        assert _equal(first, party.shares(sums.message[A]))
        sums = Halfway("masked")
        party = sums.parties[A]
        first = party.masked(sums.message[A], sums.vectors[A])
        assert _equal(first, party.masked(sums.message[A], sums.vectors[A]))

    def test_no_mask_is_used_for_two_vectors(self):
        sums = Halfway("masked")
        party = sums.parties[A]
        party.masked(sums.message[A], sums.vectors[A])
        with pytest.raises(SecureSumError, match="masked other vectors in this sum"):
            party.masked(sums.message[A], sums.vectors[B])
        few = {
            **sums.message[A],
            "senders": names_array([B, C, D]),
            "ciphertexts": sums.message[A]["ciphertexts"][:3],
        }
        with pytest.raises(SecureSumError, match="for other parties in this sum"):
            party.masked(few, sums.vectors[A])

    def test_shares_are_sent_for_one_list_of_keys(self):
        sums = Halfway("shares")
        party = sums.parties[A]
        party.shares(sums.message[A])
        other = {
            "terms": sums.message[A]["terms"],
            "parties": names_array([A, B, C]),
            "cipher_keys": sums.message[A]["cipher_keys"][:3],
            "mask_keys": sums.message[A]["mask_keys"][:3],
        }
        with pytest.raises(SecureSumError, match="for another list of keys"):
            party.shares(other)

    def test_an_opened_sum_has_no_secrets_left(self):
        sums = Halfway("unmask")
        party = sums.parties[A]
        seeds = (party._state.mask_seed, party._state.self_seed)
        party.unmask(sums.message[A])
        content = party.to_bytes().decode()
        # Its own share of the self seed was given out; the seed itself is gone.
        assert not any(seed.hex() in content for seed in seeds)
        for step in (
            party.keys,
            lambda: party.shares({}),
            lambda: party.masked({}, []),
        ):
            with pytest.raises(SecureSumError, match="dropped its keys: step"):
                step()

    def test_the_collector_takes_one_answer_while_the_step_is_open(self):
        sums = Halfway("keys")
        first = {name: party.keys() for name, party in sums.parties.items()}
        sums.collector.add_keys(A, first[A])
        with pytest.raises(SecureSumError, match=f"from {A} is a second answer"):
            sums.collector.add_keys(A, first[A])
        with pytest.raises(SecureSumError, match=f"from {B} has a public key that was"):
            sums.collector.add_keys(B, first[A])
        with pytest.raises(SecureSumError, match="from nobody was not asked for"):
            sums.collector.add_keys("nobody", first[B])
        for name in (B, C, D):
            sums.collector.add_keys(name, first[name])
        sums.collector.key_list()
        with pytest.raises(
            SecureSumError, match="'keys', but the open step is 'shares'"
        ):
            sums.collector.add_keys(E, first[E])
        with pytest.raises(SecureSumError, match="step 'keys' is not the open step"):
            sums.collector.key_list()

    def test_a_late_vector_is_refused(self):
        sums = Halfway("masked")
        answers = {
            name: party.masked(sums.message[name], sums.vectors[name])
            for name, party in sums.parties.items()
        }
        for name in (A, B, C, D):
            sums.collector.add_masked(name, answers[name])
        with pytest.raises(SecureSumError, match=f"from {A} is a second answer"):
            sums.collector.add_masked(A, answers[A])
        sums.collector.survivors()
        with pytest.raises(SecureSumError, match="the open step is 'unmask'"):
            sums.collector.add_masked(E, answers[E])


class TestAnotherSum:
    def test_messages_of_another_session_are_refused(self):
        sums, other = Halfway("keys"), Halfway("keys")
        other.terms = terms_of(5, sums.terms.vectors, attempt=2)
        stranger = Party(A, other.terms)
        with pytest.raises(SecureSumError, match=f"from {A} is of another sum"):
            sums.collector.add_keys(A, stranger.keys())
        sums = Halfway("shares")
        with pytest.raises(SecureSumError, match="from the coordinator is of another"):
            stranger.shares(sums.message[A])

    def test_a_party_must_be_named(self):
        with pytest.raises(SecureSumError, match="elsewhere is not among the parties"):
            Party("elsewhere", terms_of(3, []))

    def test_vectors_must_fit_the_terms(self):
        sums = Halfway("masked")
        party = sums.parties[A]
        for vectors, message in [
            ([], "has 0 vectors to mask; the sum has 1"),
            ([np.zeros(4, np.int32)], r"shape \(4,\) and dtype int32; expected \(3,\)"),
            ([np.zeros(3, np.int64)], "dtype int64; expected"),
            ([np.zeros(3)], "dtype float64; expected"),
        ]:
            with pytest.raises(SecureSumError, match=message):
                party.masked(sums.message[A], vectors)

    def test_steps_in_the_wrong_order(self):
        sums = Halfway("masked")
        party = Party(A, sums.terms)
        with pytest.raises(SecureSumError, match="has sent no shares yet"):
            party.masked(sums.message[A], sums.vectors[A])
        with pytest.raises(SecureSumError, match="is not the open step"):
            Collector(sums.terms).sums()


def test_a_sum_goes_on_after_each_party_was_restarted_at_each_step():
    sums = Halfway("keys")

    def restarted(name):
        sums.parties[name] = Party.from_bytes(sums.parties[name].to_bytes())
        return sums.parties[name]

    for name in sums.parties:
        sums.collector.add_keys(name, restarted(name).keys())
    key_list = sums.collector.key_list()
    for name in sums.parties:
        sums.collector.add_shares(name, restarted(name).shares(key_list))
    incoming = sums.collector.shares()
    for name in (B, C, D, E):
        answer = restarted(name).masked(incoming[name], sums.vectors[name])
        sums.collector.add_masked(name, answer)
    survivors = sums.collector.survivors()
    for name in (B, C, D, E):
        first = restarted(name).unmask(survivors)
        assert _equal(first, restarted(name).unmask(survivors))
        sums.collector.add_unmask(name, first)
    (spec,) = sums.terms.vectors
    expected = plain_sum(spec, [sums.vectors[n][0] for n in (B, C, D, E)])
    np.testing.assert_array_equal(sums.collector.sums()[0], expected)


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"\xff", b'{"format": 1}', b'{"format": 1, "name": 3}'],
)
def test_a_damaged_state_is_named(content):
    with pytest.raises(SecureSumError, match="cannot be read: the file is damaged"):
        Party.from_bytes(content)


def test_a_state_of_a_newer_version_is_named():
    state = json.loads(Party(A, terms_of(5, [])).to_bytes())
    with pytest.raises(SecureSumError, match="has format 2; this version reads 1"):
        Party.from_bytes(json.dumps({**state, "format": 2}).encode())


def test_the_sum_of_those_who_stay_needs_no_answer_of_the_others():
    terms = terms_of(5, [VectorSpec((1,), "int32", 2**32)])
    vectors = {
        name: [np.array([10**n], np.int32)] for n, name in enumerate((A, B, C, D, E))
    }
    _, sums = secure_sum(terms, vectors, {"masked": [E], "unmask": [A]})
    assert sums[0].tolist() == [1111]
