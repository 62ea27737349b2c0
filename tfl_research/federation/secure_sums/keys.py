"""Makes the keys of one sum: for masks, and for ciphertexts between two parties."""

from __future__ import annotations

from tfl_research.federation.secure_sums import primitives
from tfl_research.federation.secure_sums.terms import SumTerms


def mask_private(seed: bytes, terms: SumTerms, name: str) -> bytes:
    """The X25519 private key of a party's pairwise masks, from its seed.

    The parties share the seed of 16 bytes instead of the key of 32 bytes. The seed is
    one secret of Shamir's scheme, and as strong as X25519.
    """
    return primitives.derive(seed, terms.digest, "mask key", name)


def pair_mask(
    private: bytes, public: bytes, terms: SumTerms, one: str, other: str
) -> bytes:
    """The key of the mask that two parties share; the same for both.

    Args:
      private: the private mask key of `one`.
      public: the public mask key of `other`.
      terms: the sum's terms.
      one: a name.
      other: another name.

    Raises:
      SecureSumError: the public key is of low order.
    """
    secret = primitives.agree(private, public, other)
    return primitives.derive(secret, terms.digest, "pair mask", *sorted((one, other)))


def adds_pair_mask(name: str, other: str) -> bool:
    """Whether `name` adds the mask that it shares with `other`, which subtracts it."""
    return name > other


def self_mask(seed: bytes, terms: SumTerms, name: str) -> bytes:
    """The key of a party's own mask, from its seed."""
    return primitives.derive(seed, terms.digest, "self mask", name)


def share_cipher(
    private: bytes, public: bytes, terms: SumTerms, direction: tuple[str, str], of: str
) -> bytes:
    """The key of the ciphertext from one party to another.

    Args:
      private: a party's private cipher key.
      public: the other party's public cipher key.
      terms: the sum's terms.
      direction: the names of sender and recipient.
      of: the name of the public key's owner.

    Raises:
      SecureSumError: the public key is of low order.
    """
    secret = primitives.agree(private, public, of)
    return primitives.derive(secret, terms.digest, "shares", *direction)
