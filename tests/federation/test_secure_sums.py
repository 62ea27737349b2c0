"""Secure sums are the plain sums, whoever drops out and whenever."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from secure_sum_runs import (
    names_of,
    plain_sum,
    random_vector,
    secure_sum,
    terms_of,
)

from tfl_research.federation.secure_sums import (
    SecureSumError,
    SumAbandonedError,
    SumTerms,
    VectorSpec,
    default_threshold,
    session_of,
)

STEPS = ("keys", "shares", "masked", "unmask")
INT32, INT64 = 2**32, 2**64


def _check(count, specs, lost=None, threshold=None, seed=0):
    """Whether the secure sums of random vectors are the plain sums."""
    terms = terms_of(count, specs, threshold)
    generator = np.random.default_rng(seed)
    vectors = {
        name: [random_vector(spec, generator) for spec in specs]
        for name in terms.parties
    }
    collector, sums = secure_sum(terms, vectors, lost)
    gone = {n for step in STEPS[:3] for n in (lost or {}).get(step, ())}
    left = [name for name in terms.parties if name not in gone]
    assert collector.answered["masked"] == tuple(left)
    for place, (spec, total) in enumerate(zip(specs, sums)):
        assert total.shape == spec.shape
        assert total.dtype == spec.dtype
        expected = plain_sum(spec, [vectors[name][place] for name in left])
        np.testing.assert_array_equal(total, expected)
    for step in STEPS:
        assert collector.dropped[step] == tuple(sorted((lost or {}).get(step, ())))


SPECS = [
    VectorSpec((3, 2), "int32", INT32),
    VectorSpec((5,), "int64", INT64),
    VectorSpec((), "int64", 2**62),
    VectorSpec((4,), "int64", 2**61 - 1),
    VectorSpec((7,), "int64", 2**32 - 5),
    VectorSpec((7,), "int64", 3 * 2**30 + 1),
    VectorSpec((6,), "int32", 97),
    VectorSpec((2,), "int32", 2**31),
    VectorSpec((2,), "uint64", 2**40),
    VectorSpec((2,), "uint64", INT64),
    VectorSpec((2,), "int8", 2**8),
    VectorSpec((2,), "uint8", 2),
    VectorSpec((3,), "int16", 1000),
    VectorSpec((0,), "int32", INT32),
    VectorSpec((2, 0), "int64", 11),
]


@pytest.mark.parametrize("count", [3, 4, 7])
def test_all_kinds_of_vectors_at_once(count):
    _check(count, SPECS)


def test_fifty_parties_with_drop_outs_at_every_step():
    names = names_of(50)
    lost = {
        "keys": names[::10],
        "shares": names[1::10],
        "masked": names[2::10],
        "unmask": [*names[3::10], *names[4:24:10], names[5], names[6]],
    }
    assert sum(len(each) for each in lost.values()) == 50 - default_threshold(50)
    _check(50, [VectorSpec((20_000,), "int32", INT32)], lost)


def test_a_million_integers():
    spec = VectorSpec((1_000_000,), "int64", 2**61 - 1)
    terms = terms_of(4, [spec])
    generator = np.random.default_rng(0)
    vectors = {name: [random_vector(spec, generator)] for name in terms.parties}
    lost = names_of(4)[1]
    _, sums = secure_sum(terms, vectors, {"masked": [lost]})
    # Three residues below 2^61 have a sum that fits.
    expected = sum(vectors[name][0] for name in terms.parties if name != lost)
    np.testing.assert_array_equal(sums[0], expected % spec.modulus)


@st.composite
def _sums(draw):
    count = draw(st.integers(3, 9))
    threshold = draw(st.integers(default_threshold(count), count))
    order = draw(st.permutations(names_of(count)))
    gone = draw(st.integers(0, count - threshold))
    lost = {}
    for name in order[:gone]:
        lost.setdefault(draw(st.sampled_from(STEPS)), []).append(name)
    specs = draw(st.lists(st.sampled_from(SPECS), min_size=1, max_size=3))
    return count, specs, lost, threshold, draw(st.integers(0, 2**32))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(_sums())
def test_random_drop_outs_at_random_steps(case):
    _check(*case)


@pytest.mark.parametrize("step", STEPS)
def test_one_drop_out_too_many_abandons_the_sum(step):
    names = names_of(5)
    terms = terms_of(5, [VectorSpec((2,), "int32", INT32)])
    vectors = {name: [np.zeros(2, np.int32)] for name in names}
    with pytest.raises(SumAbandonedError) as error:
        secure_sum(terms, vectors, {step: names[:3]})
    line = str(error.value)
    assert line.startswith("the sum is abandoned: 2 of 5 parties have sent ")
    assert line.endswith("fewer than the threshold of 3")
    assert "\n" not in line


def test_zeros_extremes_and_no_vector():
    big, small = np.iinfo(np.int64).max, np.iinfo(np.int64).min
    terms = terms_of(3, [VectorSpec((3,), "int64", INT64)])
    values = ([big, small, 0], [big, small, 0], [1, small, 0])
    vectors = {n: [np.array(v)] for n, v in zip(terms.parties, values)}
    _, sums = secure_sum(terms, vectors)
    # 2 (2^63 - 1) + 1 = 2^64 - 1 is -1, and -3 * 2^63 is -2^63, as NumPy adds too.
    assert sums[0].tolist() == [-1, small, 0]
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(sums[0], sum(v[0] for v in vectors.values()))
    assert secure_sum(terms_of(3, []), {name: [] for name in names_of(3)})[1] == []


def test_negative_integers_have_pythons_residue():
    spec = VectorSpec((3,), "int32", 10)
    terms = terms_of(3, [spec])
    vectors = {name: [np.array([-1, -10, 7], np.int32)] for name in terms.parties}
    assert secure_sum(terms, vectors)[1][0].tolist() == [7, 0, 1]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_sum_of_one_or_two_is_refused(count):
    with pytest.raises(SecureSumError, match=f"secure sum of {count} would show"):
        terms_of(count, [], threshold=3)


@pytest.mark.parametrize(
    ("parties", "threshold", "expected"),
    [(3, 2, "3 to 3"), (3, 4, "3 to 3"), (4, 2, "3 to 4"), (10, 5, "6 to 10")],
)
def test_a_threshold_is_above_half(parties, threshold, expected):
    with pytest.raises(SecureSumError, match=f"threshold={threshold}: .*{expected}"):
        terms_of(parties, [], threshold)


def test_terms_that_are_refused():
    with pytest.raises(SecureSumError, match="each name may occur once"):
        SumTerms(b"s", ("a", "b", "b"), 3, ())
    with pytest.raises(SecureSumError, match="expected names that are not empty"):
        SumTerms(b"s", ("a", "b", ""), 3, ())
    with pytest.raises(SecureSumError, match="expected bytes, not empty"):
        SumTerms(b"", ("a", "b", "c"), 3, ())
    for content in ({}, {"session": "zz"}, {"session": "00", "parties": 3}):
        with pytest.raises(SecureSumError, match="a sum's terms need session"):
            SumTerms.from_json(content)
    terms = terms_of(3, [])
    with pytest.raises(SecureSumError, match="a threshold must be an int"):
        SumTerms.from_json({**terms.as_json(), "threshold": 3.0})
    for vector in (3, {"shape": [1]}, {"shape": [1.0], "dtype": "int8", "modulus": 3}):
        with pytest.raises(SecureSumError, match="a vector's"):
            SumTerms.from_json({**terms.as_json(), "vectors": [vector]})


@pytest.mark.parametrize(
    ("shape", "dtype", "modulus", "message"),
    [
        ((1,), "float32", 5, "dtype 'float32' cannot be summed"),
        ((1,), "bool", 5, "dtype 'bool' cannot be summed"),
        ((-1,), "int32", 5, "no negative length"),
        ((1,), "int32", 1, "modulus=1: for int32 expected 2 to 2147483648"),
        ((1,), "int32", 0, "modulus=0"),
        ((1,), "int32", 2**33, "modulus=8589934592"),
        ((1,), "int64", 2**63, "or 18446744073709551616, with which sums wrap around"),
        ((1,), "int8", 200, "for int8 expected 2 to 128, or 256"),
        ((1,), "int32", 3.0, "a modulus must be an int"),
        ((1,), "int32", True, "a modulus must be an int"),
    ],
)
def test_vectors_that_are_refused(shape, dtype, modulus, message):
    with pytest.raises(SecureSumError, match=message):
        VectorSpec(shape, dtype, modulus)


def test_terms_survive_json_and_sort_their_parties():
    terms = SumTerms(session_of("r", 2, 1), ("c", "a", "b"), 3, tuple(SPECS))
    assert terms.parties == ("a", "b", "c")
    assert SumTerms.from_json(terms.as_json()) == terms
    assert SumTerms.from_json(terms.as_json()).digest == terms.digest


def test_the_digest_depends_on_everything():
    base = terms_of(5, [VectorSpec((2,), "int32", 7)])
    others = [
        terms_of(5, [VectorSpec((2,), "int32", 7)], attempt=2),
        terms_of(6, [VectorSpec((2,), "int32", 7)], threshold=4),
        terms_of(5, [VectorSpec((2,), "int32", 7)], threshold=4),
        terms_of(5, [VectorSpec((3,), "int32", 7)]),
        terms_of(5, [VectorSpec((2,), "int64", 7)]),
        terms_of(5, [VectorSpec((2,), "int32", 8)]),
        terms_of(5, [VectorSpec((2,), "int32", 7)] * 2),
    ]
    assert len({terms.digest for terms in [base, *others]}) == 8
    sessions = {session_of(*of) for of in [("a", 1, 1), ("a", 1, 2), ("a", 2, 1)]}
    assert len({*sessions, session_of("b", 1, 1), session_of("a1", 1, 1)}) == 5
