"""Key agreement (X25519), key derivation (HKDF) and encryption of shares."""

from __future__ import annotations

import hashlib
import os

from tfl_research.federation.secure_sums.errors import SecureSumError

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric.x25519 import (
        X25519PrivateKey,
        X25519PublicKey,
    )
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
except ImportError as error:
    raise SecureSumError(
        "secure sums need cryptography and pycryptodome: "
        "pip install 'tfl_research[federation]'"
    ) from error

# 16 bytes are as strong as X25519, and one secret of pycryptodome's Shamir scheme.
SEED_BYTES = 16
KEY_BYTES = 32
SHARE_DIGEST_BYTES = 16
_NONCE_BYTES = 12
_TAG_BYTES = 16


def sealed_bytes(plain: int) -> int:
    """The length of `seal`'s result for a message of this length."""
    return _NONCE_BYTES + plain + _TAG_BYTES


def random_bytes(count: int) -> bytes:
    """Bytes from the operating system's generator."""
    return os.urandom(count)


def _joined(*parts: bytes) -> bytes:
    """Joins the parts with their lengths, so that different lists give other bytes."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def derive(secret: bytes, salt: bytes, purpose: str, *names: str) -> bytes:
    """A key of 32 bytes for one purpose: HKDF with SHA-256 (RFC 5869).

    Args:
      secret: the input key material.
      salt: the digest of the sum's terms.
      purpose: the purpose of the key.
      names: the names of the key's owners.
    """
    info = _joined(purpose.encode(), *(name.encode() for name in names))
    return HKDF(SHA256(), KEY_BYTES, salt, info).derive(secret)


def public_key(private: bytes) -> bytes:
    """The X25519 public key of a private key, 32 bytes both."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agree(private: bytes, public: bytes, owner: str) -> bytes:
    """The X25519 shared secret of a private key and the public key of `owner`.

    Raises:
      SecureSumError: the public key is of low order, so anyone would know the secret.
    """
    peer = X25519PublicKey.from_public_bytes(public)
    try:
        return X25519PrivateKey.from_private_bytes(private).exchange(peer)
    except ValueError:
        raise SecureSumError(
            f"{owner}'s public key is of low order, so everyone would know the secret "
            "that both agree on"
        ) from None


def seal(key: bytes, plain: bytes, sender: str, recipient: str) -> bytes:
    """Encrypts from one party to another: nonce, ciphertext and tag.

    ChaCha20-Poly1305 (RFC 8439) with both names as associated data.
    """
    nonce = random_bytes(_NONCE_BYTES)
    names = _joined(sender.encode(), recipient.encode())
    return nonce + ChaCha20Poly1305(key).encrypt(nonce, plain, names)


def unseal(key: bytes, sealed: bytes, sender: str, recipient: str) -> bytes:
    """The reverse of `seal`.

    Raises:
      SecureSumError: the bytes were altered, or sealed for other terms, by another
        sender or for another recipient.
    """
    names = _joined(sender.encode(), recipient.encode())
    nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
    try:
        return ChaCha20Poly1305(key).decrypt(nonce, rest, names)
    except InvalidTag:
        raise SecureSumError(
            f"{sender}'s shares for {recipient} were altered, or sealed for another "
            "recipient or sum"
        ) from None


def share_digest(
    salt: bytes, kind: str, owner: str, holder: str, share: bytes
) -> bytes:
    """The digest by which the server notices an altered share.

    A share has 128 uniform bits, so that a digest does not give the share away.
    """
    names = (kind.encode(), owner.encode(), holder.encode())
    text = _joined(b"share", salt, *names, share)
    return hashlib.sha256(text).digest()[:SHARE_DIGEST_BYTES]
