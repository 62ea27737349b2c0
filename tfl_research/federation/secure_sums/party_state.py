"""The state that a party keeps between its steps, as bytes."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Optional

from tfl_research.federation.secure_sums.errors import SecureSumError
from tfl_research.federation.secure_sums.terms import SumTerms

_FORMAT = 1


@dataclasses.dataclass
class PartyState:
    """A party's secrets and sent messages; only the owner may read the state.

    Attributes:
      name: the party's name.
      terms: the terms of the sum.
      cipher_private: X25519 key that agrees on the keys of the ciphertexts.
      mask_seed: 16 bytes, from which the X25519 key of the pairwise masks follows.
      self_seed: 16 bytes, from which the party's own mask follows.
      peers: public keys (cipher, mask) of the parties of step "keys", by name.
      sealed: the ciphertexts that the party has sent, by recipient.
      digests: digests of the mask and self share that the party has sealed, by holder.
      held: the mask and self share that the party holds, by owner.
      inputs: keyed digest of the vectors that the party has masked.
      survivors: the parties whose sum this party has helped to open.
      answer: the shares that the party has sent to open that sum, by owner.
    """

    name: str
    terms: SumTerms
    cipher_private: bytes
    mask_seed: bytes
    self_seed: bytes
    peers: dict[str, tuple[bytes, bytes]] = dataclasses.field(default_factory=dict)
    sealed: dict[str, bytes] = dataclasses.field(default_factory=dict)
    digests: dict[str, tuple[bytes, bytes]] = dataclasses.field(default_factory=dict)
    held: dict[str, tuple[bytes, bytes]] = dataclasses.field(default_factory=dict)
    inputs: Optional[bytes] = None
    survivors: Optional[tuple[str, ...]] = None
    answer: dict[str, bytes] = dataclasses.field(default_factory=dict)

    def forget_secrets(self) -> None:
        """Drops all keys, seeds and shares, but keeps the sent messages."""
        self.cipher_private = self.mask_seed = self.self_seed = b""
        self.held = {}
        self.sealed = {}
        self.digests = {}

    def to_bytes(self) -> bytes:
        """The state as JSON in UTF-8, with bytes in hexadecimal digits."""
        content = {
            field.name: _plain(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.name != "terms"
        }
        content["terms"] = self.terms.as_json()
        content["format"] = _FORMAT
        return json.dumps(content).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> PartyState:
        """The reverse of `to_bytes`.

        Raises:
          SecureSumError: the bytes are not such a state, or have a newer format.
        """
        try:
            read = json.loads(content)
            if read["format"] != _FORMAT:
                raise SecureSumError(
                    f"a party's state has format {read['format']!r}; this version "
                    f"reads {_FORMAT}"
                )
            inputs, survivors = read["inputs"], read["survivors"]
            return cls(
                name=read["name"],
                terms=SumTerms.from_json(read["terms"]),
                cipher_private=bytes.fromhex(read["cipher_private"]),
                mask_seed=bytes.fromhex(read["mask_seed"]),
                self_seed=bytes.fromhex(read["self_seed"]),
                peers=_pairs(read["peers"]),
                sealed=_single(read["sealed"]),
                digests=_pairs(read["digests"]),
                held=_pairs(read["held"]),
                inputs=None if inputs is None else bytes.fromhex(inputs),
                survivors=None if survivors is None else tuple(survivors),
                answer=_single(read["answer"]),
            )
        except SecureSumError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
            raise SecureSumError(
                "a party's state cannot be read: the file is damaged, or does not hold "
                "such a state"
            ) from None


def _plain(value: Any) -> Any:
    """A field's value as JSON has it."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value


def _single(value: dict[str, str]) -> dict[str, bytes]:
    return {name: bytes.fromhex(each) for name, each in value.items()}


def _pairs(value: dict[str, list[str]]) -> dict[str, tuple[bytes, bytes]]:
    return {
        name: (bytes.fromhex(first), bytes.fromhex(second))
        for name, (first, second) in value.items()
    }
