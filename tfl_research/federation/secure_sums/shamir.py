"""Shamir's secret sharing of 16 bytes, in GF(2**128), by pycryptodome."""

from __future__ import annotations

from collections.abc import Mapping

from tfl_research.federation.secure_sums.errors import SecureSumError

try:
    from Crypto.Protocol.SecretSharing import Shamir
except ImportError as error:
    raise SecureSumError(
        "secure sums need cryptography and pycryptodome: "
        "pip install 'tfl_research[federation]'"
    ) from error


def split(secret: bytes, threshold: int, count: int) -> list[bytes]:
    """Shares of a secret: any `threshold` of them give it, fewer say nothing.

    Args:
      secret: 16 bytes.
      threshold: how many shares give the secret.
      count: how many shares there are.

    Returns:
      The shares 1 to `count`, of 16 bytes each.
    """
    return [bytes(share) for _, share in Shamir.split(threshold, count, secret)]


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """The secret of `threshold` shares, by their numbers from 1.

    Further shares are left out.

    Raises:
      SecureSumError: there are fewer shares.
    """
    if len(shares) < threshold:
        raise SecureSumError(
            f"a secret needs {threshold} shares, but there are {len(shares)}"
        )
    chosen = sorted(shares.items())[:threshold]
    return bytes(Shamir.combine(chosen))
