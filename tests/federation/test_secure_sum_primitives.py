"""Keys, shares and masks against published vectors and a second implementation."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import sys

import numpy as np
import pytest
from Crypto.Cipher import ChaCha20

from tfl_research.federation.secure_sums import (
    SecureSumError,
    VectorSpec,
    masks,
    primitives,
    shamir,
)


def _hkdf(secret, salt, info, length):
    """RFC 5869, section 2, with SHA-256."""
    key = hmac.new(salt, secret, hashlib.sha256).digest()
    result = block = b""
    for count in itertools.count(1):
        if len(result) >= length:
            return result[:length]
        block = hmac.new(key, block + info + bytes([count]), hashlib.sha256).digest()
        result += block


def test_hkdf_against_its_rfc():
    # RFC 5869, appendix A.1.
    okm = _hkdf(b"\x0b" * 22, bytes(range(13)), bytes(range(0xF0, 0xFA)), 42)
    assert okm.hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"
        "34007208d5b887185865"
    )
    # The purpose and the names stand with their lengths in four bytes.
    info = b"\0\0\0\x08the mask\0\0\0\x01a\0\0\0\x02bc"
    derived = primitives.derive(b"secret", b"salt", "the mask", "a", "bc")
    assert derived == _hkdf(b"secret", b"salt", info, 32)
    others = [("the mask", "ab", "c"), ("the mask", "abc"), ("the maska", "bc")]
    keys = {primitives.derive(b"secret", b"salt", *of) for of in others}
    assert len({derived, *keys}) == 4


def test_x25519_against_its_rfc():
    # RFC 7748, section 6.1: Bob's keys, Alice's public key and their secret.
    bob = "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"
    bob_public = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    alice_public = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    secret = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    private = bytes.fromhex(bob)
    assert primitives.public_key(private).hex() == bob_public
    agreed = primitives.agree(private, bytes.fromhex(alice_public), "alice")
    assert agreed.hex() == secret


def _product(one, other):
    """In GF(2)[x] modulo x^128 + x^7 + x^2 + x + 1."""
    result = 0
    for bit in range(128):
        if other >> bit & 1:
            result ^= one << bit
    for bit in range(254, 127, -1):
        if result >> bit & 1:
            result ^= (2**128 + 0b10000111) << (bit - 128)
    return result


def _power(base, exponent):
    result = 1
    while exponent:
        if exponent & 1:
            result = _product(result, base)
        base, exponent = _product(base, base), exponent >> 1
    return result


def _interpolated(shares):
    """The value at 0 of the polynomial through the shares, by Lagrange."""
    total = 0
    for place, share in shares.items():
        weight = 1
        for other in shares:
            if other != place:
                inverse = _power(place ^ other, 2**128 - 2)
                weight = _product(weight, _product(other, inverse))
        total ^= _product(weight, int.from_bytes(share, "big"))
    return total.to_bytes(16, "big")


def test_shamir_against_a_second_implementation():
    secret = bytes(range(16))
    shares = dict(enumerate(shamir.split(secret, 3, 5), start=1))
    for chosen in itertools.combinations(shares, 3):
        some = {place: shares[place] for place in chosen}
        assert _interpolated(some) == secret
        assert shamir.combine(some, 3) == secret
    assert shamir.combine(shares, 3) == secret
    with pytest.raises(
        SecureSumError, match="a secret needs 3 shares, but there are 2"
    ):
        shamir.combine({1: shares[1], 2: shares[2]}, 3)


def test_fewer_shares_fit_every_secret():
    # Whatever the secret, some third share completes two shares to it: of the three
    # shares (1, a), (2, b), (3, c) the secret is w1 a + w2 b + w3 c with w3 not 0.
    secret = bytes(range(16))
    one, two, _ = shamir.split(secret, 3, 3)
    unit = (1).to_bytes(16, "big")
    weight = int.from_bytes(_interpolated({1: bytes(16), 2: bytes(16), 3: unit}), "big")
    known = int.from_bytes(_interpolated({1: one, 2: two, 3: bytes(16)}), "big")
    for wanted in (secret, bytes(16), b"\xff" * 16):
        rest = int.from_bytes(wanted, "big") ^ known
        third = _product(rest, _power(weight, 2**128 - 2)).to_bytes(16, "big")
        assert shamir.combine({1: one, 2: two, 3: third}, 3) == wanted


def test_shares_below_the_threshold_do_not_depend_on_the_secret():
    # Bytes of two of three shares, for two secrets: uniform for both.
    for secret in (bytes(16), b"\xff" * 16):
        pairs = (shamir.split(secret, 3, 3)[:2] for _ in range(400))
        counts = np.bincount(
            np.frombuffer(b"".join(b"".join(pair) for pair in pairs), np.uint8),
            minlength=256,
        )
        expected = 400 * 32 / 256
        chi_square = ((counts - expected) ** 2 / expected).sum()
        # 255 degrees of freedom: above 400 once in 10^7 times.
        assert chi_square < 400


def _reference_mask(spec, key, vector):
    """The mask as masks.py describes it, word by word."""
    stream = ChaCha20.new(key=key, nonce=vector.to_bytes(8, "little"))
    size = spec.word.itemsize
    limit = 2 ** (8 * size) // spec.modulus * spec.modulus
    result = []
    while len(result) < spec.size:
        word = int.from_bytes(stream.encrypt(bytes(size)), "little")
        if word < limit:
            result.append(word % spec.modulus)
    return result


@pytest.mark.parametrize(
    ("dtype", "modulus"),
    [
        ("int32", 2**32),
        ("int64", 2**64),
        ("int64", 2**62),
        ("int64", 2**16),
        ("int64", 2**61 - 1),
        # A word is passed over with probability 1/2 and 1/4, about.
        ("int64", 2**30 + 1),
        ("int64", 2**62 - 2**60),
        ("int64", 2**31 + 1),
        ("int32", 97),
    ],
)
@pytest.mark.parametrize("block", [64, 1 << 18])
def test_masks_against_a_second_implementation(dtype, modulus, block, monkeypatch):
    monkeypatch.setattr(masks, "_BLOCK_BYTES", block)
    monkeypatch.setattr(masks, "_ZEROS", bytes(block))
    spec = VectorSpec((300,), dtype, modulus)
    key = bytes(range(32))
    expected = _reference_mask(spec, key, 5)
    total = np.zeros(spec.size, spec.word)
    masks.apply(total, spec, key, 5, add=True)
    assert total.tolist() == expected
    masks.apply(total, spec, key, 6, add=True)
    other = _reference_mask(spec, key, 6)
    assert total.tolist() == [(a + b) % modulus for a, b in zip(expected, other)]
    masks.apply(total, spec, key, 5, add=False)
    assert total.tolist() == other
    masks.apply(total, spec, key, 5, add=False)
    assert total.tolist() == [(b - a) % modulus for a, b in zip(expected, other)]


def test_a_seal_is_new_each_time_and_bound_to_both_names():
    key = bytes(32)
    one = primitives.seal(key, b"shares", "a", "b")
    assert one != primitives.seal(key, b"shares", "a", "b")
    assert len(one) == primitives.sealed_bytes(6)
    assert primitives.unseal(key, one, "a", "b") == b"shares"
    for key_, sender, recipient in [
        (key, "b", "a"),
        (key, "a", "c"),
        (key, "c", "b"),
        (bytes([1] * 32), "a", "b"),
    ]:
        with pytest.raises(SecureSumError, match="were altered, or sealed for another"):
            primitives.unseal(key_, one, sender, recipient)


@pytest.mark.parametrize(
    ("module", "absent"),
    [("primitives", "cryptography.exceptions"), ("shamir", "Crypto.Protocol")],
)
def test_a_missing_package_is_named(module, absent, monkeypatch):
    name = f"tfl_research.federation.secure_sums.{module}"
    monkeypatch.delitem(sys.modules, name)
    for loaded in [m for m in sys.modules if m.startswith(absent)]:
        monkeypatch.setitem(sys.modules, loaded, None)
    with pytest.raises(
        SecureSumError, match=r"pip install 'tfl_research\[federation\]'"
    ):
        __import__(name)
