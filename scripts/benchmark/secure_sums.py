"""Secure sums against plain sums: bytes and seconds, by parties and integers."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfl_research.federation.secure_sums import (
    Collector,
    Party,
    SumTerms,
    VectorSpec,
    default_threshold,
    session_of,
)
from tfl_research.federation.wire.messages import Message, encode

PARTIES = (3, 10, 50)
SIZES = (1_000, 100_000, 1_000_000)
# Sums of int32 that wrap around.
_DTYPE, _MODULUS = "int32", 2**32


class _Clock:
    """Seconds and bytes of the parties together, and of the server."""

    def __init__(self) -> None:
        self.seconds = {"party": 0.0, "server": 0.0}
        self.sent = 0
        self.received = 0

    def run(self, who: str, step: Any, *arguments: Any) -> Any:
        """A step's result; its seconds count for the parties or the server."""
        started = time.perf_counter()
        result = step(*arguments)
        self.seconds[who] += time.perf_counter() - started
        return result


def _size(kind: str, header: Mapping[str, Any], arrays: Mapping[str, Any]) -> int:
    """Bytes of a message as the federation writes it."""
    return len(encode(Message(kind, header, arrays)))


def _vector(place: int, size: int) -> np.ndarray:
    bounds = np.iinfo(np.int32)
    generator = np.random.default_rng(place)
    return generator.integers(bounds.min, bounds.max, size, np.int32, endpoint=True)


def measure(count: int, size: int, lost: int) -> dict[str, Any]:
    """One secure sum, and the plain sum of the same vectors.

    Args:
      count: the parties.
      size: the integers of each party's vector, int32.
      lost: how many parties drop out before they send their vector.

    Returns:
      `parties`, `integers`, `lost`, `threshold`; bytes that a party which stays sends
      and receives (`sent_bytes`, `received_bytes`) and that it sends for a plain sum
      (`plain_sent_bytes`); seconds of such a party (`party_seconds`, the mean), of the
      server (`server_seconds`) and of a plain sum at the server (`plain_seconds`).

    Raises:
      RuntimeError: the two sums differ.
    """
    names = [f"site-{place:02d}" for place in range(count)]
    spec = VectorSpec((size,), _DTYPE, _MODULUS)
    threshold = default_threshold(count)
    terms = SumTerms(session_of("bench", 1, 1), tuple(names), threshold, (spec,))
    collector, clock = Collector(terms), _Clock()
    parties = {name: Party(name, terms) for name in names}
    staying = names[lost:]

    def add(step: Any, kind: str, name: str, answer: Mapping[str, Any]) -> None:
        if name in staying:
            clock.sent += _size(kind, {}, answer)
        clock.run("server", step, name, answer)

    clock.received += len(staying) * _size("secure_keys", terms.as_json(), {})
    for name, party in parties.items():
        add(collector.add_keys, "secure_keys", name, clock.run("party", party.keys))
    key_list = clock.run("server", collector.key_list)
    clock.received += len(staying) * _size("secure_shares", {}, key_list)
    for name, party in parties.items():
        answer = clock.run("party", party.shares, key_list)
        add(collector.add_shares, "secure_shares", name, answer)
    incoming = clock.run("server", collector.shares)
    # Parties that drop out have done a part of their work. The mean is over the others.
    begun = clock.seconds["party"] / count
    clock.seconds["party"] = 0.0
    plain_seconds, plain_bytes = 0.0, 0
    plain = np.zeros(size, _DTYPE)
    for place, name in enumerate(staying):
        vector = _vector(place, size)
        clock.received += _size("secure_masked", {}, incoming[name])
        answer = clock.run("party", parties[name].masked, incoming[name], [vector])
        add(collector.add_masked, "secure_masked", name, answer)
        plain_bytes += _size("round", {}, {"vector/0": vector})
        started = time.perf_counter()
        plain += vector
        plain_seconds += time.perf_counter() - started
    survivors = clock.run("server", collector.survivors)
    for name in staying:
        clock.received += _size("secure_unmask", {}, survivors)
        answer = clock.run("party", parties[name].unmask, survivors)
        add(collector.add_unmask, "secure_unmask", name, answer)
    (total,) = clock.run("server", collector.sums)
    if not np.array_equal(total, plain):
        raise RuntimeError(f"the secure sum of {count} parties is not the plain sum")
    return {
        "parties": count,
        "integers": size,
        "lost": lost,
        "threshold": threshold,
        "sent_bytes": round(clock.sent / len(staying)),
        "received_bytes": round(clock.received / len(staying)),
        "plain_sent_bytes": round(plain_bytes / len(staying)),
        "party_seconds": begun + clock.seconds["party"] / len(staying),
        "server_seconds": clock.seconds["server"],
        "plain_seconds": plain_seconds,
    }


def run() -> list[dict[str, Any]]:
    """Sums by parties and integers, without drop-outs and with all that may be."""
    result = []
    for count, size in itertools.product(PARTIES, SIZES):
        for lost in sorted({0, count - default_threshold(count)}):
            print(
                f"secure sums: {count} parties, {size} integers, {lost} drop out",
                file=sys.stderr,
                flush=True,
            )
            result.append(measure(count, size, lost))
    return result
