"""The server of a secure sum, which collects each step and sees only the total."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from tfl_research.federation.secure_sums import keys, masks, primitives, shamir
from tfl_research.federation.secure_sums.errors import SecureSumError
from tfl_research.federation.secure_sums.server_messages import check_enough
from tfl_research.federation.secure_sums.terms import SumTerms
from tfl_research.federation.secure_sums.wire import (
    Arrays,
    Reader,
    bytes_array,
    names_array,
    rows_array,
)

_STEPS = ("keys", "shares", "masked", "unmask")


class Collector:
    """Collects the steps of one sum and opens it.

    Each step has an `add_...` method for a party's answer, and a method that closes the
    step and returns the next message. A party that has not answered before the step is
    closed has dropped out, and its late answer is refused. Masked vectors are added up
    as they come, and no vector is kept.

    Args:
      terms: the terms of the sum.

    Example: see `Party`.
    """

    def __init__(self, terms: SumTerms):
        self.terms = terms
        self._step = 0
        self._keys: dict[str, tuple[bytes, bytes]] = {}
        self._sealed: dict[str, dict[str, bytes]] = {}
        self._digests: dict[str, dict[str, tuple[bytes, bytes]]] = {}
        self._summed: list[str] = []
        self._totals = [np.zeros(spec.size, spec.word) for spec in terms.vectors]
        self._answers: dict[str, dict[str, bytes]] = {}

    @property
    def answered(self) -> dict[str, tuple[str, ...]]:
        """The parties that answered each step, sorted, by step: "keys", ..."""
        answers: tuple[Iterable[str], ...] = (
            self._keys,
            self._sealed,
            self._summed,
            self._answers,
        )
        return {step: tuple(sorted(names)) for step, names in zip(_STEPS, answers)}

    @property
    def dropped(self) -> dict[str, tuple[str, ...]]:
        """The parties that dropped out, for each step that is closed."""
        before: tuple[str, ...] = self.terms.parties
        result = {}
        for step, names in list(self.answered.items())[: self._step]:
            result[step] = tuple(name for name in before if name not in names)
            before = names
        return result

    def add_keys(self, name: str, message: Mapping[str, np.ndarray]) -> None:
        """Takes a party's answer to step "keys".

        Raises:
          SecureSumError: the answer does not fit, comes twice or comes late.
        """
        reader = self._reader(0, name, message, self.terms.parties)
        pair = (
            reader.row("cipher_key", primitives.KEY_BYTES),
            reader.row("mask_key", primitives.KEY_BYTES),
        )
        known = {key for each in self._keys.values() for key in each}
        if pair[0] == pair[1] or known.intersection(pair):
            raise reader.error("has a public key that was sent before")
        self._keys[name] = pair

    def key_list(self) -> Arrays:
        """Closes step "keys"; returns the message for every party that has sent keys.

        Raises:
          SumAbandonedError: fewer parties than the threshold have sent keys.
        """
        self._close(0, len(self._keys), "have sent keys")
        names = sorted(self._keys)
        ciphers = [self._keys[name][0] for name in names]
        mask_keys = [self._keys[name][1] for name in names]
        return self._message(
            parties=names_array(names),
            cipher_keys=rows_array(ciphers, primitives.KEY_BYTES),
            mask_keys=rows_array(mask_keys, primitives.KEY_BYTES),
        )

    def add_shares(self, name: str, message: Mapping[str, np.ndarray]) -> None:
        """Takes a party's answer to step "shares".

        Raises:
          SecureSumError: the answer does not fit, comes twice or comes late.
        """
        reader = self._reader(1, name, message, self._keys)
        recipients, holders = reader.names("recipients"), reader.names("holders")
        if {*recipients, name} != set(self._keys) or name in recipients:
            raise reader.error("must have one ciphertext for each other party")
        if set(holders) != set(self._keys):
            raise reader.error("must have the digest of one share for each party")
        length = primitives.sealed_bytes(2 * primitives.SEED_BYTES)
        rows = reader.rows("ciphertexts", len(recipients), length)
        size = primitives.SHARE_DIGEST_BYTES
        digests = reader.array("digests", np.uint8, (len(holders), 2, size))
        self._sealed[name] = dict(zip(recipients, rows))
        self._digests[name] = {
            holder: (pair[0].tobytes(), pair[1].tobytes())
            for holder, pair in zip(holders, digests)
        }

    def shares(self) -> dict[str, Arrays]:
        """Closes step "shares"; returns a message for each party that sent shares.

        Raises:
          SumAbandonedError: fewer parties than the threshold have sent shares.
        """
        self._close(1, len(self._sealed), "have sent shares")
        length = primitives.sealed_bytes(2 * primitives.SEED_BYTES)
        result = {}
        for name in sorted(self._sealed):
            senders = [other for other in sorted(self._sealed) if other != name]
            rows = [self._sealed[sender][name] for sender in senders]
            result[name] = self._message(
                senders=names_array(senders), ciphertexts=rows_array(rows, length)
            )
        return result

    def add_masked(self, name: str, message: Mapping[str, np.ndarray]) -> None:
        """Takes a party's answer to step "masked" and adds it to the total.

        Raises:
          SecureSumError: the answer does not fit, comes twice or comes late.
        """
        reader = self._reader(2, name, message, self._sealed)
        if name in self._summed:
            raise reader.error("came already")
        arrays = []
        for place, spec in enumerate(self.terms.vectors):
            key = f"vector/{place}"
            array = reader.array(key, spec.wire, (spec.size,))
            if array.size and int(array.max()) >= spec.modulus:
                raise reader.error(
                    f"has {key!r} with a residue of {spec.modulus} or more"
                )
            arrays.append(array)
        for spec, total, array in zip(self.terms.vectors, self._totals, arrays):
            spec.add(total, array.astype(spec.word, copy=False))
        self._summed.append(name)

    def survivors(self) -> Arrays:
        """Closes step "masked"; returns the message for the parties in the total.

        Raises:
          SumAbandonedError: the total has fewer parties than the threshold.
        """
        self._close(2, len(self._summed), "have sent a masked vector")
        return self._message(survivors=names_array(sorted(self._summed)))

    def add_unmask(self, name: str, message: Mapping[str, np.ndarray]) -> None:
        """Takes a party's answer to step "unmask".

        Raises:
          SecureSumError: the answer does not fit, comes twice or comes late, or a share
            is not the share that its owner sealed for the party.
        """
        reader = self._reader(3, name, message, self._summed)
        owners = reader.names("owners")
        if set(owners) != set(self._sealed):
            raise reader.error("must have one share of each party")
        rows = reader.rows("shares", len(owners), primitives.SEED_BYTES)
        answer = dict(zip(owners, rows))
        for owner, share in answer.items():
            kind = "self" if owner in self._summed else "mask"
            digest = primitives.share_digest(
                self.terms.digest, kind, owner, name, share
            )
            if digest != self._digests[owner][name][kind == "self"]:
                raise reader.error(
                    f"has an altered share: it is not the share that {owner} sealed "
                    f"for {name}"
                )
        self._answers[name] = answer

    def sums(self) -> list[np.ndarray]:
        """Closes step "unmask"; returns the sums of the survivors' vectors.

        Raises:
          SumAbandonedError: fewer parties than the threshold have answered.
          SecureSumError: shares do not give a key that its owner has published.
        """
        self._close(3, len(self._answers), "have sent shares to open the sum")
        for owner in sorted(self._sealed):
            secret = self._secret(owner)
            if owner in self._summed:
                self._change(keys.self_mask(secret, self.terms, owner), add=False)
            else:
                self._remove_pairs(owner, secret)
        pairs = zip(self.terms.vectors, self._totals)
        return [spec.values(total) for spec, total in pairs]

    def _secret(self, owner: str) -> bytes:
        """The seed that the parties' shares give."""
        shares = {
            self.terms.index(holder): answer[owner]
            for holder, answer in self._answers.items()
        }
        return shamir.combine(shares, self.terms.threshold)

    def _remove_pairs(self, lost: str, seed: bytes) -> None:
        """Removes the masks that survivors share with a party that dropped out."""
        private = keys.mask_private(seed, self.terms, lost)
        if primitives.public_key(private) != self._keys[lost][1]:
            raise SecureSumError(
                f"the shares of {lost}'s mask key do not give the key that {lost} has "
                "published: the sum cannot be opened"
            )
        for name in self._summed:
            key = keys.pair_mask(private, self._keys[name][1], self.terms, lost, name)
            self._change(key, add=not keys.adds_pair_mask(name, lost))

    def _change(self, key: bytes, *, add: bool) -> None:
        """Adds a key's masks to the totals, or subtracts them."""
        pairs = zip(self.terms.vectors, self._totals)
        for place, (spec, total) in enumerate(pairs):
            masks.apply(total, spec, key, place, add=add)

    def _message(self, **arrays: np.ndarray) -> Arrays:
        return {"terms": bytes_array(self.terms.digest), **arrays}

    def _reader(
        self,
        step: int,
        name: str,
        message: Mapping[str, np.ndarray],
        expected: Iterable[str],
    ) -> Reader:
        """Reads an answer to the step that is open, of a party that may answer."""
        reader = Reader(message, name, self.terms)
        if step != self._step:
            now = _STEPS[self._step] if self._step < len(_STEPS) else "none"
            raise reader.error(
                f"answers step {_STEPS[step]!r}, but the open step is {now!r}"
            )
        if name not in expected:
            raise reader.error(f"was not asked for: {name} takes no part in this step")
        if name in self.answered[_STEPS[step]]:
            raise reader.error(f"is a second answer to step {_STEPS[step]!r}")
        return reader

    def _close(self, step: int, count: int, what: str) -> None:
        if step != self._step:
            raise SecureSumError(
                f"step {_STEPS[step]!r} is not the open step of the sum"
            )
        check_enough(self.terms, count, what)
        self._step += 1
