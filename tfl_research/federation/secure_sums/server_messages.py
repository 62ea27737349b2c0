"""Reads the server's messages for a party, and refuses messages that do not fit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tfl_research.federation.secure_sums import keys, primitives
from tfl_research.federation.secure_sums.errors import SumAbandonedError
from tfl_research.federation.secure_sums.party_state import PartyState
from tfl_research.federation.secure_sums.terms import SumTerms
from tfl_research.federation.secure_sums.wire import Reader

_SERVER = "the coordinator"


def check_enough(terms: SumTerms, count: int, what: str) -> None:
    """Abandons the sum if fewer parties than the threshold have done something.

    Raises:
      SumAbandonedError: there are fewer parties than the threshold.
    """
    if count < terms.threshold:
        raise SumAbandonedError(
            f"the sum is abandoned: {count} of {len(terms.parties)} parties {what}, "
            f"fewer than the threshold of {terms.threshold}"
        )


def read_key_list(
    message: Mapping[str, np.ndarray],
    terms: SumTerms,
    name: str,
    own: tuple[bytes, bytes],
) -> dict[str, tuple[bytes, bytes]]:
    """The public keys (cipher, mask) of each party that has sent keys.

    Args:
      message: the result of `Collector.key_list`.
      terms: the sum's terms.
      name: the name of the reading party.
      own: the reading party's own public keys.

    Raises:
      SumAbandonedError: the parties are fewer than the threshold.
      SecureSumError: the party's own keys are missing or differ, or a key occurs twice.
    """
    reader = Reader(message, _SERVER, terms)
    names = reader.names("parties")
    check_enough(terms, len(names), "have sent keys")
    ciphers = reader.rows("cipher_keys", len(names), primitives.KEY_BYTES)
    mask_keys = reader.rows("mask_keys", len(names), primitives.KEY_BYTES)
    peers = dict(zip(names, zip(ciphers, mask_keys)))
    if peers.get(name) != own:
        raise reader.error(f"has other keys of {name} than {name} has sent")
    if len({*ciphers, *mask_keys}) < 2 * len(names):
        raise reader.error("has a public key twice")
    return peers


def read_shares(
    message: Mapping[str, np.ndarray], state: PartyState
) -> dict[str, tuple[bytes, bytes]]:
    """Reads the shares (mask, self) that a party holds, including its own, by owner.

    Args:
      message: the result of `Collector.shares` for the party.
      state: the party's state.

    Raises:
      SumAbandonedError: fewer parties than the threshold sent shares.
      SecureSumError: a sender takes no part in the sum, or its ciphertext was altered.
    """
    terms, name = state.terms, state.name
    reader = Reader(message, _SERVER, terms)
    senders = reader.names("senders")
    foreign = [n for n in senders if n not in state.peers or n == name]
    if foreign:
        raise reader.error(
            f"has shares of {foreign[0]}, which takes no part in this sum"
        )
    check_enough(terms, len(senders) + 1, "have sent shares")
    length = primitives.sealed_bytes(2 * primitives.SEED_BYTES)
    held = {name: state.held[name]}
    for sender, sealed in zip(
        senders, reader.rows("ciphertexts", len(senders), length)
    ):
        public = state.peers[sender][0]
        direction = (sender, name)
        key = keys.share_cipher(state.cipher_private, public, terms, direction, sender)
        plain = primitives.unseal(key, sealed, sender, name)
        half = primitives.SEED_BYTES
        held[sender] = (plain[:half], plain[half:])
    return held


def read_survivors(
    message: Mapping[str, np.ndarray], state: PartyState
) -> tuple[str, ...]:
    """The parties for whom a party is asked to open the sum, in sorted order.

    Args:
      message: the result of `Collector.survivors`.
      state: the party's state.

    Raises:
      SumAbandonedError: the survivors are fewer than the threshold.
      SecureSumError: the party has sent no vector, is not a survivor, has opened the
        sum for others, or a survivor has sent no shares.
    """
    terms, name = state.terms, state.name
    reader = Reader(message, _SERVER, terms)
    survivors = tuple(sorted(reader.names("survivors")))
    if state.survivors is not None:
        if state.survivors != survivors:
            raise reader.error(
                f"names other survivors than those for whom {name} has opened the "
                "sum: both sums together would show a vector"
            )
        return survivors
    if state.inputs is None:
        raise reader.error(f"asks {name} to open a sum to which it has sent no vector")
    foreign = [other for other in survivors if other not in state.held]
    if foreign:
        raise reader.error(f"names the survivor {foreign[0]}, which sent no shares")
    if name not in survivors:
        raise reader.error(f"leaves out {name}, which has sent its vector")
    check_enough(terms, len(survivors), "have sent a masked vector")
    return survivors
