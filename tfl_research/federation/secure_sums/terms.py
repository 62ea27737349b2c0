"""The terms on which the parties and the server agree before a secure sum."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from tfl_research.federation.secure_sums.errors import SecureSumError
from tfl_research.federation.secure_sums.vectors import VectorSpec

# In a sum of two parties, each party could compute the other's vector from the sum.
LEAST_PARTIES = 3


def default_threshold(parties: int) -> int:
    """Returns the least allowed threshold: more than half of the parties, at least 3.

    Raises:
      SecureSumError: there are fewer than 3 parties.

    >>> [default_threshold(n) for n in (3, 4, 5, 10, 50)]
    [3, 3, 3, 6, 26]
    """
    if parties < LEAST_PARTIES:
        raise SecureSumError(
            f"a secure sum of {parties} would show a party's vector: it needs at least "
            f"{LEAST_PARTIES} parties, since each of two knows the other's from the sum"
        )
    return max(LEAST_PARTIES, parties // 2 + 1)


def session_of(run: str, number: int, attempt: int) -> bytes:
    """The session of one attempt at one round of a run, as 32 bytes.

    Args:
      run: the run's id.
      number: the round, from 1.
      attempt: number of the sum among the sums begun for this round.
    """
    text = json.dumps(["secure sum", run, int(number), int(attempt)])
    return hashlib.sha256(text.encode()).digest()


@dataclasses.dataclass(frozen=True)
class SumTerms:
    """The terms of one sum. Every key, mask and ciphertext depends on all terms.

    The threshold t is more than half of the n parties. Assume that a server told one
    half of the parties that a party dropped out, and the other half that it survived.
    The server would need t answers from each half for both of the party's secrets. But
    each party answers only once, and 2t > n. If c parties collude with the server, this
    protection needs 2t > n + c.

    Attributes:
      session: bytes that no other sum has, see `session_of`.
      parties: the names of the parties that were asked to take part, in sorted order.
      threshold: number of parties that must be left at each step; with fewer parties,
        the sum is abandoned.
      vectors: the spec of each vector that a party brings.

    Raises:
      SecureSumError: there are fewer than 3 parties, a name occurs twice, or the
        threshold is at most half of the parties, below 3, or above their number.

    Example:
      >>> terms = SumTerms(
      ...     session_of("run", 1, 1), ("a", "b", "c"), 3, (VectorSpec((), "int32", 7),)
      ... )
      >>> SumTerms.from_json(terms.as_json()) == terms
      True
    """

    session: bytes
    parties: tuple[str, ...]
    threshold: int
    vectors: tuple[VectorSpec, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parties", tuple(sorted(self.parties)))
        object.__setattr__(self, "vectors", tuple(self.vectors))
        if not isinstance(self.session, bytes) or not self.session:
            raise SecureSumError(f"session={self.session!r}: expected bytes, not empty")
        if not all(isinstance(name, str) and name for name in self.parties):
            raise SecureSumError(
                f"parties={self.parties}: expected names that are not empty"
            )
        if len(set(self.parties)) < len(self.parties):
            raise SecureSumError(f"parties={self.parties}: each name may occur once")
        least = default_threshold(len(self.parties))
        if not least <= self.threshold <= len(self.parties):
            raise SecureSumError(
                f"threshold={self.threshold}: for {len(self.parties)} parties expected "
                f"{least} to {len(self.parties)}: more than half of them, and at least "
                f"{LEAST_PARTIES}"
            )

    @functools.cached_property
    def digest(self) -> bytes:
        """SHA-256 of the terms, 32 bytes: the salt of every derived key."""
        text = json.dumps(self.as_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(b"secure sum terms 1\n" + text.encode()).digest()

    def index(self, name: str) -> int:
        """A party's place in Shamir's polynomials, from 1."""
        return self.parties.index(name) + 1

    def as_json(self) -> dict[str, Any]:
        """The terms as JSON has them, for a message's header."""
        return {
            "session": self.session.hex(),
            "parties": list(self.parties),
            "threshold": self.threshold,
            "vectors": [spec.as_json() for spec in self.vectors],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SumTerms:
        """The reverse of `as_json`.

        Raises:
          SecureSumError: the object does not have the form that `as_json` gives, or the
            terms are refused.
        """
        try:
            session = bytes.fromhex(value["session"])
            parties = tuple(value["parties"])
            vectors = tuple(value["vectors"])
            threshold = value["threshold"]
        except (KeyError, TypeError, ValueError):
            raise SecureSumError(
                "a sum's terms need session (hexadecimal), parties, threshold and "
                f"vectors, got {value!r}"
            ) from None
        if type(threshold) is not int or not all(type(p) is str for p in parties):
            raise SecureSumError(
                "a threshold must be an int and parties must be names, got "
                f"{threshold!r} and {parties!r}"
            )
        specs = tuple(VectorSpec.from_json(each) for each in vectors)
        return cls(session, parties, threshold, specs)
