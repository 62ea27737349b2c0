"""A party of a secure sum, which answers four messages of the server.

The steps are rounds 0, 1, 2 and 4 of Bonawitz et al. 2017, Figure 4; round 3 belongs to
a server that does not follow the protocol.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence

import numpy as np

from tfl_research.federation.secure_sums import (
    keys,
    masks,
    primitives,
    server_messages,
    shamir,
)
from tfl_research.federation.secure_sums.errors import SecureSumError
from tfl_research.federation.secure_sums.party_state import PartyState
from tfl_research.federation.secure_sums.terms import SumTerms
from tfl_research.federation.secure_sums.wire import (
    Arrays,
    bytes_array,
    names_array,
    rows_array,
)


class Party:
    """One party in one sum.

    After a lost answer or a restart, a step may be requested again with the same
    message, and gives the same answer. A repeated request with another message is
    refused. So no mask covers two vectors, and the party never gives out its shares of
    both secrets of another party.

    Before an answer is sent, write `to_bytes` to a file that only its owner can read;
    `SiteSums` does so.

    Args:
      name: the party's name.
      terms: the terms of the sum.

    Raises:
      SecureSumError: the terms do not name this party.

    Example, for the parties and the collector of one sum:
      >>> for party in parties:
      ...     collector.add_keys(party.name, party.keys())
      >>> key_list = collector.key_list()
      >>> for party in parties:
      ...     collector.add_shares(party.name, party.shares(key_list))
      >>> incoming = collector.shares()
      >>> for party in parties:
      ...     answer = party.masked(incoming[party.name], vectors[party.name])
      ...     collector.add_masked(party.name, answer)
      >>> survivors = collector.survivors()
      >>> for party in parties:
      ...     collector.add_unmask(party.name, party.unmask(survivors))
      >>> sums = collector.sums()
    """

    def __init__(self, name: str, terms: SumTerms):
        if name not in terms.parties:
            raise SecureSumError(
                f"{name} is not among the parties of this sum: "
                f"{', '.join(terms.parties)}"
            )
        self._state = PartyState(
            name=name,
            terms=terms,
            cipher_private=primitives.random_bytes(primitives.KEY_BYTES),
            mask_seed=primitives.random_bytes(primitives.SEED_BYTES),
            self_seed=primitives.random_bytes(primitives.SEED_BYTES),
        )

    @property
    def name(self) -> str:
        """The party's name."""
        return self._state.name

    @property
    def terms(self) -> SumTerms:
        """The terms of the sum: session, parties, threshold and specs of vectors."""
        return self._state.terms

    @property
    def opened(self) -> bool:
        """Whether the party has helped to open the sum, and so has no secrets left."""
        return self._state.survivors is not None

    @property
    def survivors(self) -> tuple[str, ...]:
        """The parties for whom this party has opened the sum; empty before."""
        return self._state.survivors or ()

    def to_bytes(self) -> bytes:
        """The party with its secrets, for a file that only its owner can read."""
        return self._state.to_bytes()

    @classmethod
    def from_bytes(cls, content: bytes) -> Party:
        """The reverse of `to_bytes`.

        Raises:
          SecureSumError: the bytes are not the state of a party.
        """
        party = cls.__new__(cls)
        party._state = PartyState.from_bytes(content)
        return party

    def keys(self) -> Arrays:
        """Step "keys": the party's two public keys."""
        self._check_secrets("keys")
        cipher, mask = self._public_keys()
        return self._message(cipher_key=bytes_array(cipher), mask_key=bytes_array(mask))

    def shares(self, key_list: Mapping[str, np.ndarray]) -> Arrays:
        """Step "shares": shares of both secrets, encrypted for each other party.

        Args:
          key_list: the result of `Collector.key_list`: names and public keys.

        Raises:
          SumAbandonedError: the list has fewer parties than the threshold.
          SecureSumError: the list does not have this party's keys, has a key twice, or
            differs from the list that the party has answered.
        """
        state = self._state
        self._check_secrets("shares")
        peers = server_messages.read_key_list(
            key_list, self.terms, self.name, self._public_keys()
        )
        if state.peers and state.peers != peers:
            raise SecureSumError(
                f"{self.name} has sent shares for another list of keys of this sum"
            )
        if not state.peers:
            self._split(peers)
        recipients = sorted(state.sealed)
        holders = sorted(state.digests)
        length = primitives.sealed_bytes(2 * primitives.SEED_BYTES)
        digests = [part for name in holders for part in state.digests[name]]
        return self._message(
            recipients=names_array(recipients),
            ciphertexts=rows_array([state.sealed[name] for name in recipients], length),
            holders=names_array(holders),
            digests=rows_array(digests, primitives.SHARE_DIGEST_BYTES).reshape(
                len(holders), 2, primitives.SHARE_DIGEST_BYTES
            ),
        )

    def masked(
        self, incoming: Mapping[str, np.ndarray], vectors: Sequence[np.ndarray]
    ) -> Arrays:
        """Step "masked": the party's vectors under its masks.

        Args:
          incoming: the result of `Collector.shares` for this party: ciphertexts.
          vectors: arrays as the terms describe them, in the order of the terms.

        Raises:
          SumAbandonedError: fewer parties than the threshold have sent shares.
          SecureSumError: a ciphertext was altered (the line names its sender), a vector
            does not fit the terms, or the party has masked other vectors before.
        """
        state = self._state
        self._check_secrets("masked")
        if not state.peers:
            raise SecureSumError(
                f"{self.name} has sent no shares yet: nothing to mask with"
            )
        specs = self.terms.vectors
        if len(vectors) != len(specs):
            raise SecureSumError(
                f"{self.name} has {len(vectors)} vectors to mask; the sum has "
                f"{len(specs)}"
            )
        totals = [spec.residues(each) for spec, each in zip(specs, vectors)]
        inputs = hmac.new(state.self_seed, digestmod=hashlib.sha256)
        for total in totals:
            inputs.update(total.tobytes())
        held = server_messages.read_shares(incoming, state)
        if state.inputs is not None:
            if not hmac.compare_digest(state.inputs, inputs.digest()):
                raise SecureSumError(
                    f"{self.name} has masked other vectors in this sum: no mask is "
                    "used twice"
                )
            if state.held != held:
                raise SecureSumError(
                    f"{self.name} has masked its vectors for other parties in this "
                    "sum: no mask is used twice"
                )
        self._mask(totals, held)
        state.held, state.inputs = held, inputs.digest()
        return self._message(
            **{
                f"vector/{place}": total.astype(spec.wire, copy=False)
                for place, (spec, total) in enumerate(zip(specs, totals))
            }
        )

    def unmask(self, survivors: Mapping[str, np.ndarray]) -> Arrays:
        """Step "unmask": shares of the survivors' own masks and of the others' keys.

        For each party, the answer has only one of the two shares. This party then drops
        its secrets.

        Args:
          survivors: the result of `Collector.survivors`: the names of the parties whose
            masked vectors are in the sum.

        Raises:
          SumAbandonedError: there are fewer survivors than the threshold.
          SecureSumError: the survivors are not among those who sent shares, this party
            is not among them, or the party has opened the sum for other survivors.
        """
        state = self._state
        names = server_messages.read_survivors(survivors, state)
        if state.survivors is None:
            self._open(names)
        owners = sorted(state.answer)
        shares = [state.answer[owner] for owner in owners]
        return self._message(
            owners=names_array(owners),
            shares=rows_array(shares, primitives.SEED_BYTES),
        )

    def _message(self, **arrays: np.ndarray) -> Arrays:
        return {"terms": bytes_array(self.terms.digest), **arrays}

    def _public_keys(self) -> tuple[bytes, bytes]:
        """The public keys of the ciphertexts and of the masks."""
        mask = keys.mask_private(self._state.mask_seed, self.terms, self.name)
        return (
            primitives.public_key(self._state.cipher_private),
            primitives.public_key(mask),
        )

    def _check_secrets(self, step: str) -> None:
        if self.opened:
            raise SecureSumError(
                f"{self.name} has opened this sum and dropped its keys: step {step!r} "
                "is over"
            )

    def _split(self, peers: dict[str, tuple[bytes, bytes]]) -> None:
        """Shares both secrets among the parties that have sent keys."""
        state, terms = self._state, self.terms
        count = len(terms.parties)
        mask_shares = shamir.split(state.mask_seed, terms.threshold, count)
        self_shares = shamir.split(state.self_seed, terms.threshold, count)
        sealed: dict[str, bytes] = {}
        digests: dict[str, tuple[bytes, bytes]] = {}
        for other, (cipher, _) in peers.items():
            place = terms.index(other) - 1
            mine = mask_shares[place], self_shares[place]
            digests[other] = (
                primitives.share_digest(
                    terms.digest, "mask", self.name, other, mine[0]
                ),
                primitives.share_digest(
                    terms.digest, "self", self.name, other, mine[1]
                ),
            )
            if other == self.name:
                state.held = {self.name: mine}
            else:
                key = keys.share_cipher(
                    state.cipher_private, cipher, terms, (self.name, other), other
                )
                sealed[other] = primitives.seal(key, b"".join(mine), self.name, other)
        state.peers, state.sealed, state.digests = peers, sealed, digests

    def _mask(self, totals: Sequence[np.ndarray], others: Mapping[str, object]) -> None:
        """Adds the own mask and the masks shared with each other party, in place."""
        state, terms = self._state, self.terms
        private = keys.mask_private(state.mask_seed, terms, self.name)
        chosen = [(keys.self_mask(state.self_seed, terms, self.name), True)]
        for other in others:
            if other != self.name:
                public = state.peers[other][1]
                key = keys.pair_mask(private, public, terms, self.name, other)
                chosen.append((key, keys.adds_pair_mask(self.name, other)))
        for place, (spec, total) in enumerate(zip(terms.vectors, totals)):
            for key, add in chosen:
                masks.apply(total, spec, key, place, add=add)

    def _open(self, survivors: tuple[str, ...]) -> None:
        """Chooses the shares to give out, one for each party, and drops the secrets."""
        state = self._state
        state.answer = {
            owner: self_share if owner in survivors else mask_share
            for owner, (mask_share, self_share) in state.held.items()
        }
        state.survivors = survivors
        state.forget_secrets()
